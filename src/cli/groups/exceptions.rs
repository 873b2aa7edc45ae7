//! Errors in the words of Kafka's Java client, which scripts may look for.

use troupe_protocol::kafka::errors::ErrorCode;

use super::super::client::ClientError;

/// Returns the text of an error.
pub(super) fn text(error: &ClientError) -> String {
    match error.code().and_then(exception) {
        Some((_, text)) => text.to_owned(),
        None => error.to_string(),
    }
}

/// Returns the class and the text of an error, as Java shows an exception.
pub(super) fn named(error: &ClientError) -> String {
    match error.code().and_then(exception) {
        Some((class, text)) => format!("org.apache.kafka.common.errors.{class}: {text}"),
        None => error.to_string(),
    }
}

/// The exceptions that a group's coordinator, or the leader of a partition, can answer a question about groups with.
fn exception(code: ErrorCode) -> Option<(&'static str, &'static str)> {
    Some(match code {
        ErrorCode::UnknownTopicOrPartition => (
            "UnknownTopicOrPartitionException",
            "This server does not host this topic-partition.",
        ),
        ErrorCode::CoordinatorLoadInProgress => (
            "CoordinatorLoadInProgressException",
            "The coordinator is loading and hence can't process requests.",
        ),
        ErrorCode::CoordinatorNotAvailable => (
            "CoordinatorNotAvailableException",
            "The coordinator is not available.",
        ),
        ErrorCode::NotCoordinator => (
            "NotCoordinatorException",
            "This is not the correct coordinator.",
        ),
        ErrorCode::InvalidGroupId => (
            "InvalidGroupIdException",
            "The configured groupId is invalid.",
        ),
        ErrorCode::UnknownMemberId => (
            "UnknownMemberIdException",
            "The coordinator is not aware of this member.",
        ),
        ErrorCode::NonEmptyGroup => ("GroupNotEmptyException", "The group is not empty."),
        ErrorCode::GroupIdNotFound => ("GroupIdNotFoundException", "The group id does not exist."),
        ErrorCode::GroupSubscribedToTopic => (
            "GroupSubscribedToTopicException",
            "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.",
        ),
        _ => return None,
    })
}
