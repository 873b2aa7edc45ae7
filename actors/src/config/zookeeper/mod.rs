//! The configuration of a coordination service that runs alone: `zookeeper.properties`.

mod table;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::key::find;
use super::properties::{self, LoadError};
use super::typed::FromText;
use super::{ConfigKey, Effect, InvalidConfig, Origin, Values, list};
use crate::znode::ZnodeConfig;

/// Keys of plug-ins and of TLS, which are accepted without effect whatever comes after these.
const IGNORED_PREFIXES: [&str; 8] = [
    "authProvider.",
    "client.",
    "enforce.auth.",
    "metricsProvider.",
    "multiAddress.",
    "quorum.",
    "sslQuorum",
    "ssl.",
];

/// Returns every key, by name.
pub fn keys() -> impl Iterator<Item = &'static ConfigKey> {
    table::ZOOKEEPER.iter()
}

fn key(name: &str) -> Option<&'static ConfigKey> {
    find(table::ZOOKEEPER, name)
}

/// Tells why a `zookeeper.properties` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ZookeeperConfigError {
    /// It cannot be read, or a value does not fit.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It describes an ensemble.
    #[error(
        "{origin}: {name} is one of {servers} servers, and Troupe serves from one process alone. Remove these lines to \
         run that one; for an ensemble run Apache ZooKeeper with this file on each host (bin/zkServer.sh start-foreground \
         FILE, a myid in each dataDir), and let the brokers use it by zookeeper.connect=HOST:PORT,HOST:PORT,HOST:PORT"
    )]
    Ensemble {
        /// Where it says so.
        origin: Origin,
        /// The key.
        name: String,
        /// How many there are.
        servers: usize,
    },
}

/// How a coordination service runs alone.
#[derive(Clone, Debug)]
pub struct ZookeeperConfig {
    /// The service.
    pub znode: ZnodeConfig,
    /// `admin.serverAddress` and `admin.serverPort`, when `admin.enableServer` is on.
    pub admin: Option<SocketAddr>,
    values: Values,
}

impl ZookeeperConfig {
    /// Loads a configuration: the command line over the file over the defaults.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self, ZookeeperConfigError> {
        let mut values = Values::default();
        if let Some(path) = file {
            properties::read_file(path, &mut values)?;
        }
        properties::read_overrides(overrides, &mut values)?;
        refuse_ensemble(&values)?;
        Self::from_values(values)
            .map_err(|(error, origin)| LoadError::Invalid { error, origin }.into())
    }

    fn from_values(values: Values) -> Result<Self, (InvalidConfig, Option<Origin>)> {
        values
            .validate(key)
            .map_err(|(error, origin)| (error, Some(origin)))?;
        let at = |name: &str, error: InvalidConfig| {
            let origin = values.given(name).map(|given| given.origin.clone());
            (error, origin)
        };
        let client_port = read(&values, "clientPort");
        let mut znode = ZnodeConfig::new(read::<PathBuf>(&values, "dataDir"), client_port);
        if let Some(host) = read::<Option<String>>(&values, "clientPortAddress") {
            let addrs = resolve("clientPortAddress", &host, client_port);
            znode.client_addrs = addrs.map_err(|error| at("clientPortAddress", error))?;
        }
        znode.tick_time_ms = read(&values, "tickTime");
        let timeout = |name| Some(read::<i32>(&values, name)).filter(|&timeout_ms| timeout_ms >= 0);
        znode.min_session_timeout_ms = timeout("minSessionTimeout");
        znode.max_session_timeout_ms = timeout("maxSessionTimeout");
        let (min_ms, max_ms) = znode.session_timeouts_ms();
        if min_ms > max_ms {
            let name = "minSessionTimeout";
            let expected =
                format!("Value must be no more than maxSessionTimeout, which is {max_ms}");
            let error = InvalidConfig::value(name, &min_ms.to_string(), expected);
            return Err(at(name, error));
        }
        znode.max_client_cnxns = read(&values, "maxClientCnxns");
        znode.max_frame = read(&values, "jute.maxbuffer");
        znode.global_outstanding_limit = read(&values, "globalOutstandingLimit");
        znode.four_letter_words = words(&text(&values, "4lw.commands.whitelist"));
        let admin = match read(&values, "admin.enableServer") {
            true => {
                let host: String = read(&values, "admin.serverAddress");
                let addrs = resolve(
                    "admin.serverAddress",
                    &host,
                    read(&values, "admin.serverPort"),
                );
                addrs
                    .map_err(|error| at("admin.serverAddress", error))?
                    .first()
                    .copied()
            }
            false => None,
        };
        Ok(Self {
            znode,
            admin,
            values,
        })
    }

    /// Lists the given keys that nobody knows, with their origins.
    pub fn unknown_keys(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.values
            .iter()
            .filter(|(name, _)| key(name).is_none() && !is_ignored(name))
            .map(|(name, given)| (name, &given.origin))
    }

    /// Lists the given keys that have no effect.
    pub fn ignored_keys(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name).filter(|name| {
            is_ignored(name) || key(name).is_some_and(|key| key.effect == Effect::Ignored)
        })
    }
}

/// A single server is no ensemble: ZooKeeper ignores that line, too.
fn refuse_ensemble(values: &Values) -> Result<(), ZookeeperConfigError> {
    let servers: Vec<_> = values.iter().filter(|(name, _)| is_server(name)).collect();
    match servers.as_slice() {
        [] | [_] => Ok(()),
        [(name, given), ..] => Err(ZookeeperConfigError::Ensemble {
            origin: given.origin.clone(),
            name: (*name).to_owned(),
            servers: servers.len(),
        }),
    }
}

/// Returns whether a key reads `server.1`.
fn is_server(name: &str) -> bool {
    name.strip_prefix("server.")
        .is_some_and(|number| number.parse::<i64>().is_ok())
}

fn is_ignored(name: &str) -> bool {
    is_server(name)
        || IGNORED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn text(values: &Values, name: &str) -> String {
    values
        .given_text(name)
        .or_else(|| key(name)?.default)
        .unwrap_or_default()
        .to_owned()
}

/// Reads a key as a type. Values are validated before, so nothing is lost by falling back to the type's default.
fn read<T: FromText>(values: &Values, name: &str) -> T {
    match text(values, name) {
        text if text.is_empty() => T::default(),
        text => T::from_text(&text).unwrap_or_default(),
    }
}

fn resolve(name: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, InvalidConfig> {
    match (host, port).to_socket_addrs() {
        Ok(addrs) => Ok(addrs.take(1).collect()),
        Err(error) => Err(InvalidConfig::value(
            name,
            host,
            format!("Not an address of this host: {error}"),
        )),
    }
}

/// Returns the words of the whitelist; nothing for all.
fn words(whitelist: &str) -> Option<Vec<String>> {
    let words: Vec<String> = list(whitelist).map(str::to_ascii_lowercase).collect();
    (!words.iter().any(|word| word == "*")).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(content: &str, overrides: &[&str]) -> Result<ZookeeperConfig, ZookeeperConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        ZookeeperConfig::load(Some(file.path()), &overrides)
    }

    fn refusal(content: &str) -> String {
        let error = load(content, &[]).unwrap_err().to_string();
        // The directory is another one each time.
        let line = error.find(", line").unwrap_or_default();
        error[line..].to_owned()
    }

    #[test]
    fn keys_are_sorted_documented_and_have_good_defaults() {
        assert!(table::ZOOKEEPER.is_sorted_by(|a, b| a.name < b.name));
        for key in keys() {
            assert!(key.documentation().ends_with('.'), "{}", key.name);
            if let Some(default) = key.default {
                assert_eq!(key.validate(default), Ok(()), "{}", key.name);
            }
        }
    }

    #[test]
    fn without_anything_it_is_zookeepers_defaults() {
        let config = ZookeeperConfig::load(None, &[]).unwrap();
        assert_eq!(config.znode.client_port, 2181);
        assert_eq!(config.znode.data_dir, Path::new("troupe-data/zookeeper"));
        assert_eq!(config.znode.session_timeouts_ms(), (6000, 60_000));
        assert_eq!(config.znode.max_client_cnxns, 60);
        assert_eq!(config.znode.max_frame, 0xf_ffff);
        assert_eq!(config.znode.global_outstanding_limit, 1_000);
        assert_eq!(config.znode.four_letter_words, None);
        assert_eq!(config.admin, None);
    }

    #[test]
    fn kafkas_file_is_obeyed() {
        let file = "dataDir=/tmp/zookeeper\nclientPort=2182\nmaxClientCnxns=0\nadmin.enableServer=true\n\
                    admin.serverPort=8081\nclientPortAddress=127.0.0.1\n4lw.commands.whitelist=ruok, stat\n\
                    tickTime=2000\nmaxSessionTimeout=30000\n";
        let config = load(file, &["clientPort=0"]).unwrap();
        assert_eq!(config.znode.client_addrs, ["127.0.0.1:0".parse().unwrap()]);
        assert_eq!(config.znode.max_client_cnxns, 0);
        assert_eq!(config.znode.session_timeouts_ms(), (4000, 30_000));
        assert_eq!(
            config.znode.four_letter_words,
            Some(vec!["ruok".to_owned(), "stat".to_owned()])
        );
        assert_eq!(config.admin, Some("0.0.0.0:8081".parse().unwrap()));
    }

    #[test]
    fn what_is_unknown_or_without_effect_is_told() {
        let file =
            "dataDir=/d\nautopurge.purgeInterval=1\nnonsense=1\nserver.1=a:2888:3888\nssl.x=y\n";
        let config = load(file, &[]).unwrap();
        let unknown: Vec<_> = config.unknown_keys().collect();
        assert_eq!(unknown.len(), 1);
        assert_eq!(unknown[0].0, "nonsense");
        assert!(unknown[0].1.to_string().ends_with(", line 3"));
        let ignored: Vec<_> = config.ignored_keys().collect();
        assert_eq!(ignored, ["autopurge.purgeInterval", "server.1", "ssl.x"]);
    }

    #[test]
    fn a_bad_value_is_refused_with_its_place() {
        assert_eq!(
            refusal("dataDir=/d\ntickTime=soon\n"),
            ", line 2: Invalid value soon for configuration tickTime: Not a number of type INT"
        );
        assert_eq!(
            refusal("clientPort=70000"),
            ", line 1: Invalid value 70000 for configuration clientPort: Value must be no more than 65535"
        );
        assert_eq!(
            refusal("minSessionTimeout=70000"),
            ", line 1: Invalid value 70000 for configuration minSessionTimeout: Value must be no more than \
             maxSessionTimeout, which is 60000"
        );
    }

    #[test]
    fn an_ensemble_is_refused_with_what_to_do() {
        let text = refusal(
            "clientPort=1\nserver.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n",
        );
        assert!(
            text.starts_with(
                ", line 2: server.1 is one of 3 servers, and Troupe serves from one process"
            ),
            "{text}"
        );
        assert!(text.contains("run Apache ZooKeeper"), "{text}");
    }
}
