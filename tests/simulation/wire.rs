//! A client of the Kafka protocol on the simulated network.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use troupe_actors::network::{Network, Stream};

use crate::history::Partition;

/// Where brokers listen.
pub const KAFKA_PORT: u16 = 9092;
/// How long an answer may take before the client tries another way.
const PATIENCE: Duration = Duration::from_secs(4);

pub fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// The host of a broker.
pub fn host(broker: i32) -> String {
    format!("broker-{broker}")
}

/// One connection; after an error it is of no use any more.
struct Wire {
    stream: Stream,
    correlation_id: i32,
}

impl Wire {
    async fn exchange<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.send(version, request).await?;
        self.receive::<R>(version, self.correlation_id).await
    }

    async fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<()> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("simulation")));
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&[0; 4]);
        encode_request_header_into_buffer(&mut frame, &header).expect("encodable");
        request.encode(&mut frame, version).expect("encodable");
        let size = u32::try_from(frame.len() - 4).expect("small");
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&frame).await
    }

    async fn receive<R: Request>(
        &mut self,
        version: i16,
        correlation_id: i32,
    ) -> io::Result<R::Response> {
        let size = usize::try_from(self.stream.read_u32().await?).expect("a size");
        let mut answer = vec![0; size];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Bytes::from(answer);
        let header = match R::KEY == ApiKey::ApiVersions as i16 {
            true => 0,
            false => R::Response::header_version(version),
        };
        let header = ResponseHeader::decode(&mut answer, header).expect("a header");
        assert_eq!(header.correlation_id, correlation_id, "answers in order");
        Ok(R::Response::decode(&mut answer, version).expect("an answer of this version"))
    }
}

/// A client with a connection to each broker that it talks to.
pub struct Client {
    network: Network,
    brokers: i32,
    connections: BTreeMap<i32, Wire>,
    pub random: StdRng,
}

impl Client {
    pub fn new(network: Network, brokers: i32, random: StdRng) -> Self {
        Self {
            network,
            brokers,
            connections: BTreeMap::new(),
            random,
        }
    }

    /// Asks a broker, over a new connection if there is none.
    pub async fn ask<R: Request>(
        &mut self,
        broker: i32,
        version: i16,
        request: &R,
    ) -> io::Result<R::Response> {
        let answer = timeout(PATIENCE, self.try_ask(broker, version, request)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = &answer {
            let key = R::KEY;
            tracing::debug!(target: "clients", broker, key, %error, "no answer");
        }
        answer
    }

    /// Asks a broker several things without waiting in between; returns the answers to the first ones, as far as they
    /// come.
    pub async fn ask_all<R: Request>(
        &mut self,
        broker: i32,
        version: i16,
        requests: &[R],
    ) -> Vec<R::Response> {
        let mut answers = Vec::new();
        let asking = async {
            let mut wire = self.connect(broker).await?;
            for request in requests {
                wire.send(version, request).await?;
            }
            let last = wire.correlation_id;
            let first = last + 1 - i32::try_from(requests.len()).expect("few");
            for id in first..=last {
                answers.push(wire.receive::<R>(version, id).await?);
            }
            self.connections.insert(broker, wire);
            io::Result::Ok(())
        };
        // Those that have come count, whatever became of the others.
        let _ = timeout(PATIENCE, asking).await;
        answers
    }

    async fn connect(&mut self, broker: i32) -> io::Result<Wire> {
        if let Some(wire) = self.connections.remove(&broker) {
            return Ok(wire);
        }
        Ok(Wire {
            stream: self.network.connect((&host(broker), KAFKA_PORT)).await?,
            correlation_id: 0,
        })
    }

    async fn try_ask<R: Request>(
        &mut self,
        broker: i32,
        version: i16,
        request: &R,
    ) -> io::Result<R::Response> {
        let mut wire = self.connect(broker).await?;
        let answer = wire.exchange(version, request).await?;
        self.connections.insert(broker, wire);
        Ok(answer)
    }

    /// Returns some broker.
    pub fn anyone(&mut self) -> i32 {
        *self.brokers().choose(&mut self.random).expect("a broker")
    }

    /// Lists all brokers.
    pub fn brokers(&self) -> Vec<i32> {
        (1..=self.brokers).collect()
    }

    /// Returns who leads a partition and in which epoch, as some broker has it.
    pub async fn leader(&mut self, partition: &Partition) -> Option<(i32, i32)> {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(&partition.topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        let broker = self.anyone();
        let answer = self.ask(broker, 9, &request).await.ok()?;
        let mut found = answer.topics.first()?.partitions.iter();
        let found = found.find(|found| found.partition_index == partition.index)?;
        (found.leader_id.0 > 0).then_some((found.leader_id.0, found.leader_epoch))
    }

    /// Returns the controller, as some broker has it.
    pub async fn controller(&mut self) -> Option<i32> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let broker = self.anyone();
        let answer = self.ask(broker, 9, &request).await.ok()?;
        (answer.controller_id.0 > 0).then_some(answer.controller_id.0)
    }
}
