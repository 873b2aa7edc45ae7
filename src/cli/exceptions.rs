//! Errors in the words of Kafka's Java client, which scripts may look for.

use troupe_protocol::kafka::StrBytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::client::ClientError;

/// Returns the text of an error.
pub(crate) fn text(error: &ClientError) -> String {
    match error.code().and_then(exception) {
        Some((_, text)) => text.to_owned(),
        None => error.to_string(),
    }
}

/// Returns the class and the text of an error, as Java shows an exception.
pub(crate) fn named(error: &ClientError) -> String {
    match error.code().and_then(exception) {
        Some((class, text)) => format!("org.apache.kafka.common.errors.{class}: {text}"),
        None => error.to_string(),
    }
}

/// Returns the class of the exception that an error code becomes.
pub(crate) fn class(code: ErrorCode) -> String {
    let class = exception(code).map_or("UnknownServerException", |(class, _)| class);
    format!("org.apache.kafka.common.errors.{class}")
}

/// Returns the text of an error: what the broker sent, or what Java has for it.
pub(crate) fn text_of(code: i16, message: Option<&StrBytes>) -> String {
    let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    let text = exception(code).map_or(code.message(), |(_, text)| text);
    message.map_or(text, |message| message.as_str()).to_owned()
}

/// Returns an error as Java shows it, with the text that the broker sent where there is one.
pub(crate) fn told(code: i16, message: Option<&StrBytes>) -> String {
    let known = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    format!("{}: {}", class(known), text_of(code, message))
}

/// The exceptions that brokers can answer the tools with: error, class, and text.
const EXCEPTIONS: &[(ErrorCode, &str, &str)] = &[
    (
        ErrorCode::UnknownTopicOrPartition,
        "UnknownTopicOrPartitionException",
        "This server does not host this topic-partition.",
    ),
    (
        ErrorCode::CoordinatorLoadInProgress,
        "CoordinatorLoadInProgressException",
        "The coordinator is loading and hence can't process requests.",
    ),
    (
        ErrorCode::CoordinatorNotAvailable,
        "CoordinatorNotAvailableException",
        "The coordinator is not available.",
    ),
    (
        ErrorCode::NotCoordinator,
        "NotCoordinatorException",
        "This is not the correct coordinator.",
    ),
    (
        ErrorCode::InvalidGroupId,
        "InvalidGroupIdException",
        "The configured groupId is invalid.",
    ),
    (
        ErrorCode::UnknownMemberId,
        "UnknownMemberIdException",
        "The coordinator is not aware of this member.",
    ),
    (
        ErrorCode::NonEmptyGroup,
        "GroupNotEmptyException",
        "The group is not empty.",
    ),
    (
        ErrorCode::GroupIdNotFound,
        "GroupIdNotFoundException",
        "The group id does not exist.",
    ),
    (
        ErrorCode::GroupSubscribedToTopic,
        "GroupSubscribedToTopicException",
        "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.",
    ),
    (
        ErrorCode::OffsetOutOfRange,
        "OffsetOutOfRangeException",
        "The requested offset is not within the range of offsets maintained by the server.",
    ),
    (
        ErrorCode::LeaderNotAvailable,
        "LeaderNotAvailableException",
        "There is no leader for this topic-partition as we are in the middle of a leadership election.",
    ),
    (
        ErrorCode::NotLeaderOrFollower,
        "NotLeaderOrFollowerException",
        "For requests intended only for the leader, this error indicates that the broker is not the current leader. For requests intended for any replica, this error indicates that the broker is not a replica of the topic partition.",
    ),
    (
        ErrorCode::KafkaStorageError,
        "KafkaStorageException",
        "Disk error when trying to access log file on the disk.",
    ),
    (
        ErrorCode::InvalidTopicException,
        "InvalidTopicException",
        "The request attempted to perform an operation on an invalid topic.",
    ),
    (
        ErrorCode::PolicyViolation,
        "PolicyViolationException",
        "Request parameters do not satisfy the configured policy.",
    ),
    (
        ErrorCode::InvalidConfig,
        "InvalidConfigurationException",
        "Configuration is invalid.",
    ),
    (
        ErrorCode::InvalidRequest,
        "InvalidRequestException",
        "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details.",
    ),
    (
        ErrorCode::NotController,
        "NotControllerException",
        "This is not the correct controller for this cluster.",
    ),
    (
        ErrorCode::PreferredLeaderNotAvailable,
        "PreferredLeaderNotAvailableException",
        "The preferred leader was not available.",
    ),
    (
        ErrorCode::EligibleLeadersNotAvailable,
        "EligibleLeadersNotAvailableException",
        "Eligible topic partition leaders are not available.",
    ),
    (
        ErrorCode::ElectionNotNeeded,
        "ElectionNotNeededException",
        "Leader election not needed for topic partition.",
    ),
    (
        ErrorCode::NoReassignmentInProgress,
        "NoReassignmentInProgressException",
        "No partition reassignment is in progress.",
    ),
    (
        ErrorCode::InvalidReplicaAssignment,
        "InvalidReplicaAssignmentException",
        "Replica assignment is invalid.",
    ),
    (
        ErrorCode::ReassignmentInProgress,
        "ReassignmentInProgressException",
        "A partition reassignment is in progress.",
    ),
];

fn exception(code: ErrorCode) -> Option<(&'static str, &'static str)> {
    let found = EXCEPTIONS.iter().find(|(known, ..)| *known == code);
    found.map(|(_, class, text)| (*class, *text))
}
