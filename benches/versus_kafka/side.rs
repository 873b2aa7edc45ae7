//! One of the two brokers that are compared, with everything that it needs beside it.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, MetadataRequest};

use crate::measure::{cpu_seconds, memory_mb};
use crate::support::records::batch;
use crate::support::requests::{PRODUCE, create_topic_request, produce, produced, topic_name};
use crate::support::server::{Kind, Server};
use crate::support::wire::Wire;

pub(crate) struct Side {
    server: Server,
}

/// What the log of a partition holds.
pub(crate) struct Batches {
    pub(crate) bytes: u64,
    pub(crate) count: usize,
    pub(crate) records: usize,
    pub(crate) mean_size: f64,
}

impl Side {
    /// Starts a broker that has acknowledged one record and nothing more.
    pub(crate) fn start(kind: Kind) -> Side {
        let server = start(kind);
        acknowledge_one(&server);
        Side { server }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.server.kind()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The CPU time of all processes of this side so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.server.process_ids().into_iter().map(cpu_seconds).sum()
    }

    /// The resident memory of all processes of this side, a while after anything happened.
    pub(crate) fn idle_memory_mb(&self) -> f64 {
        std::thread::sleep(Duration::from_secs(5));
        self.memory_mb()
    }

    /// The resident memory of all processes of this side now.
    pub(crate) fn memory_mb(&self) -> f64 {
        self.server
            .process_ids()
            .into_iter()
            .map(|id| memory_mb(id, "VmRSS"))
            .sum()
    }

    /// The most resident memory that the processes of this side ever had.
    pub(crate) fn peak_memory_mb(&self) -> f64 {
        self.server
            .process_ids()
            .into_iter()
            .map(|id| memory_mb(id, "VmHWM"))
            .sum()
    }

    /// Creates a topic with one partition.
    pub(crate) fn create(&self, topic: &str) {
        let mut wire = Wire::connect(&self.server);
        let response = wire.call(4, &create_topic_request(topic, 1));
        assert_eq!(response.topics[0].error_code, 0, "creating {topic}");
        lead(&mut wire, topic);
    }

    pub(crate) fn delete(&self, topic: &str) {
        let request = DeleteTopicsRequest::default()
            .with_timeout_ms(30_000)
            .with_topic_names(vec![topic_name(topic)]);
        let response = Wire::connect(&self.server).call(4, &request);
        assert_eq!(response.responses[0].error_code, 0, "deleting {topic}");
    }

    /// Walks over the batch headers of a topic's only partition.
    pub(crate) fn batches(&self, topic: &str) -> Batches {
        let directory = self.server.partition_directory(topic, 0);
        let mut batches = Batches {
            bytes: 0,
            count: 0,
            records: 0,
            mean_size: 0.0,
        };
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                batches.bytes += walk(&path, &mut batches.count, &mut batches.records);
            }
        }
        batches.mean_size = batches.bytes as f64 / batches.count.max(1) as f64;
        batches
    }
}

fn walk(log: &std::path::Path, count: &mut usize, records: &mut usize) -> u64 {
    let file = std::fs::File::open(log).unwrap();
    let size = file.metadata().unwrap().len();
    let mut reader = BufReader::with_capacity(128, file);
    let mut position = 0;
    let mut header = [0; 61];
    while position + 61 <= size {
        reader.seek(SeekFrom::Start(position)).unwrap();
        reader.read_exact(&mut header).unwrap();
        let length = u32::from_be_bytes(header[8..12].try_into().unwrap());
        if length == 0 {
            break;
        }
        *count += 1;
        *records += u32::from_be_bytes(header[57..61].try_into().unwrap()) as usize;
        position += 12 + u64::from(length);
    }
    position
}

fn start(kind: Kind) -> Server {
    let options = Server::with().kind(kind).production();
    // The default, where the harness has less for its small tests.
    let options = options.set("offsets.topic.num.partitions", 50);
    // The default leaves both cleaners asleep for up to 15 s of a measure.
    options.set("log.cleaner.backoff.ms", 50).start()
}

/// The seconds from the start of a broker on an empty directory to its first acknowledged record.
pub(crate) fn first_acknowledgement(kind: Kind) -> f64 {
    let begin = Instant::now();
    let server = start(kind);
    acknowledge_one(&server);
    begin.elapsed().as_secs_f64()
}

fn acknowledge_one(server: &Server) {
    let mut wire = Wire::connect(server);
    lead(&mut wire, "first");
    let response = wire.call(PRODUCE, &produce("first", 0, 1, batch(&[b"first"])));
    assert_eq!(produced(&response).error_code, 0);
}

/// Asks for a topic, and so creates it where it is not there, until it has a leader.
fn lead(wire: &mut Wire, topic: &str) {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![asked]))
        .with_allow_auto_topic_creation(true);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let metadata = wire.call(9, &request);
        let found = &metadata.topics[0];
        let led = found
            .partitions
            .first()
            .is_some_and(|partition| partition.leader_id.0 >= 0);
        if found.error_code == 0 && led {
            return;
        }
        assert!(Instant::now() < deadline, "{topic} has no leader");
        std::thread::sleep(Duration::from_millis(5));
    }
}
