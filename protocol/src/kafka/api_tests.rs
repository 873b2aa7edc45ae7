//! Every row of the table at every version, and garbage for all of them.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::api::{ApiKey, Request, RequestVisitor, each_request};
use super::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use super::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use super::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use super::messages::metadata_request::MetadataRequestTopic;
use super::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use super::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use super::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, TopicName,
};
use super::{StrBytes, legacy_messages};

#[test]
fn keys_and_names_are_those_of_the_schema_crates() {
    for key in ApiKey::ALL {
        assert_eq!(ApiKey::from_code(key.code()), Some(*key));
        let other = kafka_protocol_legacy::messages::ApiKey::try_from(key.code());
        if let Ok(other) = other {
            // Renamed by KIP-1142.
            if *key != ApiKey::ListConfigResources {
                assert_eq!(format!("{other:?}"), key.name());
            }
            for version in key.codec_versions() {
                assert_eq!(
                    key.request_header_version(version),
                    other.request_header_version(version),
                    "{key}"
                );
                assert_eq!(
                    key.response_header_version(version),
                    other.response_header_version(version),
                    "{key}"
                );
            }
        }
    }
}

#[test]
fn every_version_since_the_first_is_known() {
    // Highest versions of Kafka 4.1; keys that only 3.9 has, at 3.9.
    let highest = [
        (0, 13),
        (1, 18),
        (2, 10),
        (3, 13),
        (4, 7),
        (5, 4),
        (6, 8),
        (7, 3),
        (8, 9),
        (9, 9),
        (10, 6),
        (11, 9),
        (12, 4),
        (13, 5),
        (14, 5),
        (15, 6),
        (16, 5),
        (17, 1),
        (18, 4),
        (19, 7),
        (20, 6),
        (21, 2),
        (22, 5),
        (23, 4),
        (24, 5),
        (25, 4),
        (26, 5),
        (27, 1),
        (28, 5),
        (29, 3),
        (30, 3),
        (31, 3),
        (32, 4),
        (33, 2),
        (34, 2),
        (35, 4),
        (36, 2),
        (37, 3),
        (38, 3),
        (39, 2),
        (40, 2),
        (41, 3),
        (42, 2),
        (43, 2),
        (44, 1),
        (45, 1),
        (46, 0),
        (47, 0),
        (48, 1),
        (49, 1),
        (50, 0),
        (51, 0),
        (60, 2),
        (61, 0),
        (65, 0),
        (66, 2),
        (68, 1),
        (69, 1),
        (75, 0),
    ];
    for (code, highest) in highest {
        let key = ApiKey::from_code(code).unwrap();
        assert_eq!(key.codec_versions(), 0..=highest, "{key}");
    }
}

struct RoundTrips;

impl RequestVisitor for RoundTrips {
    fn visit<R>(&mut self)
    where
        R: Request + Default + Clone,
        R::Response: Default + Clone,
    {
        for version in R::versions() {
            let name = R::KEY.name();
            let mut request = BytesMut::new();
            R::default()
                .encode(version, &mut request)
                .unwrap_or_else(|error| panic!("{error}"));
            let decoded = R::decode(version, request.clone().freeze())
                .unwrap_or_else(|error| panic!("{error}"));
            let mut again = BytesMut::new();
            decoded.encode(version, &mut again).unwrap();
            assert_eq!(request, again, "request of {name} version {version}");

            let mut response = BytesMut::new();
            R::encode_response(R::Response::default(), version, &mut response)
                .unwrap_or_else(|error| panic!("{error}"));
            let decoded = R::decode_response(version, response.clone().freeze()).unwrap();
            let mut again = BytesMut::new();
            R::encode_response(decoded, version, &mut again).unwrap();
            assert_eq!(response, again, "response of {name} version {version}");
        }
        let beyond = R::versions().end() + 1;
        assert!(R::decode(beyond, Bytes::from_static(&[0; 64])).is_err());
    }
}

#[test]
fn empty_messages_come_back_at_every_version() {
    each_request(&mut RoundTrips);
}

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Encoded requests with something in each array, by key and version.
fn filled_requests() -> Vec<(ApiKey, i16, Bytes)> {
    let mut out = Vec::new();
    add(
        &mut out,
        MetadataRequest::default().with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(name("a"))),
            MetadataRequestTopic::default().with_name(Some(name("b"))),
        ])),
    );
    let topic = CreatableTopic::default()
        .with_name(name("orders"))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![
            CreatableReplicaAssignment::default().with_broker_ids(vec![1.into(), 2.into()]),
        ])
        .with_configs(vec![
            CreatableTopicConfig::default()
                .with_name(text("k"))
                .with_value(Some(text("v"))),
        ]);
    add(
        &mut out,
        CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000),
    );
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(7)
        .with_committed_metadata(Some(text("m")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    add(
        &mut out,
        OffsetCommitRequest::default().with_topics(vec![topic]),
    );
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    add(
        &mut out,
        ListOffsetsRequest::default().with_topics(vec![topic]),
    );
    out
}

fn add<R: Request + Clone>(out: &mut Vec<(ApiKey, i16, Bytes)>, request: R) {
    for version in R::versions() {
        let mut body = BytesMut::new();
        request
            .clone()
            .encode(version, &mut body)
            .unwrap_or_else(|error| panic!("{error}"));
        out.push((R::KEY, version, body.freeze()));
    }
}

#[test]
fn an_old_create_topics_reads_as_the_new_one() {
    let mut body = BytesMut::new();
    body.put_i32(1);
    body.put_slice(b"\x00\x06orders");
    body.put_i32(3);
    body.put_i16(1);
    body.put_i32(0);
    body.put_i32(1);
    body.put_slice(b"\x00\x01k\x00\x01v");
    body.put_i32(500);
    let request = CreateTopicsRequest::decode(0, body.freeze()).unwrap();
    assert_eq!(request.timeout_ms, 500);
    let topic = &request.topics[0];
    assert_eq!(
        (
            topic.name.as_str(),
            topic.num_partitions,
            topic.replication_factor
        ),
        ("orders", 3, 1)
    );
    assert_eq!(topic.configs[0].value.as_deref(), Some("v"));

    let result = super::messages::create_topics_response::CreatableTopicResult::default()
        .with_name(name("orders"))
        .with_error_code(36)
        .with_error_message(Some(text("there is one")));
    let response = CreateTopicsResponse::default()
        .with_throttle_time_ms(9)
        .with_topics(vec![result]);
    let mut out = BytesMut::new();
    CreateTopicsRequest::encode_response(response, 0, &mut out).unwrap();
    assert_eq!(&out[..], b"\x00\x00\x00\x01\x00\x06orders\x00\x24");
}

#[test]
fn an_old_describe_configs_tells_defaults_from_overrides() {
    let config = |name: &'static str, source| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_config_source(source)
    };
    let result = DescribeConfigsResult::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![
            config("on.topic", 1),
            config("on.broker", 4),
            config("nowhere", 5),
        ]);
    let response = DescribeConfigsResponse::default().with_results(vec![result]);
    let mut out = BytesMut::new();
    DescribeConfigsRequest::encode_response(response, 0, &mut out).unwrap();
    let old: legacy_messages::DescribeConfigsResponse =
        kafka_protocol_legacy::protocol::Decodable::decode(&mut out.freeze(), 0).unwrap();
    let defaults: BTreeMap<_, _> = old.results[0]
        .configs
        .iter()
        .map(|config| (config.name.to_string(), config.is_default))
        .collect();
    let expected = [("nowhere", true), ("on.broker", true), ("on.topic", false)];
    assert_eq!(
        defaults,
        expected
            .into_iter()
            .map(|(name, default)| (name.to_owned(), default))
            .collect()
    );
}

#[test]
fn old_epoch_answers_leave_out_what_they_cannot_say() {
    let end = EpochEndOffset::default()
        .with_partition(1)
        .with_leader_epoch(4)
        .with_end_offset(99);
    let topic = OffsetForLeaderTopicResult::default()
        .with_topic(name("t"))
        .with_partitions(vec![end]);
    let response = OffsetForLeaderEpochResponse::default()
        .with_throttle_time_ms(3)
        .with_topics(vec![topic]);
    for version in [0, 1] {
        let mut out = BytesMut::new();
        OffsetForLeaderEpochRequest::encode_response(response.clone(), version, &mut out).unwrap();
        let decoded = OffsetForLeaderEpochRequest::decode_response(version, out.freeze()).unwrap();
        assert_eq!(decoded.topics[0].partitions[0].end_offset, 99);
    }
}

#[test]
fn the_first_offset_commit_with_a_timestamp_reads_as_the_next_one() {
    let mut body = BytesMut::new();
    body.put_slice(b"\x00\x01g\x00\x00\x00\x05\x00\x01m");
    body.put_i32(1);
    body.put_slice(b"\x00\x01t");
    body.put_i32(1);
    body.put_i32(0);
    body.put_i64(42);
    body.put_i64(1_700_000_000_000);
    body.put_slice(b"\x00\x00");
    let request = OffsetCommitRequest::decode(1, body.freeze()).unwrap();
    assert_eq!(request.generation_id_or_member_epoch, 5);
    assert_eq!(request.topics[0].partitions[0].committed_offset, 42);
}

#[test]
fn list_offsets_v0_answers_lists() {
    use legacy_messages::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
    };
    let partition = ListOffsetsPartitionResponse::default().with_old_style_offsets(vec![30, 20, 0]);
    let topic = ListOffsetsTopicResponse::default()
        .with_name(legacy_messages::TopicName("t".to_string().into()))
        .with_partitions(vec![partition]);
    let response = legacy_messages::ListOffsetsResponse::default().with_topics(vec![topic]);
    let mut out = BytesMut::new();
    legacy_messages::ListOffsetsRequest::encode_response(response, 0, &mut out).unwrap();
    let mut expected = BytesMut::new();
    expected.put_i32(1);
    expected.put_slice(b"\x00\x01t");
    expected.put_i32(1);
    expected.put_i32(0);
    expected.put_i16(0);
    expected.put_i32(3);
    [30, 20, 0]
        .into_iter()
        .for_each(|offset| expected.put_i64(offset));
    assert_eq!(out, expected);
}

#[test]
fn a_blob_longer_than_a_number_of_reads_passes_the_probe() {
    use super::messages::SyncGroupRequest;
    use super::messages::sync_group_request::SyncGroupRequestAssignment;
    let assignment =
        SyncGroupRequestAssignment::default().with_assignment(Bytes::from(vec![7; 5 << 20]));
    let request = SyncGroupRequest::default().with_assignments(vec![assignment]);
    let mut body = BytesMut::new();
    request.clone().encode(3, &mut body).unwrap();
    assert_eq!(SyncGroupRequest::decode(3, body.freeze()).unwrap(), request);
}

#[test]
fn bytes_after_a_request_are_ignored() {
    for (key, version, body) in filled_requests() {
        let mut longer = BytesMut::from(&body[..]);
        longer.put_slice(&[0xff; 9]);
        let mut decoder = Decoder {
            key,
            version,
            body: longer.freeze(),
            outcome: None,
        };
        each_request(&mut decoder);
        assert_eq!(decoder.outcome, Some(true), "{key} version {version}");
    }
}

/// Decodes bytes as one API and version, measuring what that allocates.
struct Decoder {
    key: ApiKey,
    version: i16,
    body: Bytes,
    outcome: Option<bool>,
}

impl RequestVisitor for Decoder {
    fn visit<R>(&mut self)
    where
        R: Request + Default + Clone,
        R::Response: Default + Clone,
    {
        if R::KEY != self.key || !R::versions().contains(&self.version) || self.outcome.is_some() {
            return;
        }
        let mut outcome = false;
        let used = allocation_counter::measure(|| {
            outcome = R::decode(self.version, self.body.clone()).is_ok()
        });
        self.outcome = Some(outcome);
        let limit = 1024 * (self.body.len() as u64 + 64);
        assert!(
            used.bytes_max < limit,
            "{} version {}: {} bytes",
            self.key,
            self.version,
            used.bytes_max
        );
    }
}

/// Decodes bytes as every API and version.
struct DecodeAsAll {
    body: Bytes,
}

impl RequestVisitor for DecodeAsAll {
    fn visit<R>(&mut self)
    where
        R: Request + Default + Clone,
        R::Response: Default + Clone,
    {
        for version in R::versions() {
            let used = allocation_counter::measure(|| drop(R::decode(version, self.body.clone())));
            let limit = 1024 * (self.body.len() as u64 + 64);
            assert!(
                used.bytes_max < limit,
                "{} version {version}: {} bytes",
                R::KEY,
                used.bytes_max
            );
        }
    }
}

/// Bytes that look like counts, lengths and small fields, so that they get deep into a message.
fn tokens() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just(vec![0]),
        4 => Just(vec![1]),
        3 => Just(vec![2]),
        2 => Just(vec![0, 0, 0, 1]),
        2 => Just(vec![0, 0, 0, 0]),
        2 => Just(vec![0, 1, b'x']),
        2 => Just(vec![2, b'x']),
        1 => Just(vec![0x7f, 0xff, 0xff, 0xff]),
        1 => Just(vec![0x00, 0xff, 0xff, 0xff]),
        1 => Just(vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        1 => Just(vec![0xff, 0xff, 0xff, 0x0f]),
        1 => Just(vec![0x80, 0x80, 0x80, 0x80, 0x08]),
        1 => Just(vec![0xff, 0xff]),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics_nor_takes_memory(body in tokens()) {
        each_request(&mut DecodeAsAll { body: body.into() });
    }

    #[test]
    fn damaged_requests_never_panic_nor_take_memory(seed in any::<u64>(), lie in tokens()) {
        for (key, version, body) in filled_requests() {
            let mut body = body.to_vec();
            let at = seed as usize % body.len();
            body.truncate(at);
            body.extend_from_slice(&lie);
            each_request(&mut Decoder { key, version, body: body.into(), outcome: None });
        }
    }

    #[test]
    fn flipped_bits_never_panic_nor_take_memory(seed in any::<u64>(), bit in 0u32..8) {
        for (key, version, body) in filled_requests() {
            let mut body = body.to_vec();
            let at = seed as usize % body.len();
            body[at] ^= 1 << bit;
            each_request(&mut Decoder { key, version, body: body.into(), outcome: None });
        }
    }
}

#[test]
fn every_truncation_of_a_request_is_an_error() {
    for (key, version, body) in filled_requests() {
        for len in 0..body.len() {
            let mut decoder = Decoder {
                key,
                version,
                body: body.slice(..len),
                outcome: None,
            };
            each_request(&mut decoder);
            assert_eq!(
                decoder.outcome,
                Some(false),
                "{key} version {version} cut to {len} of {}",
                body.len()
            );
        }
    }
}
