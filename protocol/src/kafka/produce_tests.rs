//! Produce against the schema crates, as the client that speaks to us.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use kafka_protocol_legacy::protocol::{Decodable as OldDecodable, Encodable as OldEncodable};
use proptest::prelude::*;
use uuid::Uuid;

use super::errors::ErrorCode;
use super::legacy_messages as old;
use super::messages::{self as new, ProduceRequest as Request, TransactionalId};
use super::produce::{
    LeaderIdAndEpoch, NodeEndpoint, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopicResponse, RecordErrorMessage, VERSIONS,
};

const ID: Uuid = Uuid::from_u128(7);

/// Two topics, of which the first has a partition with null records.
fn encoded(version: i16) -> Bytes {
    let mut out = BytesMut::new();
    if version < 3 {
        let data = |index, records| {
            old::produce_request::PartitionProduceData::default()
                .with_index(index)
                .with_records(records)
        };
        let topic = |name: &'static str, partitions| {
            let name = old::TopicName(name.to_string().into());
            old::produce_request::TopicProduceData::default()
                .with_name(name)
                .with_partition_data(partitions)
        };
        let records = Some(Bytes::from_static(b"records"));
        let request = old::ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(1500)
            .with_topic_data(vec![
                topic("a", vec![data(3, records), data(4, None)]),
                topic("b", vec![]),
            ]);
        OldEncodable::encode(&request, &mut out, version).unwrap();
        return out.freeze();
    }
    let data = |index, records| {
        let tag = Bytes::from_static(b"later");
        let data = new::produce_request::PartitionProduceData::default()
            .with_index(index)
            .with_records(records);
        if version >= 9 {
            data.with_unknown_tagged_field(77, tag)
        } else {
            data
        }
    };
    let topic = |name: &'static str, partitions| {
        let topic =
            new::produce_request::TopicProduceData::default().with_partition_data(partitions);
        if version >= 13 {
            topic.with_topic_id(ID)
        } else {
            topic.with_name(new::TopicName(name.into()))
        }
    };
    let records = Some(Bytes::from_static(b"records"));
    let request = Request::default()
        .with_transactional_id(Some(TransactionalId("txn".into())))
        .with_acks(-1)
        .with_timeout_ms(1500)
        .with_topic_data(vec![
            topic("a", vec![data(3, records), data(4, None)]),
            topic("b", vec![]),
        ]);
    request.encode(&mut out, version).unwrap();
    out.freeze()
}

#[test]
fn requests_of_every_version_are_read() {
    for version in VERSIONS {
        let request =
            ProduceRequest::decode(version, BytesMut::from(&encoded(version)[..])).unwrap();
        assert_eq!(
            request.transactional_id.as_deref(),
            if version >= 3 { Some("txn") } else { None }
        );
        assert_eq!((request.acks, request.timeout_ms), (-1, 1500));
        let first = &request.topics[0];
        let expected = if version >= 13 {
            ("", ID)
        } else {
            ("a", Uuid::nil())
        };
        assert_eq!((first.name.as_str(), first.topic_id), expected);
        assert_eq!(first.partitions[0].index, 3);
        assert_eq!(
            first.partitions[0].records.as_deref(),
            Some(&b"records"[..])
        );
        assert_eq!(first.partitions[1].records, None);
        assert!(request.topics[1].partitions.is_empty());
    }
}

#[test]
fn records_come_out_without_a_copy() {
    let frame = BytesMut::from(&encoded(9)[..]);
    let range = frame.as_ptr_range();
    let mut request = ProduceRequest::decode(9, frame).unwrap();
    let records = request.topics[0].partitions[0].records.as_mut().unwrap();
    assert!(range.contains(&records.as_ptr()));
    records[0] = b'R';
    assert_eq!(&records[..], b"Records");
}

#[test]
fn every_truncation_is_an_error() {
    for version in VERSIONS {
        let whole = encoded(version);
        for len in 0..whole.len() {
            let cut = ProduceRequest::decode(version, BytesMut::from(&whole[..len]));
            assert!(
                cut.is_err(),
                "version {version} cut to {len} of {}",
                whole.len()
            );
        }
    }
}

#[test]
fn unknown_versions_are_refused() {
    assert!(ProduceRequest::decode(14, BytesMut::from(&encoded(13)[..])).is_err());
    assert!(ProduceRequest::decode(-1, BytesMut::from(&encoded(0)[..])).is_err());
}

#[test]
fn lying_counts_take_no_memory() {
    for version in VERSIONS {
        let mut body = BytesMut::new();
        match version {
            0..3 => {}
            3..9 => body.put_i16(-1),
            _ => body.put_u8(0),
        }
        body.put_i16(1);
        body.put_i32(1000);
        body.put_slice(if version >= 9 {
            &[0xff, 0xff, 0xff, 0xff, 0x0f]
        } else {
            &[0x7f, 0xff, 0xff, 0xff]
        });
        body.put_slice(&[0; 100]);
        let used =
            allocation_counter::measure(|| assert!(ProduceRequest::decode(version, body).is_err()));
        assert!(used.bytes_max < 4096, "{} bytes", used.bytes_max);
    }
}

fn response() -> ProduceResponse {
    let failed = ProducePartitionResponse {
        record_errors: vec![RecordErrorMessage {
            batch_index: 2,
            message: Some("no key".to_owned()),
        }],
        error_message: Some("refused".to_owned()),
        current_leader: Some(LeaderIdAndEpoch {
            leader_id: 5,
            leader_epoch: 6,
        }),
        ..ProducePartitionResponse::failed(1, ErrorCode::NotLeaderOrFollower)
    };
    let partitions = vec![ProducePartitionResponse::appended(0, 100, 1234, 50), failed];
    ProduceResponse {
        topics: vec![ProduceTopicResponse {
            name: "a".to_owned(),
            topic_id: ID,
            partitions,
        }],
        throttle_time_ms: 17,
        node_endpoints: vec![NodeEndpoint {
            node_id: 5,
            host: "h".to_owned(),
            port: 9092,
            rack: None,
        }],
    }
}

#[test]
fn responses_of_every_version_are_read_by_clients() {
    for version in VERSIONS {
        let mut out = BytesMut::new();
        response().encode(version, &mut out);
        let mut bytes = out.freeze();
        if version < 3 {
            let decoded: old::ProduceResponse = OldDecodable::decode(&mut bytes, version).unwrap();
            let partition = &decoded.responses[0].partition_responses[0];
            assert_eq!((partition.base_offset, partition.error_code), (100, 0));
            assert_eq!(
                partition.log_append_time_ms,
                if version >= 2 { 1234 } else { -1 }
            );
            assert_eq!(decoded.throttle_time_ms, if version >= 1 { 17 } else { 0 });
        } else {
            check_new(
                new::ProduceResponse::decode(&mut bytes, version).unwrap(),
                version,
            );
        }
        assert!(
            bytes.is_empty(),
            "version {version} leaves {} bytes",
            bytes.len()
        );
    }
}

fn check_new(decoded: new::ProduceResponse, version: i16) {
    let topic = &decoded.responses[0];
    assert_eq!(topic.name.as_str(), if version >= 13 { "" } else { "a" });
    assert_eq!(topic.topic_id, if version >= 13 { ID } else { Uuid::nil() });
    let [good, bad] = &topic.partition_responses[..] else {
        panic!("two partitions")
    };
    assert_eq!((good.base_offset, good.log_append_time_ms), (100, 1234));
    assert_eq!(good.log_start_offset, if version >= 5 { 50 } else { -1 });
    assert_eq!((bad.index, bad.error_code), (1, 6));
    if version >= 8 {
        assert_eq!(bad.record_errors[0].batch_index, 2);
        assert_eq!(
            bad.record_errors[0].batch_index_error_message.as_deref(),
            Some("no key")
        );
        assert_eq!(bad.error_message.as_deref(), Some("refused"));
    }
    if version >= 10 {
        assert_eq!(
            (
                bad.current_leader.leader_id.0,
                bad.current_leader.leader_epoch
            ),
            (5, 6)
        );
        assert_eq!(
            (
                decoded.node_endpoints[0].host.as_str(),
                decoded.node_endpoints[0].port
            ),
            ("h", 9092)
        );
    }
    assert_eq!(decoded.throttle_time_ms, 17);
}

proptest! {
    #[test]
    fn garbage_never_panics(version in VERSIONS, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ProduceRequest::decode(version, BytesMut::from(&body[..]));
    }

    #[test]
    fn flipped_bytes_never_panic(version in VERSIONS, at in any::<usize>(), byte in any::<u8>()) {
        let mut body = BytesMut::from(&encoded(version)[..]);
        let at = at % body.len();
        body[at] = byte;
        let used = allocation_counter::measure(|| drop(ProduceRequest::decode(version, body)));
        prop_assert!(used.bytes_max < 16 * 1024);
    }
}
