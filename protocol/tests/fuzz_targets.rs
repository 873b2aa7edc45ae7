//! The targets of `fuzz/`, run over good bytes and over spoilt ones, with any compiler.
//!
//! `PROPTEST_CASES=1000000 cargo test -p troupe-protocol --test fuzz_targets` looks longer. With `TROUPE_WRITE_SEEDS=DIR` the
//! good bytes are written to a directory for each target, for the fuzzer to begin with.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is the library of a package")]
mod fuzz;

mod support;

use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Encodable as _;
use proptest::prelude::*;
use proptest::sample::Index;
use support::requests::requests;
use support::spoil::{spoil, spoils};
use troupe_protocol::kafka::api::ApiKey;
use troupe_protocol::kafka::frame::RequestHeader;
use troupe_protocol::kafka::messages::fetch_request::{FetchPartition, FetchTopic};
use troupe_protocol::kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use troupe_protocol::kafka::messages::{FetchRequest, ProduceRequest};
use troupe_protocol::kafka::records::builder::BatchBuilder;
use troupe_protocol::kafka::records::compress::Compression;
use troupe_protocol::kafka::records::record::Record;
use troupe_protocol::kafka::records::validate::{ProduceRules, validate_produced};
use troupe_protocol::zookeeper::connect::ConnectRequest;
use troupe_protocol::zookeeper::frame::build_frame;

/// A target, with good bytes for it.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    seeds: Vec<Vec<u8>>,
}

fn make_targets() -> [Target; 3] {
    [
        Target {
            name: "zookeeper",
            run: fuzz::zookeeper,
            seeds: zookeeper(),
        },
        Target {
            name: "kafka_requests",
            run: fuzz::kafka_requests,
            seeds: kafka_requests(),
        },
        Target {
            name: "record_batches",
            run: fuzz::record_batches,
            seeds: record_batches(),
        },
    ]
}

/// All targets; their seeds are made once.
fn targets() -> &'static [Target; 3] {
    static TARGETS: OnceLock<[Target; 3]> = OnceLock::new();
    TARGETS.get_or_init(make_targets)
}

fn zookeeper() -> Vec<Vec<u8>> {
    let handshake = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 1,
        timeout_ms: 6_000,
        session_id: 2,
        password: vec![3; 16].into(),
        read_only: Some(false),
    };
    let requests = requests();
    let frames = requests
        .iter()
        .map(|request| build_frame(|out| out.extend_from_slice(request)));
    frames
        .chain([handshake.to_frame()])
        .map(|frame| frame.to_vec())
        .collect()
}

fn kafka_requests() -> Vec<Vec<u8>> {
    let mut all = fuzz::empty_kafka_requests();
    let batches: Vec<u8> = record_batches().concat();
    let data = PartitionProduceData::default().with_records(Some(batches.into()));
    let topic = TopicProduceData::default().with_partition_data(vec![data]);
    let produce = ProduceRequest::default().with_topic_data(vec![topic]);
    let topic = FetchTopic::default().with_partitions(vec![FetchPartition::default()]);
    let fetch = FetchRequest::default().with_topics(vec![topic]);
    let mut add = |key, version, message: &dyn Fn(&mut BytesMut)| {
        let mut body = BytesMut::new();
        message(&mut body);
        all.push(fuzz::with_header(key, version, &body));
    };
    for version in 3..=13 {
        let encode = |out: &mut BytesMut| produce.encode(out, version).unwrap();
        add(ApiKey::Produce, version, &encode);
    }
    for version in 4..=17 {
        let encode = |out: &mut BytesMut| fetch.encode(out, version).unwrap();
        add(ApiKey::Fetch, version, &encode);
    }
    all
}

fn record_batches() -> Vec<Vec<u8>> {
    let header = (Bytes::from_static(b"header"), None);
    let records: Vec<Record> = (0..3)
        .map(|offset| Record {
            offset,
            timestamp: 1_000,
            value: Some(Bytes::from_static(b"value value value")),
            headers: vec![header.clone()],
            ..Record::default()
        })
        .collect();
    let build = |codec| BatchBuilder::new().compression(codec).build_from(&records);
    Compression::ALL
        .map(|codec| build(codec).unwrap().to_vec())
        .into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn spoilt_bytes_are_read_or_refused(which in any::<Index>(), spoils in spoils()) {
        for target in targets() {
            (target.run)(&spoil(which.get(&target.seeds).clone(), &spoils));
        }
    }
}

/// Seeds that are refused at once would lead nowhere.
#[test]
fn good_bytes_are_read() {
    for target in targets() {
        for seed in &target.seeds {
            (target.run)(seed);
        }
        let Some(directory) = std::env::var_os("TROUPE_WRITE_SEEDS") else {
            continue;
        };
        let directory = PathBuf::from(directory).join(target.name);
        std::fs::create_dir_all(&directory).unwrap();
        for (number, seed) in target.seeds.iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number}")), seed).unwrap();
        }
    }
    for batch in record_batches() {
        validate_produced(&batch, &ProduceRules::default()).unwrap();
    }
    for request in kafka_requests() {
        let (header, _) = RequestHeader::parse(request[4..].into()).unwrap();
        let key = ApiKey::from_code(header.api_key).unwrap();
        assert!(key.codec_versions().contains(&header.api_version));
    }
}
