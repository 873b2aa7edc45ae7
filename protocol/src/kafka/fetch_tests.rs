//! Fetch against the schema crates, as the client that speaks to us.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use kafka_protocol_legacy::protocol::{Decodable as OldDecodable, Encodable as OldEncodable};
use proptest::prelude::*;
use uuid::Uuid;

use super::errors::ErrorCode;
use super::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartitionResponse, FetchRequest, FetchResponse,
    FetchTopicResponse, IsolationLevel, LeaderIdAndEpoch, NodeEndpoint, Piece, VERSIONS,
};
use super::legacy_messages as old;
use super::messages as new;

const ID: Uuid = Uuid::from_u128(9);
const DIRECTORY: Uuid = Uuid::from_u128(11);

fn encoded(version: i16) -> Bytes {
    let mut out = BytesMut::new();
    if version < 4 {
        let partition = old::fetch_request::FetchPartition::default()
            .with_partition(2)
            .with_fetch_offset(40)
            .with_partition_max_bytes(1 << 20);
        let topic = old::fetch_request::FetchTopic::default()
            .with_topic(old::TopicName("a".to_string().into()))
            .with_partitions(vec![partition]);
        let request = old::FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_topics(vec![topic]);
        OldEncodable::encode(&request, &mut out, version).unwrap();
        return out.freeze();
    }
    let mut partition = new::fetch_request::FetchPartition::default()
        .with_partition(2)
        .with_fetch_offset(40)
        .with_partition_max_bytes(1 << 20);
    let mut topic = new::fetch_request::FetchTopic::default();
    let mut forgotten = new::fetch_request::ForgottenTopic::default();
    let mut request = new::FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_isolation_level(1);
    if version >= 13 {
        topic = topic.with_topic_id(ID);
        forgotten = forgotten.with_topic_id(ID);
    } else {
        topic = topic.with_topic(new::TopicName("a".into()));
        forgotten = forgotten.with_topic(new::TopicName("b".into()));
    }
    if version >= 5 {
        partition = partition.with_log_start_offset(10);
    }
    if version >= 7 {
        request = request.with_session_id(3).with_session_epoch(4);
        request = request.with_forgotten_topics_data(vec![forgotten.with_partitions(vec![8, 9])]);
    }
    if version >= 9 {
        partition = partition.with_current_leader_epoch(6);
    }
    if version >= 11 {
        request = request.with_rack_id("r1".into());
    }
    if version >= 12 {
        partition = partition.with_last_fetched_epoch(5);
        request = request.with_cluster_id(Some("cluster".into()));
    }
    if version >= 15 {
        let state = new::fetch_request::ReplicaState::default()
            .with_replica_id(7.into())
            .with_replica_epoch(70);
        request = request.with_replica_state(state);
    } else {
        request = request.with_replica_id(7.into());
    }
    if version >= 17 {
        partition = partition.with_replica_directory_id(DIRECTORY);
    }
    if version >= 18 {
        partition = partition.with_high_watermark(39);
    }
    request
        .with_topics(vec![topic.with_partitions(vec![partition])])
        .encode(&mut out, version)
        .unwrap();
    out.freeze()
}

#[test]
fn requests_of_every_version_are_read() {
    for version in VERSIONS {
        let request = FetchRequest::decode(version, BytesMut::from(&encoded(version)[..])).unwrap();
        let since = |first: i16| version >= first;
        assert_eq!((request.max_wait_ms, request.min_bytes), (500, 1));
        assert_eq!(
            request.max_bytes,
            if since(4) { 50 << 20 } else { i32::MAX }
        );
        let committed = request.isolation_level == IsolationLevel::ReadCommitted;
        assert_eq!(committed, since(4));
        assert_eq!(request.replica_id, if since(4) { 7 } else { -1 });
        assert_eq!(request.replica_epoch, if since(15) { 70 } else { -1 });
        assert_eq!(
            (request.session_id, request.session_epoch),
            if since(7) { (3, 4) } else { (0, -1) }
        );
        assert_eq!(request.rack_id, if since(11) { "r1" } else { "" });
        assert_eq!(
            request.cluster_id.as_deref(),
            if since(12) { Some("cluster") } else { None }
        );
        let topic = &request.topics[0];
        let expected = if since(13) {
            ("", ID)
        } else {
            ("a", Uuid::nil())
        };
        assert_eq!((topic.name.as_str(), topic.topic_id), expected);
        let partition = &topic.partitions[0];
        assert_eq!(
            (partition.index, partition.fetch_offset, partition.max_bytes),
            (2, 40, 1 << 20)
        );
        assert_eq!(partition.log_start_offset, if since(5) { 10 } else { -1 });
        assert_eq!(
            partition.current_leader_epoch,
            if since(9) { 6 } else { -1 }
        );
        assert_eq!(partition.last_fetched_epoch, if since(12) { 5 } else { -1 });
        assert_eq!(
            partition.replica_directory_id,
            if since(17) { DIRECTORY } else { Uuid::nil() }
        );
        assert_eq!(
            partition.high_watermark,
            if since(18) { 39 } else { i64::MAX }
        );
        let forgotten: Vec<_> = request
            .forgotten_topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .collect();
        assert_eq!(forgotten.len(), if since(7) { 2 } else { 0 });
    }
}

#[test]
fn every_truncation_is_an_error() {
    for version in VERSIONS {
        let whole = encoded(version);
        for len in 0..whole.len() {
            let cut = FetchRequest::decode(version, BytesMut::from(&whole[..len]));
            assert!(
                cut.is_err(),
                "version {version} cut to {len} of {}",
                whole.len()
            );
        }
    }
}

#[test]
fn lying_counts_take_no_memory() {
    for version in VERSIONS {
        let mut body = BytesMut::from(&encoded(version)[..]);
        for at in 0..body.len() - 5 {
            let mut lie = body.clone();
            let count: &[u8] = if version >= 12 {
                &[0xff, 0xff, 0xff, 0xff, 0x0f]
            } else {
                &[0x7f, 0xff, 0xff, 0xff]
            };
            lie[at..at + count.len()].copy_from_slice(count);
            let used = allocation_counter::measure(|| drop(FetchRequest::decode(version, lie)));
            assert!(used.bytes_max < 16 * 1024, "{} bytes", used.bytes_max);
        }
        body.clear();
        assert!(FetchRequest::decode(version, body).is_err());
    }
}

fn response(records: Option<Bytes>) -> FetchResponse<Bytes> {
    let aborted = vec![AbortedTransaction {
        producer_id: 77,
        first_offset: 41,
    }];
    let good = FetchPartitionResponse {
        high_watermark: 60,
        last_stable_offset: 55,
        log_start_offset: 10,
        aborted_transactions: Some(aborted),
        preferred_read_replica: 3,
        records,
        ..FetchPartitionResponse::failed(0, ErrorCode::None)
    };
    let bad = FetchPartitionResponse {
        diverging_epoch: Some(EpochEndOffset {
            epoch: 2,
            end_offset: 33,
        }),
        current_leader: Some(LeaderIdAndEpoch {
            leader_id: 5,
            leader_epoch: 6,
        }),
        ..FetchPartitionResponse::failed(1, ErrorCode::FencedLeaderEpoch)
    };
    FetchResponse {
        throttle_time_ms: 17,
        session_id: 99,
        topics: vec![FetchTopicResponse {
            name: "a".to_owned(),
            topic_id: ID,
            partitions: vec![good, bad],
        }],
        node_endpoints: vec![NodeEndpoint {
            node_id: 5,
            host: "h".into(),
            port: 1,
            rack: Some("r".into()),
        }],
        ..FetchResponse::default()
    }
}

fn joined(pieces: Vec<Piece<Bytes>>) -> Bytes {
    let mut out = BytesMut::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) | Piece::Records(bytes) => out.put_slice(&bytes),
        }
    }
    out.freeze()
}

#[test]
fn responses_of_every_version_are_read_by_clients() {
    let records = Bytes::from_static(b"some records");
    for version in VERSIONS {
        let pieces = response(Some(records.clone())).encode(version);
        assert_eq!(
            pieces
                .iter()
                .filter(|piece| matches!(piece, Piece::Records(_)))
                .count(),
            1
        );
        let mut bytes = joined(pieces);
        if version < 4 {
            let decoded: old::FetchResponse = OldDecodable::decode(&mut bytes, version).unwrap();
            let partition = &decoded.responses[0].partitions[0];
            assert_eq!(
                (partition.high_watermark, &partition.records),
                (60, &Some(records.clone()))
            );
        } else {
            check_new(
                &new::FetchResponse::decode(&mut bytes, version).unwrap(),
                version,
                &records,
            );
        }
        assert!(
            bytes.is_empty(),
            "version {version} leaves {} bytes",
            bytes.len()
        );
    }
}

fn check_new(decoded: &new::FetchResponse, version: i16, records: &Bytes) {
    let since = |first: i16| version >= first;
    assert_eq!(
        (decoded.throttle_time_ms, decoded.session_id),
        (17, if since(7) { 99 } else { 0 })
    );
    let topic = &decoded.responses[0];
    let expected = if since(13) {
        ("", ID)
    } else {
        ("a", Uuid::nil())
    };
    assert_eq!((topic.topic.as_str(), topic.topic_id), expected);
    let [good, bad] = &topic.partitions[..] else {
        panic!("two partitions")
    };
    assert_eq!((good.high_watermark, good.last_stable_offset), (60, 55));
    assert_eq!(good.log_start_offset, if since(5) { 10 } else { -1 });
    let aborted = good.aborted_transactions.as_ref().unwrap();
    assert_eq!(
        (aborted[0].producer_id.0, aborted[0].first_offset),
        (77, 41)
    );
    assert_eq!(
        good.preferred_read_replica.0,
        if since(11) { 3 } else { -1 }
    );
    assert_eq!(good.records.as_ref(), Some(records));
    assert_eq!(
        (bad.partition_index, bad.error_code, bad.high_watermark),
        (1, 74, -1)
    );
    assert_eq!(bad.aborted_transactions, None);
    assert_eq!(bad.records.as_deref(), Some(&b""[..]), "empty, not null");
    if since(12) {
        assert_eq!(
            (bad.diverging_epoch.epoch, bad.diverging_epoch.end_offset),
            (2, 33)
        );
        assert_eq!(
            (
                bad.current_leader.leader_id.0,
                bad.current_leader.leader_epoch
            ),
            (5, 6)
        );
        assert_eq!(good.diverging_epoch, Default::default());
    }
    if since(16) {
        assert_eq!(decoded.node_endpoints[0].rack.as_deref(), Some("r"));
    }
}

#[test]
fn a_frame_says_its_whole_size() {
    for version in VERSIONS {
        for records in [None, Some(Bytes::new()), Some(Bytes::from(vec![1; 1000]))] {
            let body = joined(response(records.clone()).encode(version));
            let frame = joined(response(records).encode_frame(version, -5));
            assert_eq!(
                i32::from_be_bytes(frame[..4].try_into().unwrap()),
                frame.len() as i32 - 4
            );
            assert_eq!(i32::from_be_bytes(frame[4..8].try_into().unwrap()), -5);
            let header_len = if version >= 12 { 9 } else { 8 };
            assert_eq!(frame[header_len..], body[..]);
        }
    }
}

#[test]
fn an_error_of_the_session_is_at_the_top() {
    let failed = FetchResponse::<Bytes> {
        error: ErrorCode::InvalidFetchSessionEpoch,
        ..FetchResponse::default()
    };
    let mut bytes = joined(failed.encode(12));
    assert_eq!(
        new::FetchResponse::decode(&mut bytes, 12)
            .unwrap()
            .error_code,
        71
    );
}

proptest! {
    #[test]
    fn garbage_never_panics(version in VERSIONS, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = FetchRequest::decode(version, BytesMut::from(&body[..]));
    }
}
