//! A broker that a test plays: it is registered, says yes to what the controller orders, and stops replicas as the test wants.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use troupe_protocol::kafka::api::{ApiKey, Request};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::legacy_messages::stop_replica_response::StopReplicaPartitionError;
use troupe_protocol::kafka::legacy_messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataRequest, UpdateMetadataResponse,
};
use troupe_protocol::kafka::messages::api_versions_response::ApiVersion;
use troupe_protocol::kafka::messages::{ApiVersionsRequest, ApiVersionsResponse};
use zookeeper_client::{Acls, Client, CreateMode};

/// How one order to stop is answered: the code for all of it, and that of each replica.
pub(crate) type Answer = (ErrorCode, ErrorCode);

/// What the test and the connections share.
#[derive(Default)]
struct Play {
    /// The next answers to orders to stop; after them all is well.
    answers: VecDeque<Answer>,
    /// Orders to stop that were answered.
    stopped: usize,
}

/// The broker.
#[derive(Clone)]
pub(crate) struct Pretender {
    id: i32,
    port: u16,
    play: Arc<Mutex<Play>>,
}

impl Pretender {
    /// Listens; nobody knows yet.
    pub(crate) async fn new(id: i32, answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let pretender = Self {
            id,
            port: listener.local_addr().expect("an address").port(),
            play: Arc::default(),
        };
        let play = Arc::clone(&pretender.play);
        play.lock()
            .expect("unpoisoned")
            .answers
            .extend(answers.iter().copied());
        actix_rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                actix_rt::spawn(serve(stream, Arc::clone(&play)));
            }
        });
        pretender
    }

    /// Registers for as long as the session lasts.
    pub(crate) async fn register(&self, client: &Client) {
        let registration = format!(
            r#"{{"listener_security_protocol_map":{{"PLAINTEXT":"PLAINTEXT"}},
            "endpoints":["PLAINTEXT://127.0.0.1:{port}"],"jmx_port":-1,"features":{{}},
            "host":"127.0.0.1","timestamp":"1","port":{port},"version":5}}"#,
            port = self.port
        );
        let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
        let path = format!("/brokers/ids/{}", self.id);
        let created = client
            .create(&path, registration.as_bytes(), &options)
            .await;
        created.expect("registered");
    }

    /// Counts the orders to stop that were answered.
    pub(crate) fn stopped(&self) -> usize {
        self.play.lock().expect("unpoisoned").stopped
    }
}

async fn serve(mut stream: TcpStream, play: Arc<Mutex<Play>>) {
    while let Ok(size) = stream.read_u32().await {
        let mut frame = vec![0; usize::try_from(size).expect("a small request")];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let answer = answer(Bytes::from(frame), &play);
        let size = u32::try_from(answer.len()).expect("a small answer");
        if stream.write_u32(size).await.is_err() || stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn answer(mut frame: Bytes, play: &Mutex<Play>) -> BytesMut {
    let key = ApiKey::from_code(frame.get_i16()).expect("a known API");
    let version = frame.get_i16();
    let correlation = frame.get_i32();
    let client_id = usize::try_from(frame.get_i16()).unwrap_or(0);
    frame.advance(client_id);
    if key.request_header_version(version) >= 2 {
        frame.advance(1);
    }
    let mut out = BytesMut::new();
    out.extend_from_slice(&correlation.to_be_bytes());
    if key.response_header_version(version) >= 1 {
        out.extend_from_slice(&[0]);
    }
    match key {
        ApiKey::ApiVersions => {
            let served = [
                serves::<LeaderAndIsrRequest>(),
                serves::<StopReplicaRequest>(),
                serves::<UpdateMetadataRequest>(),
            ];
            let versions = ApiVersionsResponse::default().with_api_keys(served.into());
            put::<ApiVersionsRequest>(versions, version, &mut out);
        }
        ApiKey::LeaderAndIsr => {
            put::<LeaderAndIsrRequest>(LeaderAndIsrResponse::default(), version, &mut out);
        }
        ApiKey::UpdateMetadata => {
            put::<UpdateMetadataRequest>(UpdateMetadataResponse::default(), version, &mut out);
        }
        ApiKey::StopReplica => {
            let order = StopReplicaRequest::decode(version, frame).expect("an order");
            put::<StopReplicaRequest>(stop(&order, play), version, &mut out);
        }
        other => panic!("nobody asks that of a broker: {other}"),
    }
    out
}

fn serves<R: Request>() -> ApiVersion {
    ApiVersion::default()
        .with_api_key(R::KEY.code())
        .with_min_version(*R::versions().start())
        .with_max_version(*R::versions().end())
}

fn put<R: Request>(response: R::Response, version: i16, out: &mut BytesMut) {
    R::encode_response(response, version, out).expect("encodable");
}

fn stop(order: &StopReplicaRequest, play: &Mutex<Play>) -> StopReplicaResponse {
    let mut play = play.lock().expect("unpoisoned");
    play.stopped += 1;
    let (whole, each) = play
        .answers
        .pop_front()
        .unwrap_or((ErrorCode::None, ErrorCode::None));
    let errors = order.topic_states.iter().flat_map(|topic| {
        let partitions = topic.partition_states.iter();
        partitions.map(|partition| {
            StopReplicaPartitionError::default()
                .with_topic_name(topic.topic_name.clone())
                .with_partition_index(partition.partition_index)
                .with_error_code(each.code())
        })
    });
    StopReplicaResponse::default()
        .with_error_code(whole.code())
        .with_partition_errors(errors.collect())
}
