//! A client for requests and their answers, one at a time, for the administrative tools.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::api::{DecodeError, EncodeError, Request};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::metadata_request::MetadataRequestTopic;
use troupe_protocol::kafka::messages::{
    ApiVersionsRequest, MetadataRequest, MetadataResponse, TopicName,
};

/// How long to try to connect to one broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for an answer: Kafka's `default.api.timeout.ms`.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const MAX_RESPONSE: usize = 256 << 20;
const CLIENT_ID: &str = "troupe";

/// Tells why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("Cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    #[error("Cannot connect to {0}: expected host:port")]
    Address(String),
    #[error("{0}: no answer within {1:?}")]
    Timeout(String, Duration),
    #[error("{0}: the connection broke: {1}")]
    Broken(String, io::Error),
    #[error("{0} does not support {1}")]
    Unsupported(String, &'static str),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The broker refused. The text is the broker's own where it gave one.
    #[error("{message}")]
    Refused { code: ErrorCode, message: String },
}

impl ClientError {
    /// Turns an error code of an answer into an error.
    pub(crate) fn check(code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => Ok(()),
            known => {
                let code = known.unwrap_or(ErrorCode::UnknownServerError);
                let message =
                    message.map_or_else(|| code.message().to_owned(), |text| text.to_string());
                Err(ClientError::Refused { code, message })
            }
        }
    }

    /// Returns the broker's error code, where it answered with one.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A connection to one broker.
pub(crate) struct Connection {
    address: String,
    stream: TcpStream,
    timeout: Duration,
    correlation_id: i32,
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects to `host:port` and asks which versions the broker has. An answer may take as long as `timeout`.
    async fn connect(address: &str, call_timeout: Duration) -> Result<Self, ClientError> {
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !has_port {
            return Err(ClientError::Address(address.to_owned()));
        }
        let limit = CONNECT_TIMEOUT.min(call_timeout);
        let stream = match timeout(limit, TcpStream::connect(address)).await {
            Ok(connected) => {
                connected.map_err(|error| ClientError::Connect(address.to_owned(), error))?
            }
            Err(_) => return Err(ClientError::Timeout(address.to_owned(), limit)),
        };
        let address = address.to_owned();
        let mut connection = Self {
            address,
            stream,
            timeout: call_timeout,
            correlation_id: 0,
            versions: BTreeMap::new(),
        };
        // Version 0 is answered by every broker that knows the API (KIP-511).
        let response = connection
            .call_version(ApiVersionsRequest::default(), 0)
            .await?;
        ClientError::check(response.error_code, None)?;
        let ranges = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)));
        connection.versions = ranges.collect();
        Ok(connection)
    }

    /// Returns the highest version that both sides know.
    pub(crate) fn version<R: Request>(&self) -> Option<i16> {
        let (min, max) = *self.versions.get(&R::KEY.code())?;
        let known = R::versions();
        let version = max.min(*known.end());
        (version >= min && version >= *known.start()).then_some(version)
    }

    /// Returns the versions of each API that the broker has, by key.
    pub(crate) fn advertised(&self) -> &BTreeMap<i16, (i16, i16)> {
        &self.versions
    }

    /// Sends a request at the highest version that both sides know, and waits for the answer.
    pub(crate) async fn call<R: Request>(
        &mut self,
        request: R,
    ) -> Result<R::Response, ClientError> {
        let unsupported = || ClientError::Unsupported(self.address.clone(), R::KEY.name());
        let version = self.version::<R>().ok_or_else(unsupported)?;
        self.call_version(request, version).await
    }

    async fn call_version<R: Request>(
        &mut self,
        request: R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = encode(request, version, self.correlation_id)?;
        let response = match timeout(self.timeout, self.exchange(&frame)).await {
            Ok(response) => {
                response.map_err(|error| ClientError::Broken(self.address.clone(), error))?
            }
            Err(_) => return Err(ClientError::Timeout(self.address.clone(), self.timeout)),
        };
        let tagged = usize::from(R::KEY.response_header_version(version) > 0);
        let mut body = response.freeze();
        // An answer's header holds no tagged field that anybody defined.
        body.advance(tagged.min(body.len()));
        Ok(R::decode_response(version, body)?)
    }

    /// Sends a frame and returns the answer after its correlation id.
    async fn exchange(&mut self, frame: &[u8]) -> io::Result<BytesMut> {
        self.stream.write_all(frame).await?;
        let size = usize::try_from(self.stream.read_i32().await?).unwrap_or(usize::MAX);
        let correlation_id_len = size_of::<i32>();
        if !(correlation_id_len..=MAX_RESPONSE).contains(&size) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an answer of {size} bytes"),
            ));
        }
        if self.stream.read_i32().await? != self.correlation_id {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer is not that to the request",
            ));
        }
        let mut body = BytesMut::zeroed(size - correlation_id_len);
        self.stream.read_exact(&mut body).await?;
        Ok(body)
    }
}

fn encode<R: Request>(
    request: R,
    version: i16,
    correlation_id: i32,
) -> Result<BytesMut, EncodeError> {
    let mut frame = BytesMut::with_capacity(512);
    frame.put_i32(0);
    frame.put_i16(R::KEY.code());
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_i16(CLIENT_ID.len() as i16);
    frame.put_slice(CLIENT_ID.as_bytes());
    if R::KEY.request_header_version(version) >= 2 {
        frame.put_u8(0);
    }
    request.encode(version, &mut frame)?;
    let size = i32::try_from(frame.len() - size_of::<i32>()).unwrap_or(i32::MAX);
    if let Some(field) = frame.first_chunk_mut() {
        *field = size.to_be_bytes();
    }
    Ok(frame)
}

/// A client of a whole cluster.
pub(crate) struct AdminClient {
    timeout: Duration,
    bootstrap: Connection,
    controller: Option<Connection>,
    brokers: BTreeMap<String, Connection>,
}

impl AdminClient {
    /// Connects to the first of the brokers that can be reached: `host:port,host:port`.
    pub(crate) async fn connect(bootstrap_servers: &str) -> Result<Self, ClientError> {
        Self::connect_within(bootstrap_servers, CALL_TIMEOUT).await
    }

    /// Connects, and waits for each answer as long as `timeout`.
    pub(crate) async fn connect_within(
        bootstrap_servers: &str,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let mut failure = ClientError::Address(bootstrap_servers.to_owned());
        for address in bootstrap_servers
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
        {
            match Connection::connect(address, timeout).await {
                Ok(bootstrap) => {
                    return Ok(Self {
                        timeout,
                        bootstrap,
                        controller: None,
                        brokers: BTreeMap::new(),
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// How long an answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks any broker.
    pub(crate) fn any(&mut self) -> &mut Connection {
        &mut self.bootstrap
    }

    /// Asks the broker that controls the cluster.
    pub(crate) async fn controller(&mut self) -> Result<&mut Connection, ClientError> {
        if self.controller.is_none() {
            let metadata = self.metadata(Some(Vec::new())).await?;
            let controller = metadata
                .brokers
                .iter()
                .find(|broker| broker.node_id == metadata.controller_id);
            if let Some(broker) = controller {
                let address = address(&broker.host, broker.port);
                self.controller = Some(Connection::connect(&address, self.timeout).await?);
            }
        }
        Ok(self.controller.as_mut().unwrap_or(&mut self.bootstrap))
    }

    /// Asks the broker at an address that the cluster told, over one connection for all questions.
    pub(crate) async fn broker(
        &mut self,
        host: &str,
        port: i32,
    ) -> Result<&mut Connection, ClientError> {
        match self.brokers.entry(address(host, port)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let connection = Connection::connect(new.key(), self.timeout).await?;
                Ok(new.insert(connection))
            }
        }
    }

    /// Asks for the brokers and the given topics, or all of them.
    pub(crate) async fn metadata(
        &mut self,
        topics: Option<Vec<String>>,
    ) -> Result<MetadataResponse, ClientError> {
        let topic = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let topics = topics.map(|names| names.into_iter().map(topic).collect());
        self.bootstrap
            .call(
                MetadataRequest::default()
                    .with_topics(topics)
                    .with_allow_auto_topic_creation(false),
            )
            .await
    }

    /// Returns whether the cluster knows an API.
    pub(crate) fn supports<R: Request>(&self) -> bool {
        self.bootstrap.version::<R>().is_some()
    }
}

/// Writes `host:port`, with brackets around an IPv6 address.
fn address(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Makes a topic name of the messages.
pub(crate) fn topic_name(name: String) -> TopicName {
    TopicName(StrBytes::from_string(name))
}
