//! The one table of Kafka's APIs: key, name, first flexible version, and how each message is decoded and encoded.
//!
//! A row says what the codec can do; which versions a broker advertises is the business of its dispatch table. The
//! schemas are those of the crate `kafka-protocol`: 0.18 has what Kafka 4 speaks, 0.15 the versions and the
//! inter-broker requests that Kafka 4 removed. The latter are converted where 0.18 has a later version of the same
//! message, so that a handler sees one type.
//!
//! Bytes after the end of a message are ignored, as Kafka ignores them.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Message as _;
use kafka_protocol_legacy::protocol::Message as _;

use super::bounded::{current, removed};
use super::relax::Relax;
pub use super::wire::{DecodeError, EncodeError};
use super::{legacy, legacy_messages, messages};

/// A request and its response, in all the versions that the codec knows.
///
/// The decoded strings and blobs share the memory of the whole frame: what outlives the request must be copied.
pub trait Request: Sized + Send + 'static {
    /// The API of the request.
    const KEY: ApiKey;
    /// The answer to it.
    type Response: Send + 'static;

    /// Returns the versions that the codec knows.
    fn versions() -> RangeInclusive<i16>;

    /// Decodes a request body; safe for bytes that nobody vouches for.
    fn decode(version: i16, body: Bytes) -> Result<Self, DecodeError>;

    /// Appends a response body.
    ///
    /// Errors when the response sets a field that the version lacks and a client needs to see.
    fn encode_response(
        response: Self::Response,
        version: i16,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError>;

    /// Appends a request body, for clients.
    fn encode(self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError>;

    /// Decodes a response body, for clients.
    fn decode_response(version: i16, body: Bytes) -> Result<Self::Response, DecodeError>;
}

macro_rules! apis {
    ($($code:literal $key:ident $flexible:tt $kind:ident $(($request:ident, $response:ident))?;)*) => {
        /// Names each API by its key on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "the names are Kafka's own")]
        pub enum ApiKey {
            $($key = $code,)*
        }

        impl ApiKey {
            /// Lists every API, by key.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$key,)*];

            /// Returns the API of a key, or `None` when it is not known here.
            pub fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($code => Some(ApiKey::$key),)*
                    _ => None,
                }
            }

            /// Returns Kafka's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$key => stringify!($key),)*
                }
            }

            /// Returns the first version with compact lengths and tagged fields (KIP-482), if there is one.
            pub fn first_flexible(self) -> Option<i16> {
                match self {
                    $(ApiKey::$key => flexible!($flexible),)*
                }
            }

            /// Returns the versions that the codec knows.
            pub fn codec_versions(self) -> RangeInclusive<i16> {
                match self {
                    $(ApiKey::$key => versions!($kind $(($request, $response))?),)*
                }
            }
        }

        $($(request!($kind $key $request $response);)?)*

        /// Shows each request type of the table to a test.
        #[cfg(test)]
        pub(super) fn each_request(visitor: &mut impl RequestVisitor) {
            $($(visit!($kind $request visitor);)?)*
        }
    };
}

/// Sees each request type of the table.
#[cfg(test)]
pub(super) trait RequestVisitor {
    fn visit<R>(&mut self)
    where
        R: Request + Default + Clone,
        R::Response: Default + Clone;
}

#[cfg(test)]
macro_rules! visit {
    (split $request:ident $visitor:ident) => {
        $visitor.visit::<messages::$request>();
        $visitor.visit::<legacy_messages::$request>();
    };
    (removed $request:ident $visitor:ident) => {
        $visitor.visit::<legacy_messages::$request>();
    };
    ($kind:ident $request:ident $visitor:ident) => {
        $visitor.visit::<messages::$request>();
    };
}

macro_rules! flexible {
    (never) => {
        None
    };
    ($version:literal) => {
        Some($version)
    };
}

macro_rules! versions {
    (produce) => {
        super::produce::VERSIONS
    };
    (fetch) => {
        super::fetch::VERSIONS
    };
    (split ($request:ident, $response:ident)) => {
        *<legacy_messages::$request as Request>::versions().start()..=*<messages::$request as Request>::versions().end()
    };
    ($kind:ident ($request:ident, $response:ident)) => {
        <versions!(@type $kind $request) as Request>::versions()
    };
    (@type removed $request:ident) => {
        legacy_messages::$request
    };
    (@type $kind:ident $request:ident) => {
        messages::$request
    };
}

/// Implements `Request` over one schema crate or both.
macro_rules! request {
    // Both crates: what 0.18 lacks is bridged from 0.15.
    (bridged $key:ident $request:ident $response:ident) => {
        impl Request for messages::$request {
            const KEY: ApiKey = ApiKey::$key;
            type Response = messages::$response;

            fn versions() -> RangeInclusive<i16> {
                legacy_messages::$request::VERSIONS.min..=current_versions::<Self, messages::$response>().max
            }

            fn decode(version: i16, body: Bytes) -> Result<Self, DecodeError> {
                if version >= messages::$request::VERSIONS.min {
                    return current::decode(Self::KEY, version, body);
                }
                legacy::decode_request::<legacy_messages::$request, Self>(Self::KEY, version, body)
            }

            fn encode_response(
                response: Self::Response,
                version: i16,
                out: &mut BytesMut,
            ) -> Result<(), EncodeError> {
                if version >= messages::$response::VERSIONS.min {
                    return current::encode(Self::KEY, version, &response, out);
                }
                legacy::encode_response::<legacy_messages::$response, _>(Self::KEY, version, response, out)
            }

            fn encode(self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
                if version >= messages::$request::VERSIONS.min {
                    return current::encode(Self::KEY, version, &self, out);
                }
                legacy::encode_request::<legacy_messages::$request, Self>(Self::KEY, version, self, out)
            }

            fn decode_response(version: i16, body: Bytes) -> Result<Self::Response, DecodeError> {
                if version >= messages::$response::VERSIONS.min {
                    return current::decode_trusted(Self::KEY, version, body);
                }
                legacy::decode_response::<legacy_messages::$response, _>(Self::KEY, version, body)
            }
        }
    };
    (split $key:ident $request:ident $response:ident) => {
        request!(relaxed $key $request $response);
        request!(removed $key $request $response);
    };
    (current $key:ident $request:ident $response:ident) => {
        request!(@plain messages current current_versions as_is $key $request $response);
    };
    (relaxed $key:ident $request:ident $response:ident) => {
        request!(@plain messages current current_versions relax $key $request $response);
    };
    (removed $key:ident $request:ident $response:ident) => {
        request!(@plain legacy_messages removed removed_versions as_is $key $request $response);
    };
    (@plain $messages:ident $codec:ident $versions:ident $relax:ident $key:ident $request:ident $response:ident) => {
        impl Request for $messages::$request {
            const KEY: ApiKey = ApiKey::$key;
            type Response = $messages::$response;

            fn versions() -> RangeInclusive<i16> {
                let range = $versions::<Self, Self::Response>();
                range.min..=range.max
            }

            fn decode(version: i16, body: Bytes) -> Result<Self, DecodeError> {
                $codec::decode(Self::KEY, version, body)
            }

            fn encode_response(
                response: Self::Response,
                version: i16,
                out: &mut BytesMut,
            ) -> Result<(), EncodeError> {
                let response = $relax(response, version);
                $codec::encode(Self::KEY, version, &response, out)
            }

            fn encode(self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
                $codec::encode(Self::KEY, version, &self, out)
            }

            fn decode_response(version: i16, body: Bytes) -> Result<Self::Response, DecodeError> {
                $codec::decode_trusted(Self::KEY, version, body)
            }
        }
    };
}

/// Leaves a response as its handler made it.
fn as_is<T>(response: T, _version: i16) -> T {
    response
}

/// Takes out of a response what the version lacks.
fn relax<T: Relax>(mut response: T, version: i16) -> T {
    response.relax(version);
    response
}

// key, name, first flexible version, and the schema: `current` 0.18, `relaxed` the same for responses that have to be
// trimmed for old versions, `bridged` 0.18 with older versions from 0.15,
// `split` 0.18, and 0.15 as a type of its own since the oldest version means something else (ListOffsets v0 asks for and
// answers lists of offsets), `removed` 0.15 alone, `produce` and `fetch` hand-written.
apis! {
    0 Produce 9 produce;
    1 Fetch 12 fetch;
    2 ListOffsets 6 split(ListOffsetsRequest, ListOffsetsResponse);
    3 Metadata 9 relaxed(MetadataRequest, MetadataResponse);
    4 LeaderAndIsr 4 removed(LeaderAndIsrRequest, LeaderAndIsrResponse);
    5 StopReplica 2 removed(StopReplicaRequest, StopReplicaResponse);
    6 UpdateMetadata 6 removed(UpdateMetadataRequest, UpdateMetadataResponse);
    7 ControlledShutdown 3 removed(ControlledShutdownRequest, ControlledShutdownResponse);
    8 OffsetCommit 8 bridged(OffsetCommitRequest, OffsetCommitResponse);
    9 OffsetFetch 6 bridged(OffsetFetchRequest, OffsetFetchResponse);
    10 FindCoordinator 3 current(FindCoordinatorRequest, FindCoordinatorResponse);
    11 JoinGroup 6 relaxed(JoinGroupRequest, JoinGroupResponse);
    12 Heartbeat 4 current(HeartbeatRequest, HeartbeatResponse);
    13 LeaveGroup 4 current(LeaveGroupRequest, LeaveGroupResponse);
    14 SyncGroup 4 current(SyncGroupRequest, SyncGroupResponse);
    15 DescribeGroups 5 relaxed(DescribeGroupsRequest, DescribeGroupsResponse);
    16 ListGroups 3 current(ListGroupsRequest, ListGroupsResponse);
    17 SaslHandshake never current(SaslHandshakeRequest, SaslHandshakeResponse);
    18 ApiVersions 3 current(ApiVersionsRequest, ApiVersionsResponse);
    19 CreateTopics 5 bridged(CreateTopicsRequest, CreateTopicsResponse);
    20 DeleteTopics 4 bridged(DeleteTopicsRequest, DeleteTopicsResponse);
    21 DeleteRecords 2 current(DeleteRecordsRequest, DeleteRecordsResponse);
    22 InitProducerId 2 current(InitProducerIdRequest, InitProducerIdResponse);
    23 OffsetForLeaderEpoch 4 bridged(OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse);
    24 AddPartitionsToTxn 3 current(AddPartitionsToTxnRequest, AddPartitionsToTxnResponse);
    25 AddOffsetsToTxn 3 current(AddOffsetsToTxnRequest, AddOffsetsToTxnResponse);
    26 EndTxn 3 current(EndTxnRequest, EndTxnResponse);
    27 WriteTxnMarkers 1 bridged(WriteTxnMarkersRequest, WriteTxnMarkersResponse);
    28 TxnOffsetCommit 3 current(TxnOffsetCommitRequest, TxnOffsetCommitResponse);
    29 DescribeAcls 2 bridged(DescribeAclsRequest, DescribeAclsResponse);
    30 CreateAcls 2 bridged(CreateAclsRequest, CreateAclsResponse);
    31 DeleteAcls 2 bridged(DeleteAclsRequest, DeleteAclsResponse);
    32 DescribeConfigs 4 bridged(DescribeConfigsRequest, DescribeConfigsResponse);
    33 AlterConfigs 2 current(AlterConfigsRequest, AlterConfigsResponse);
    34 AlterReplicaLogDirs 2 bridged(AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse);
    35 DescribeLogDirs 2 bridged(DescribeLogDirsRequest, DescribeLogDirsResponse);
    36 SaslAuthenticate 2 current(SaslAuthenticateRequest, SaslAuthenticateResponse);
    37 CreatePartitions 2 current(CreatePartitionsRequest, CreatePartitionsResponse);
    38 CreateDelegationToken 2 bridged(CreateDelegationTokenRequest, CreateDelegationTokenResponse);
    39 RenewDelegationToken 2 bridged(RenewDelegationTokenRequest, RenewDelegationTokenResponse);
    40 ExpireDelegationToken 2 bridged(ExpireDelegationTokenRequest, ExpireDelegationTokenResponse);
    41 DescribeDelegationToken 2 bridged(DescribeDelegationTokenRequest, DescribeDelegationTokenResponse);
    42 DeleteGroups 2 current(DeleteGroupsRequest, DeleteGroupsResponse);
    43 ElectLeaders 2 current(ElectLeadersRequest, ElectLeadersResponse);
    44 IncrementalAlterConfigs 1 current(IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse);
    45 AlterPartitionReassignments 0
        current(AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse);
    46 ListPartitionReassignments 0
        current(ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse);
    47 OffsetDelete never current(OffsetDeleteRequest, OffsetDeleteResponse);
    48 DescribeClientQuotas 1 current(DescribeClientQuotasRequest, DescribeClientQuotasResponse);
    49 AlterClientQuotas 1 current(AlterClientQuotasRequest, AlterClientQuotasResponse);
    50 DescribeUserScramCredentials 0
        current(DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse);
    51 AlterUserScramCredentials 0
        current(AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse);
    55 DescribeQuorum 0 current(DescribeQuorumRequest, DescribeQuorumResponse);
    56 AlterPartition 0 removed(AlterPartitionRequest, AlterPartitionResponse);
    57 UpdateFeatures 0 current(UpdateFeaturesRequest, UpdateFeaturesResponse);
    60 DescribeCluster 0 relaxed(DescribeClusterRequest, DescribeClusterResponse);
    61 DescribeProducers 0 current(DescribeProducersRequest, DescribeProducersResponse);
    64 UnregisterBroker 0 current(UnregisterBrokerRequest, UnregisterBrokerResponse);
    65 DescribeTransactions 0 current(DescribeTransactionsRequest, DescribeTransactionsResponse);
    66 ListTransactions 0 current(ListTransactionsRequest, ListTransactionsResponse);
    67 AllocateProducerIds 0 current(AllocateProducerIdsRequest, AllocateProducerIdsResponse);
    68 ConsumerGroupHeartbeat 0 current(ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse);
    69 ConsumerGroupDescribe 0 current(ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse);
    71 GetTelemetrySubscriptions 0
        current(GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse);
    72 PushTelemetry 0 current(PushTelemetryRequest, PushTelemetryResponse);
    74 ListConfigResources 0 current(ListConfigResourcesRequest, ListConfigResourcesResponse);
    75 DescribeTopicPartitions 0
        current(DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse);
    76 ShareGroupHeartbeat 0 current(ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse);
    77 ShareGroupDescribe 0 current(ShareGroupDescribeRequest, ShareGroupDescribeResponse);
    78 ShareFetch 0 current(ShareFetchRequest, ShareFetchResponse);
    79 ShareAcknowledge 0 current(ShareAcknowledgeRequest, ShareAcknowledgeResponse);
    90 DescribeShareGroupOffsets 0
        current(DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse);
    91 AlterShareGroupOffsets 0 current(AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse);
    92 DeleteShareGroupOffsets 0 current(DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse);
}

/// Returns the versions that both of request and response have in 0.18.
fn current_versions<A, B>() -> kafka_protocol::protocol::VersionRange
where
    A: kafka_protocol::protocol::Message,
    B: kafka_protocol::protocol::Message,
{
    A::VERSIONS.intersect(&B::VERSIONS)
}

/// Returns the versions that both of request and response have in 0.15.
fn removed_versions<A, B>() -> kafka_protocol_legacy::protocol::VersionRange
where
    A: kafka_protocol_legacy::protocol::Message,
    B: kafka_protocol_legacy::protocol::Message,
{
    A::VERSIONS.intersect(&B::VERSIONS)
}

impl ApiKey {
    /// Returns the key on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Tells whether this version has compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.first_flexible().is_some_and(|first| version >= first)
    }

    /// Returns the version of the request header: 2 for flexible requests, else 1, but 0 for ControlledShutdown v0.
    pub fn request_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ControlledShutdown if version == 0 => 0,
            _ if self.is_flexible(version) => 2,
            _ => 1,
        }
    }

    /// Returns the version of the response header: 1 for flexible versions, else 0; always 0 for ApiVersions (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != ApiKey::ApiVersions && self.is_flexible(version))
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
