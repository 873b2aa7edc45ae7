//! What is fuzzed: each function takes any bytes, and panics when it finds a mistake in how they are read.
//!
//! `protocol/tests/fuzz_targets.rs` runs the same functions with any compiler.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use troupe_protocol::kafka::api::{ApiKey, Request as _};
use troupe_protocol::kafka::fetch::FetchRequest;
use troupe_protocol::kafka::frame::{RequestHeader, peek_size};
use troupe_protocol::kafka::produce::ProduceRequest;
use troupe_protocol::kafka::records::batch::{Batch, batches};
use troupe_protocol::kafka::records::retain;
use troupe_protocol::kafka::records::validate::{ProduceRules, validate_produced};
use troupe_protocol::kafka::{legacy_messages, messages};
use troupe_protocol::zookeeper::connect::ConnectRequest;
use troupe_protocol::zookeeper::frame::{DEFAULT_MAX_FRAME, split_frame};
use troupe_protocol::zookeeper::requests::Request;

/// The longest Kafka request, and the most that the records of a batch may decompress to.
const LIMIT: usize = 1 << 20;
/// Where a batch has its CRC, and where what that covers begins.
const CRC_AT: usize = 17;
const CRC_END: usize = 21;

/// What a ZooKeeper client sends: frames, each read as a handshake and as a request.
pub fn zookeeper(data: &[u8]) {
    let mut stream = BytesMut::from(data);
    while let Ok(Some(frame)) = split_frame(&mut stream, DEFAULT_MAX_FRAME) {
        if let Ok(handshake) = ConnectRequest::decode(frame.clone()) {
            let again = ConnectRequest::decode(handshake.to_frame().slice(4..));
            assert_eq!(again.as_ref(), Ok(&handshake), "a handshake comes back");
        }
        let has_header = frame.len() >= 8;
        let request = Request::decode(frame);
        assert_eq!(request.is_ok(), has_header, "a bad record has an xid");
    }
}

/// What a Kafka client sends: frames, each with a header and a body.
pub fn kafka_requests(data: &[u8]) {
    let mut stream = BytesMut::from(data);
    while let Ok(Some(size)) = peek_size(&stream, LIMIT) {
        if stream.len() < 4 + size {
            return;
        }
        stream.advance(4);
        let Ok((header, body)) = RequestHeader::parse(stream.split_to(size)) else {
            continue;
        };
        if let Some(key) = ApiKey::from_code(header.api_key) {
            decode(key, header.api_version, body);
        }
    }
}

/// Calls a macro with all requests that are read by the schemas.
macro_rules! with_requests {
    ($callback:ident $($arguments:ident)*) => {
        $callback! { $($arguments)*;
            messages::ListOffsetsRequest
            legacy_messages::ListOffsetsRequest
            messages::MetadataRequest
            legacy_messages::LeaderAndIsrRequest
            legacy_messages::StopReplicaRequest
            legacy_messages::UpdateMetadataRequest
            legacy_messages::ControlledShutdownRequest
            messages::OffsetCommitRequest
            messages::OffsetFetchRequest
            messages::FindCoordinatorRequest
            messages::JoinGroupRequest
            messages::HeartbeatRequest
            messages::LeaveGroupRequest
            messages::SyncGroupRequest
            messages::DescribeGroupsRequest
            messages::ListGroupsRequest
            messages::SaslHandshakeRequest
            messages::ApiVersionsRequest
            messages::CreateTopicsRequest
            messages::DeleteTopicsRequest
            messages::DeleteRecordsRequest
            messages::InitProducerIdRequest
            messages::OffsetForLeaderEpochRequest
            messages::AddPartitionsToTxnRequest
            messages::AddOffsetsToTxnRequest
            messages::EndTxnRequest
            messages::WriteTxnMarkersRequest
            messages::TxnOffsetCommitRequest
            messages::DescribeAclsRequest
            messages::CreateAclsRequest
            messages::DeleteAclsRequest
            messages::DescribeConfigsRequest
            messages::AlterConfigsRequest
            messages::AlterReplicaLogDirsRequest
            messages::DescribeLogDirsRequest
            messages::SaslAuthenticateRequest
            messages::CreatePartitionsRequest
            messages::CreateDelegationTokenRequest
            messages::RenewDelegationTokenRequest
            messages::ExpireDelegationTokenRequest
            messages::DescribeDelegationTokenRequest
            messages::DeleteGroupsRequest
            messages::ElectLeadersRequest
            messages::IncrementalAlterConfigsRequest
            messages::AlterPartitionReassignmentsRequest
            messages::ListPartitionReassignmentsRequest
            messages::OffsetDeleteRequest
            messages::DescribeClientQuotasRequest
            messages::AlterClientQuotasRequest
            messages::DescribeUserScramCredentialsRequest
            messages::AlterUserScramCredentialsRequest
            messages::DescribeQuorumRequest
            legacy_messages::AlterPartitionRequest
            messages::UpdateFeaturesRequest
            messages::DescribeClusterRequest
            messages::DescribeProducersRequest
            messages::UnregisterBrokerRequest
            messages::DescribeTransactionsRequest
            messages::ListTransactionsRequest
            messages::AllocateProducerIdsRequest
            messages::ConsumerGroupHeartbeatRequest
            messages::ConsumerGroupDescribeRequest
            messages::GetTelemetrySubscriptionsRequest
            messages::PushTelemetryRequest
            messages::ListConfigResourcesRequest
            messages::DescribeTopicPartitionsRequest
            messages::ShareGroupHeartbeatRequest
            messages::ShareGroupDescribeRequest
            messages::ShareFetchRequest
            messages::ShareAcknowledgeRequest
            messages::DescribeShareGroupOffsetsRequest
            messages::AlterShareGroupOffsetsRequest
            messages::DeleteShareGroupOffsetsRequest
        }
    };
}

/// Reads a body; where that went well, writing and reading it again must go well too, if the version can say it.
macro_rules! decode {
    ($key:ident $version:ident $body:ident; $($messages:ident::$request:ident)*) => {
        $({
            type R = $messages::$request;
            if R::KEY == $key && R::versions().contains(&$version) {
                let mut again = BytesMut::new();
                if let Ok(request) = R::decode($version, $body.clone())
                    && request.encode($version, &mut again).is_ok()
                {
                    let read = R::decode($version, again.freeze());
                    assert!(read.is_ok(), "{} version {}: {read:?}", $key, $version);
                }
            }
        })*
    };
}

/// Writes an empty request of every kind and version, as it is sent.
macro_rules! encode {
    ($requests:ident; $($messages:ident::$request:ident)*) => {
        $({
            type R = $messages::$request;
            for version in R::versions() {
                let mut body = BytesMut::new();
                if R::default().encode(version, &mut body).is_ok() {
                    $requests.push(with_header(R::KEY, version, &body));
                }
            }
        })*
    };
}

fn decode(key: ApiKey, version: i16, body: BytesMut) {
    match key {
        ApiKey::Produce => drop(ProduceRequest::decode(version, body)),
        ApiKey::Fetch => drop(FetchRequest::decode(version, body)),
        _ => decode_by_schema(key, version, &body.freeze()),
    }
}

fn decode_by_schema(key: ApiKey, version: i16, body: &Bytes) {
    with_requests!(decode key version body);
}

/// What to begin with: a request without content of every kind and version.
pub fn empty_kafka_requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    with_requests!(encode requests);
    requests
}

/// Returns the frame of a request.
pub fn with_header(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_i16(key.code());
    frame.put_i16(version);
    frame.put_i32(7);
    if key.request_header_version(version) >= 1 {
        frame.put_i16(1);
        frame.put_slice(b"c");
    }
    if key.request_header_version(version) >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let size = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    [&size.to_be_bytes()[..], &frame].concat()
}

/// What a producer sends, or a log has: batches. Their CRCs are put right first, or none would get past that.
pub fn record_batches(data: &[u8]) {
    let mut bytes = data.to_vec();
    let sizes: Vec<usize> = batches(data)
        .map_while(Result::ok)
        .map(|batch| batch.header().size)
        .collect();
    let mut rest = &mut bytes[..];
    for size in sizes {
        let (batch, after) = rest.split_at_mut(size);
        let crc = crc32c::crc32c(&batch[CRC_END..]);
        batch[CRC_AT..CRC_END].copy_from_slice(&crc.to_be_bytes());
        rest = after;
    }
    let rules = ProduceRules {
        max_uncompressed_bytes: LIMIT,
        ..ProduceRules::default()
    };
    let valid = validate_produced(&bytes, &rules);
    for (index, batch) in batches(&bytes).map_while(Result::ok).enumerate() {
        let count = records(&batch);
        if let (0, Ok(header)) = (index, &valid) {
            let expected = usize::try_from(header.record_count).ok();
            assert_eq!(count, expected, "a valid batch can be read");
        }
    }
}

/// Reads the records of a batch in both ways; `None` if that fails.
fn records(batch: &Batch<'_>) -> Option<usize> {
    let owned: Option<Vec<_>> = match batch.records(LIMIT) {
        Ok(records) => records.collect::<Result<_, _>>().ok(),
        Err(_) => None,
    };
    let unpacked = retain::unpack(batch, LIMIT);
    let views: Option<Vec<_>> = match &unpacked {
        Ok(unpacked) => retain::views(batch.header(), unpacked)
            .collect::<Result<_, _>>()
            .ok(),
        Err(_) => None,
    };
    for (view, _) in views.iter().flatten() {
        assert!(view.headers().count() <= LIMIT);
    }
    if let (Some(owned), Some(views)) = (&owned, &views) {
        assert_eq!(owned.len(), views.len(), "both ways find the same records");
    }
    owned.and(views).map(|views| views.len())
}
