//! Kafka's error codes: one table from which the enum and its names come.
//!
//! Source: the protocol guide's list of error codes.

use std::fmt;

macro_rules! error_codes {
    ($($code:literal, $variant:ident, $name:literal, $retriable:literal, $message:literal;)*) => {
        /// Names each error that a Kafka reply can carry; the value is the code on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = $message]
                $variant = $code,
            )*
        }

        impl ErrorCode {
            /// Lists every code, ascending.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// Returns the error of this code, or `None` when the code is not known here.
            pub fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$variant),)*
                    _ => None,
                }
            }

            /// Returns Kafka's name, as `UNKNOWN_TOPIC_OR_PARTITION`.
            pub fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $name,)*
                }
            }

            /// Tells whether clients may send the request again unchanged.
            pub fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$variant => $retriable,)*
                }
            }

            /// Returns one sentence about the error, for replies that have room for a message.
            pub fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $message,)*
                }
            }
        }
    };
}

error_codes! {
    -1, UnknownServerError, "UNKNOWN_SERVER_ERROR", false, "The broker met an error that it did not expect.";
    0, None, "NONE", false, "No error.";
    1, OffsetOutOfRange, "OFFSET_OUT_OF_RANGE", false, "The offset is outside of the range that the partition holds.";
    2, CorruptMessage, "CORRUPT_MESSAGE", true, "The record batch does not match its checksum, or its size is wrong.";
    3, UnknownTopicOrPartition, "UNKNOWN_TOPIC_OR_PARTITION", true, "This broker does not know the topic or partition.";
    4, InvalidFetchSize, "INVALID_FETCH_SIZE", false, "The fetch size is not valid.";
    5, LeaderNotAvailable, "LEADER_NOT_AVAILABLE", true, "The partition has no leader at present.";
    6, NotLeaderOrFollower, "NOT_LEADER_OR_FOLLOWER", true, "This broker is not the leader or follower that the request is for.";
    7, RequestTimedOut, "REQUEST_TIMED_OUT", true, "The request did not finish in its time.";
    8, BrokerNotAvailable, "BROKER_NOT_AVAILABLE", false, "The broker is not available.";
    9, ReplicaNotAvailable, "REPLICA_NOT_AVAILABLE", true, "A replica of the partition is not available.";
    10, MessageTooLarge, "MESSAGE_TOO_LARGE", false, "The record batch is larger than the topic accepts.";
    11, StaleControllerEpoch, "STALE_CONTROLLER_EPOCH", false, "The controller moved to another broker.";
    12, OffsetMetadataTooLarge, "OFFSET_METADATA_TOO_LARGE", false, "The metadata of the committed offset is too long.";
    13, NetworkException, "NETWORK_EXCEPTION", true, "The connection closed before an answer came.";
    14, CoordinatorLoadInProgress, "COORDINATOR_LOAD_IN_PROGRESS", true, "The coordinator is still loading its state.";
    15, CoordinatorNotAvailable, "COORDINATOR_NOT_AVAILABLE", true, "The coordinator is not available.";
    16, NotCoordinator, "NOT_COORDINATOR", true, "This broker is not the coordinator of that group or transaction.";
    17, InvalidTopicException, "INVALID_TOPIC_EXCEPTION", false, "The topic name is not legal.";
    18, RecordListTooLarge, "RECORD_LIST_TOO_LARGE", false, "The records do not fit into one segment.";
    19, NotEnoughReplicas, "NOT_ENOUGH_REPLICAS", true, "Fewer replicas are in sync than min.insync.replicas asks for.";
    20, NotEnoughReplicasAfterAppend, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true, "The records were written, but to fewer replicas than min.insync.replicas asks for.";
    21, InvalidRequiredAcks, "INVALID_REQUIRED_ACKS", false, "The required acks must be -1, 0 or 1.";
    22, IllegalGeneration, "ILLEGAL_GENERATION", false, "The generation of the group is not the current one.";
    23, InconsistentGroupProtocol, "INCONSISTENT_GROUP_PROTOCOL", false, "The protocols of the member do not fit those of the group.";
    24, InvalidGroupId, "INVALID_GROUP_ID", false, "The group id is not valid.";
    25, UnknownMemberId, "UNKNOWN_MEMBER_ID", false, "The coordinator does not know this member.";
    26, InvalidSessionTimeout, "INVALID_SESSION_TIMEOUT", false, "The session timeout is outside of the range that the broker allows.";
    27, RebalanceInProgress, "REBALANCE_IN_PROGRESS", false, "The group is rebalancing.";
    28, InvalidCommitOffsetSize, "INVALID_COMMIT_OFFSET_SIZE", false, "The committed offsets are too large together.";
    29, TopicAuthorizationFailed, "TOPIC_AUTHORIZATION_FAILED", false, "Not allowed on this topic.";
    30, GroupAuthorizationFailed, "GROUP_AUTHORIZATION_FAILED", false, "Not allowed on this group.";
    31, ClusterAuthorizationFailed, "CLUSTER_AUTHORIZATION_FAILED", false, "Not allowed on the cluster.";
    32, InvalidTimestamp, "INVALID_TIMESTAMP", false, "The timestamp of a record is outside of what the topic accepts.";
    33, UnsupportedSaslMechanism, "UNSUPPORTED_SASL_MECHANISM", false, "The broker does not offer this SASL mechanism.";
    34, IllegalSaslState, "ILLEGAL_SASL_STATE", false, "The request does not fit the state of the SASL exchange.";
    35, UnsupportedVersion, "UNSUPPORTED_VERSION", false, "The broker does not support this version.";
    36, TopicAlreadyExists, "TOPIC_ALREADY_EXISTS", false, "A topic of this name exists.";
    37, InvalidPartitions, "INVALID_PARTITIONS", false, "The number of partitions is not valid.";
    38, InvalidReplicationFactor, "INVALID_REPLICATION_FACTOR", false, "The replication factor is not valid, or larger than the number of brokers.";
    39, InvalidReplicaAssignment, "INVALID_REPLICA_ASSIGNMENT", false, "The replica assignment is not valid.";
    40, InvalidConfig, "INVALID_CONFIG", false, "The configuration is not valid.";
    41, NotController, "NOT_CONTROLLER", true, "This broker is not the controller.";
    42, InvalidRequest, "INVALID_REQUEST", false, "The request is not valid.";
    43, UnsupportedForMessageFormat, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false, "The broker does not support this operation for the message format in use.";
    44, PolicyViolation, "POLICY_VIOLATION", false, "The request breaks a policy of the broker.";
    45, OutOfOrderSequenceNumber, "OUT_OF_ORDER_SEQUENCE_NUMBER", false, "The sequence number does not follow the one before.";
    46, DuplicateSequenceNumber, "DUPLICATE_SEQUENCE_NUMBER", false, "The sequence number was seen before.";
    47, InvalidProducerEpoch, "INVALID_PRODUCER_EPOCH", false, "The producer epoch is older than the current one.";
    48, InvalidTxnState, "INVALID_TXN_STATE", false, "The transaction is in a state that does not allow this.";
    49, InvalidProducerIdMapping, "INVALID_PRODUCER_ID_MAPPING", false, "The producer id does not belong to this transactional id.";
    50, InvalidTransactionTimeout, "INVALID_TRANSACTION_TIMEOUT", false, "The transaction timeout is larger than the broker allows.";
    51, ConcurrentTransactions, "CONCURRENT_TRANSACTIONS", true, "Another operation on this transaction is under way.";
    52, TransactionCoordinatorFenced, "TRANSACTION_COORDINATOR_FENCED", false, "A newer transaction coordinator has taken over.";
    53, TransactionalIdAuthorizationFailed, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false, "Not allowed on this transactional id.";
    54, SecurityDisabled, "SECURITY_DISABLED", false, "Security features are off.";
    55, OperationNotAttempted, "OPERATION_NOT_ATTEMPTED", false, "The operation was not attempted because another one of the request failed.";
    56, KafkaStorageError, "KAFKA_STORAGE_ERROR", true, "The disk failed under the log of this partition.";
    57, LogDirNotFound, "LOG_DIR_NOT_FOUND", false, "The log directory is not one of this broker.";
    58, SaslAuthenticationFailed, "SASL_AUTHENTICATION_FAILED", false, "The credentials were not accepted.";
    59, UnknownProducerId, "UNKNOWN_PRODUCER_ID", false, "The broker does not know the producer id for this partition.";
    60, ReassignmentInProgress, "REASSIGNMENT_IN_PROGRESS", false, "A reassignment of the partition is under way.";
    61, DelegationTokenAuthDisabled, "DELEGATION_TOKEN_AUTH_DISABLED", false, "Delegation tokens are off.";
    62, DelegationTokenNotFound, "DELEGATION_TOKEN_NOT_FOUND", false, "The broker does not know this delegation token.";
    63, DelegationTokenOwnerMismatch, "DELEGATION_TOKEN_OWNER_MISMATCH", false, "The delegation token belongs to another owner.";
    64, DelegationTokenRequestNotAllowed, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false, "Delegation tokens cannot be used over this connection.";
    65, DelegationTokenAuthorizationFailed, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false, "Not allowed on delegation tokens.";
    66, DelegationTokenExpired, "DELEGATION_TOKEN_EXPIRED", false, "The delegation token has expired.";
    67, InvalidPrincipalType, "INVALID_PRINCIPAL_TYPE", false, "The type of the principal is not supported.";
    68, NonEmptyGroup, "NON_EMPTY_GROUP", false, "The group still has members.";
    69, GroupIdNotFound, "GROUP_ID_NOT_FOUND", false, "The group does not exist.";
    70, FetchSessionIdNotFound, "FETCH_SESSION_ID_NOT_FOUND", true, "The broker does not know this fetch session.";
    71, InvalidFetchSessionEpoch, "INVALID_FETCH_SESSION_EPOCH", true, "The epoch of the fetch session is not the expected one.";
    72, ListenerNotFound, "LISTENER_NOT_FOUND", true, "The leader has no listener that matches the one of this request.";
    73, TopicDeletionDisabled, "TOPIC_DELETION_DISABLED", false, "Deletion of topics is off.";
    74, FencedLeaderEpoch, "FENCED_LEADER_EPOCH", true, "The leader epoch of the request is older than the broker's.";
    75, UnknownLeaderEpoch, "UNKNOWN_LEADER_EPOCH", true, "The leader epoch of the request is newer than the broker's.";
    76, UnsupportedCompressionType, "UNSUPPORTED_COMPRESSION_TYPE", false, "The compression type is not supported here.";
    77, StaleBrokerEpoch, "STALE_BROKER_EPOCH", false, "The broker epoch is older than the registered one.";
    78, OffsetNotAvailable, "OFFSET_NOT_AVAILABLE", true, "The offset is not available until the high watermark has caught up.";
    79, MemberIdRequired, "MEMBER_ID_REQUIRED", false, "The member has to join again with the member id given here.";
    80, PreferredLeaderNotAvailable, "PREFERRED_LEADER_NOT_AVAILABLE", true, "The preferred leader is not available.";
    81, GroupMaxSizeReached, "GROUP_MAX_SIZE_REACHED", false, "The group has reached its largest size.";
    82, FencedInstanceId, "FENCED_INSTANCE_ID", false, "Another member took over this group instance id.";
    83, EligibleLeadersNotAvailable, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true, "No eligible leader is available.";
    84, ElectionNotNeeded, "ELECTION_NOT_NEEDED", true, "The partition needs no election.";
    85, NoReassignmentInProgress, "NO_REASSIGNMENT_IN_PROGRESS", false, "No reassignment of the partition is under way.";
    86, GroupSubscribedToTopic, "GROUP_SUBSCRIBED_TO_TOPIC", false, "The group is subscribed to the topic.";
    87, InvalidRecord, "INVALID_RECORD", false, "A record breaks a rule of the broker.";
    88, UnstableOffsetCommit, "UNSTABLE_OFFSET_COMMIT", true, "Offsets of an open transaction are not stable yet.";
    89, ThrottlingQuotaExceeded, "THROTTLING_QUOTA_EXCEEDED", true, "A quota was exceeded.";
    90, ProducerFenced, "PRODUCER_FENCED", false, "A newer producer with the same transactional id has taken over.";
    91, ResourceNotFound, "RESOURCE_NOT_FOUND", false, "The resource was not found.";
    92, DuplicateResource, "DUPLICATE_RESOURCE", false, "The resource exists.";
    93, UnacceptableCredential, "UNACCEPTABLE_CREDENTIAL", false, "The credential does not meet the requirements.";
    94, InconsistentVoterSet, "INCONSISTENT_VOTER_SET", false, "The sender is not among the voters.";
    95, InvalidUpdateVersion, "INVALID_UPDATE_VERSION", false, "The version of the update is not valid.";
    96, FeatureUpdateFailed, "FEATURE_UPDATE_FAILED", false, "The features could not be updated.";
    97, PrincipalDeserializationFailure, "PRINCIPAL_DESERIALIZATION_FAILURE", false, "The forwarded principal could not be read.";
    98, SnapshotNotFound, "SNAPSHOT_NOT_FOUND", false, "The snapshot was not found.";
    99, PositionOutOfRange, "POSITION_OUT_OF_RANGE", false, "The position is outside of the snapshot.";
    100, UnknownTopicId, "UNKNOWN_TOPIC_ID", true, "This broker does not know the topic id.";
    101, DuplicateBrokerRegistration, "DUPLICATE_BROKER_REGISTRATION", false, "The broker id is registered already.";
    102, BrokerIdNotRegistered, "BROKER_ID_NOT_REGISTERED", false, "The broker id is not registered.";
    103, InconsistentTopicId, "INCONSISTENT_TOPIC_ID", true, "The topic id does not match the one in the log.";
    104, InconsistentClusterId, "INCONSISTENT_CLUSTER_ID", false, "The cluster id does not match.";
    105, TransactionalIdNotFound, "TRANSACTIONAL_ID_NOT_FOUND", false, "The transactional id was not found.";
    106, FetchSessionTopicIdError, "FETCH_SESSION_TOPIC_ID_ERROR", true, "The fetch session mixes topic names and topic ids.";
    107, IneligibleReplica, "INELIGIBLE_REPLICA", false, "The replica may not join the in-sync replicas.";
    108, NewLeaderElected, "NEW_LEADER_ELECTED", false, "A new leader was elected.";
    109, OffsetMovedToTieredStorage, "OFFSET_MOVED_TO_TIERED_STORAGE", false, "The offset lies in tiered storage.";
    110, FencedMemberEpoch, "FENCED_MEMBER_EPOCH", false, "The member epoch is older than the current one.";
    111, UnreleasedInstanceId, "UNRELEASED_INSTANCE_ID", false, "Another member still holds the instance id.";
    112, UnsupportedAssignor, "UNSUPPORTED_ASSIGNOR", false, "The coordinator does not offer the assignor.";
    113, StaleMemberEpoch, "STALE_MEMBER_EPOCH", false, "The member epoch is stale; heartbeat and try again.";
    114, MismatchedEndpointType, "MISMATCHED_ENDPOINT_TYPE", false, "The request was sent to an endpoint of another type.";
    115, UnsupportedEndpointType, "UNSUPPORTED_ENDPOINT_TYPE", false, "The endpoint type is not supported.";
    116, UnknownControllerId, "UNKNOWN_CONTROLLER_ID", false, "The controller id is not known.";
    117, UnknownSubscriptionId, "UNKNOWN_SUBSCRIPTION_ID", false, "The telemetry subscription is not known.";
    118, TelemetryTooLarge, "TELEMETRY_TOO_LARGE", false, "The telemetry is too large.";
    119, InvalidRegistration, "INVALID_REGISTRATION", false, "The registration of the node is not valid.";
    120, TransactionAbortable, "TRANSACTION_ABORTABLE", false, "The transaction has to be aborted.";
    121, InvalidRecordState, "INVALID_RECORD_STATE", false, "The record is in a state that does not allow this.";
    122, ShareSessionNotFound, "SHARE_SESSION_NOT_FOUND", true, "The broker does not know this share session.";
    123, InvalidShareSessionEpoch, "INVALID_SHARE_SESSION_EPOCH", true, "The epoch of the share session is not the expected one.";
    124, FencedStateEpoch, "FENCED_STATE_EPOCH", false, "The state epoch is older than the current one.";
    125, InvalidVoterKey, "INVALID_VOTER_KEY", false, "The voter key does not match.";
    126, DuplicateVoter, "DUPLICATE_VOTER", false, "The voter is in the set already.";
    127, VoterNotFound, "VOTER_NOT_FOUND", false, "The voter is not in the set.";
    128, InvalidRegularExpression, "INVALID_REGULAR_EXPRESSION", false, "The regular expression is not valid.";
    129, RebootstrapRequired, "REBOOTSTRAP_REQUIRED", false, "The client has to bootstrap again.";
    130, StreamsInvalidTopology, "STREAMS_INVALID_TOPOLOGY", false, "The topology is not valid.";
    131, StreamsInvalidTopologyEpoch, "STREAMS_INVALID_TOPOLOGY_EPOCH", false, "The topology epoch is not valid.";
    132, StreamsTopologyFenced, "STREAMS_TOPOLOGY_FENCED", false, "A newer topology has taken over.";
    133, ShareSessionLimitReached, "SHARE_SESSION_LIMIT_REACHED", true, "No more share sessions can be opened.";
}

impl ErrorCode {
    /// Returns the code on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Tells whether this is an error at all.
    pub fn is_error(self) -> bool {
        self != ErrorCode::None
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for ErrorCode {}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> i16 {
        error.code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_number() {
        for (position, error) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(
                error.code(),
                position as i16 - 1,
                "the table has a gap at {error}"
            );
            assert_eq!(ErrorCode::from_code(error.code()), Some(*error));
        }
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(134), None);
    }

    #[test]
    fn names_and_retriability_are_those_of_the_schema_crate() {
        for error in ErrorCode::ALL.iter().filter(|error| error.is_error()) {
            let other = kafka_protocol::ResponseError::try_from_code(error.code());
            let other = other.expect("a code of the schema crate");
            let camel = format!("{other:?}").replace('_', "").to_lowercase();
            assert_eq!(error.name().replace('_', "").to_lowercase(), camel);
        }
    }
}
