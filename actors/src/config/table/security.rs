//! Broker keys of TLS, SASL and authorization.

use super::super::key::{Check, ConfigKey, keys};

pub(super) const SECURITY: &[ConfigKey] = keys! {
    /// The class that decides who may do what.
    "authorizer.class.name" String = "", Check::Any, ReadOnly, Ignored;
    /// How long a connection stays open after its credentials were refused.
    "connection.failed.authentication.delay.ms" Int = "100", Check::Min(0), ReadOnly, Ignored;
    /// How often expired delegation tokens are removed.
    "delegation.token.expiry.check.interval.ms" Long = "3600000", Check::Min(1), ReadOnly, Ignored;
    /// How long a delegation token is valid before it must be renewed.
    "delegation.token.expiry.time.ms" Long = "86400000", Check::Min(1), ReadOnly, Ignored;
    /// The older name of delegation.token.secret.key.
    "delegation.token.master.key" Password = null, Check::Any, ReadOnly, Ignored;
    /// After how long a delegation token cannot be renewed any more.
    "delegation.token.max.lifetime.ms" Long = "604800000", Check::Min(1), ReadOnly, Ignored;
    /// The secret with which delegation tokens are made; the same on every broker.
    "delegation.token.secret.key" Password = null, Check::Any, ReadOnly, Ignored;
    /// The cipher for secrets in dynamic configuration.
    "password.encoder.cipher.algorithm" String = "AES/CBC/PKCS5Padding", Check::Any, ReadOnly, Ignored;
    /// How many iterations derive the key for secrets in dynamic configuration.
    "password.encoder.iterations" Int = "4096", Check::Min(1024), ReadOnly, Ignored;
    /// The length of the key for secrets in dynamic configuration.
    "password.encoder.key.length" Int = "128", Check::Min(8), ReadOnly, Ignored;
    /// What derives the key for secrets in dynamic configuration.
    "password.encoder.keyfactory.algorithm" String = null, Check::Any, ReadOnly, Ignored;
    /// The former password.encoder.secret, while it is being changed.
    "password.encoder.old.secret" Password = null, Check::Any, ReadOnly, Ignored;
    /// The secret that encrypts secrets in dynamic configuration.
    "password.encoder.secret" Password = null, Check::Any, ReadOnly, Ignored;
    /// The class that names the user behind a connection.
    "principal.builder.class" Class = "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", Check::Any, PerBroker, Ignored;
    /// The class that answers SASL's questions for the broker as a client.
    "sasl.client.callback.handler.class" Class = null, Check::Any, ReadOnly, Ignored;
    /// The SASL mechanisms that clients may use.
    "sasl.enabled.mechanisms" List = "GSSAPI", Check::Any, PerBroker, Ignored;
    /// Credentials for SASL, in the format of JAAS files.
    "sasl.jaas.config" Password = null, Check::Any, PerBroker, Ignored;
    /// The path of Kerberos' kinit.
    "sasl.kerberos.kinit.cmd" String = "/usr/bin/kinit", Check::Any, PerBroker, Ignored;
    /// How long to wait between refreshes of a Kerberos ticket.
    "sasl.kerberos.min.time.before.relogin" Long = "60000", Check::Any, PerBroker, Ignored;
    /// Rules from Kerberos principals to user names.
    "sasl.kerberos.principal.to.local.rules" List = "DEFAULT", Check::Any, PerBroker, Ignored;
    /// The Kerberos name under which brokers run.
    "sasl.kerberos.service.name" String = null, Check::Any, PerBroker, Ignored;
    /// How much the time of renewing a Kerberos ticket varies.
    "sasl.kerberos.ticket.renew.jitter" Double = "0.05", Check::Any, PerBroker, Ignored;
    /// After which share of its life a Kerberos ticket is renewed.
    "sasl.kerberos.ticket.renew.window.factor" Double = "0.8", Check::Any, PerBroker, Ignored;
    /// The class that answers SASL's questions at login.
    "sasl.login.callback.handler.class" Class = null, Check::Any, ReadOnly, Ignored;
    /// The class that logs in for SASL.
    "sasl.login.class" Class = null, Check::Any, ReadOnly, Ignored;
    /// How long connecting to the token service may take.
    "sasl.login.connect.timeout.ms" Int = null, Check::Any, ReadOnly, Ignored;
    /// How long reading from the token service may take.
    "sasl.login.read.timeout.ms" Int = null, Check::Any, ReadOnly, Ignored;
    /// How long before its end a token is refreshed.
    "sasl.login.refresh.buffer.seconds" Short = "300", Check::Any, PerBroker, Ignored;
    /// How long to wait at least between refreshes of a token.
    "sasl.login.refresh.min.period.seconds" Short = "60", Check::Any, PerBroker, Ignored;
    /// After which share of its life a token is refreshed.
    "sasl.login.refresh.window.factor" Double = "0.8", Check::Any, PerBroker, Ignored;
    /// How much the time of refreshing a token varies.
    "sasl.login.refresh.window.jitter" Double = "0.05", Check::Any, PerBroker, Ignored;
    /// The longest wait before logging in is tried again.
    "sasl.login.retry.backoff.max.ms" Long = "10000", Check::Any, ReadOnly, Ignored;
    /// The first wait before logging in is tried again.
    "sasl.login.retry.backoff.ms" Long = "100", Check::Any, ReadOnly, Ignored;
    /// The SASL mechanism towards KRaft controllers.
    "sasl.mechanism.controller.protocol" String = "GSSAPI", Check::Any, ReadOnly, Ignored;
    /// The SASL mechanism between brokers.
    "sasl.mechanism.inter.broker.protocol" String = "GSSAPI", Check::Any, PerBroker, Ignored;
    /// The algorithm that signs the broker's assertions to a token service.
    "sasl.oauthbearer.assertion.algorithm" String = "RS256", Check::OneOfIgnoreCase(&["ES256", "RS256"]), ReadOnly, Ignored;
    /// The audience in the broker's assertions.
    "sasl.oauthbearer.assertion.claim.aud" String = null, Check::Any, ReadOnly, Ignored;
    /// How long the broker's assertions are valid.
    "sasl.oauthbearer.assertion.claim.exp.seconds" Int = "300", Check::Between(0, 86_400), ReadOnly, Ignored;
    /// The issuer in the broker's assertions.
    "sasl.oauthbearer.assertion.claim.iss" String = null, Check::Any, ReadOnly, Ignored;
    /// Whether the broker's assertions carry an id.
    "sasl.oauthbearer.assertion.claim.jti.include" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// How far back the start of the broker's assertions lies.
    "sasl.oauthbearer.assertion.claim.nbf.seconds" Int = "60", Check::Between(0, 3600), ReadOnly, Ignored;
    /// The subject in the broker's assertions.
    "sasl.oauthbearer.assertion.claim.sub" String = null, Check::Any, ReadOnly, Ignored;
    /// A file with a ready assertion.
    "sasl.oauthbearer.assertion.file" String = null, Check::Any, ReadOnly, Ignored;
    /// The key that signs the broker's assertions.
    "sasl.oauthbearer.assertion.private.key.file" String = null, Check::Any, ReadOnly, Ignored;
    /// The password of that key.
    "sasl.oauthbearer.assertion.private.key.passphrase" Password = null, Check::Any, ReadOnly, Ignored;
    /// A file with further claims for the broker's assertions.
    "sasl.oauthbearer.assertion.template.file" String = null, Check::Any, ReadOnly, Ignored;
    /// The name under which the broker asks for tokens.
    "sasl.oauthbearer.client.credentials.client.id" String = null, Check::Any, ReadOnly, Ignored;
    /// The secret with which the broker asks for tokens.
    "sasl.oauthbearer.client.credentials.client.secret" Password = null, Check::Any, ReadOnly, Ignored;
    /// How far the clocks of token service and broker may differ.
    "sasl.oauthbearer.clock.skew.seconds" Int = "30", Check::Any, ReadOnly, Ignored;
    /// The audiences of which a token must name one.
    "sasl.oauthbearer.expected.audience" List = null, Check::Any, ReadOnly, Ignored;
    /// The issuer that a token must name.
    "sasl.oauthbearer.expected.issuer" String = null, Check::Any, ReadOnly, Ignored;
    /// How often the keys of the token service are fetched.
    "sasl.oauthbearer.jwks.endpoint.refresh.ms" Long = "3600000", Check::Any, ReadOnly, Ignored;
    /// The longest wait before the keys of the token service are fetched again.
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms" Long = "10000", Check::Any, ReadOnly, Ignored;
    /// The first wait before the keys of the token service are fetched again.
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms" Long = "100", Check::Any, ReadOnly, Ignored;
    /// Where the keys of the token service are found.
    "sasl.oauthbearer.jwks.endpoint.url" String = null, Check::Any, ReadOnly, Ignored;
    /// The class that fetches tokens.
    "sasl.oauthbearer.jwt.retriever.class" Class = "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", Check::Any, ReadOnly, Ignored;
    /// The class that checks tokens.
    "sasl.oauthbearer.jwt.validator.class" Class = "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", Check::Any, ReadOnly, Ignored;
    /// The scope that the broker asks for.
    "sasl.oauthbearer.scope" String = null, Check::Any, ReadOnly, Ignored;
    /// The claim of a token that holds the scope.
    "sasl.oauthbearer.scope.claim.name" String = "scope", Check::Any, ReadOnly, Ignored;
    /// The claim of a token that holds the subject.
    "sasl.oauthbearer.sub.claim.name" String = "sub", Check::Any, ReadOnly, Ignored;
    /// Where tokens are fetched.
    "sasl.oauthbearer.token.endpoint.url" String = null, Check::Any, ReadOnly, Ignored;
    /// The class that answers SASL's questions for clients that connect.
    "sasl.server.callback.handler.class" Class = null, Check::Any, ReadOnly, Ignored;
    /// The largest SASL message that is accepted.
    "sasl.server.max.receive.size" Int = "524288", Check::Any, ReadOnly, Ignored;
    /// The security between brokers, where no listener is named for them.
    "security.inter.broker.protocol" String = "PLAINTEXT", Check::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), ReadOnly, Used;
    /// Classes that provide security algorithms.
    "security.providers" String = null, Check::Any, ReadOnly, Ignored;
    /// Whether a renewed certificate may have another distinguished name.
    "ssl.allow.dn.changes" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// Whether a renewed certificate may lack alternative names of the old one.
    "ssl.allow.san.changes" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// The cipher suites that TLS may use; empty for all.
    "ssl.cipher.suites" List = "", Check::Any, PerBroker, Ignored;
    /// Whether clients must show a certificate.
    "ssl.client.auth" String = "none", Check::OneOf(&["required", "requested", "none"]), PerBroker, Ignored;
    /// The versions of TLS that are accepted.
    "ssl.enabled.protocols" List = "TLSv1.2,TLSv1.3", Check::Any, PerBroker, Ignored;
    /// How the name in a server's certificate is checked; empty not at all.
    "ssl.endpoint.identification.algorithm" String = "https", Check::Any, PerBroker, Ignored;
    /// The class that makes TLS engines.
    "ssl.engine.factory.class" Class = null, Check::Any, PerBroker, Ignored;
    /// The password of the private key.
    "ssl.key.password" Password = null, Check::Any, PerBroker, Ignored;
    /// Java's algorithm for keys.
    "ssl.keymanager.algorithm" String = "SunX509", Check::Any, PerBroker, Ignored;
    /// The broker's certificate chain, in PEM.
    "ssl.keystore.certificate.chain" Password = null, Check::Any, PerBroker, Ignored;
    /// The broker's private key, in PEM.
    "ssl.keystore.key" Password = null, Check::Any, PerBroker, Ignored;
    /// The file with the broker's key and certificate.
    "ssl.keystore.location" String = null, Check::Any, PerBroker, Ignored;
    /// The password of that file.
    "ssl.keystore.password" Password = null, Check::Any, PerBroker, Ignored;
    /// The format of that file: JKS, PKCS12 or PEM.
    "ssl.keystore.type" String = "JKS", Check::Any, PerBroker, Ignored;
    /// Rules from certificate names to user names.
    "ssl.principal.mapping.rules" String = "DEFAULT", Check::Any, ReadOnly, Ignored;
    /// The version of TLS to use.
    "ssl.protocol" String = "TLSv1.3", Check::Any, PerBroker, Ignored;
    /// Java's provider for TLS.
    "ssl.provider" String = null, Check::Any, PerBroker, Ignored;
    /// Java's random numbers for TLS.
    "ssl.secure.random.implementation" String = null, Check::Any, PerBroker, Ignored;
    /// Java's algorithm for trust.
    "ssl.trustmanager.algorithm" String = "PKIX", Check::Any, PerBroker, Ignored;
    /// The trusted certificates, in PEM.
    "ssl.truststore.certificates" Password = null, Check::Any, PerBroker, Ignored;
    /// The file with the trusted certificates.
    "ssl.truststore.location" String = null, Check::Any, PerBroker, Ignored;
    /// The password of that file.
    "ssl.truststore.password" Password = null, Check::Any, PerBroker, Ignored;
    /// The format of that file: JKS, PKCS12 or PEM.
    "ssl.truststore.type" String = "JKS", Check::Any, PerBroker, Ignored;
};
