//! A follower's side of an incremental fetch session (KIP-227): the leader is told only what changed.
//!
//! Pure: [`FetchSession`] says what a request has to hold, and hears how it was answered.

use std::collections::BTreeMap;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::fetch::{FetchPartition, FetchTopic, ForgottenTopic};
use uuid::Uuid;

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;

/// What is wanted of each partition, by topic id and number.
pub(super) type Wanted = BTreeMap<(Uuid, i32), FetchPartition>;

/// What a request says of the session and the partitions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SessionRequest {
    pub(super) session_id: i32,
    pub(super) session_epoch: i32,
    pub(super) topics: Vec<FetchTopic>,
    pub(super) forgotten: Vec<ForgottenTopic>,
}

/// What the leader knows of a follower's partitions.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    id: i32,
    epoch: i32,
    told: Wanted,
}

impl FetchSession {
    /// Makes the next request: all partitions in the first, then those that are new or changed, and those that are gone.
    pub(super) fn request(&mut self, wanted: Wanted) -> SessionRequest {
        let changed = wanted
            .iter()
            .filter(|(key, partition)| self.told.get(key) != Some(partition));
        let mut topics: Vec<FetchTopic> = Vec::new();
        for ((topic_id, _), partition) in changed {
            match topics.last_mut().filter(|last| last.topic_id == *topic_id) {
                Some(topic) => topic.partitions.push(*partition),
                None => topics.push(FetchTopic {
                    name: String::new(),
                    topic_id: *topic_id,
                    partitions: vec![*partition],
                }),
            }
        }
        let gone = self.told.keys().filter(|key| !wanted.contains_key(key));
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        for (topic_id, index) in gone {
            match forgotten
                .last_mut()
                .filter(|last| last.topic_id == *topic_id)
            {
                Some(topic) => topic.partitions.push(*index),
                None => forgotten.push(ForgottenTopic {
                    name: String::new(),
                    topic_id: *topic_id,
                    partitions: vec![*index],
                }),
            }
        }
        self.told = wanted;
        SessionRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            topics,
            forgotten,
        }
    }

    /// Takes the leader's answer to the last request.
    pub(super) fn answered(&mut self, error: ErrorCode, session_id: i32) {
        if error != ErrorCode::None || session_id == NO_SESSION {
            self.reset();
            return;
        }
        self.id = session_id;
        self.epoch = match self.epoch {
            i32::MAX => 1,
            epoch => epoch + 1,
        };
    }

    /// Begins anew: the leader may not have got the last request, or has forgotten everything.
    pub(super) fn reset(&mut self) {
        (self.id, self.epoch) = (NO_SESSION, INITIAL_EPOCH);
        self.told.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(partitions: &[(u128, i32, i64)]) -> Wanted {
        let entry = |&(topic, index, fetch_offset): &(u128, i32, i64)| {
            let partition = FetchPartition {
                index,
                current_leader_epoch: 1,
                fetch_offset,
                last_fetched_epoch: 1,
                log_start_offset: 0,
                max_bytes: 1,
                replica_directory_id: Uuid::nil(),
                high_watermark: i64::MAX,
            };
            ((Uuid::from_u128(topic), index), partition)
        };
        partitions.iter().map(entry).collect()
    }

    type Names = Vec<(u128, i32)>;

    /// Returns session id and epoch, what is asked and what is forgotten.
    fn summary(request: &SessionRequest) -> (i32, i32, Names, Names) {
        let asked = request.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.topic_id.as_u128(), partition.index))
        });
        let forgotten = request.forgotten.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|index| (topic.topic_id.as_u128(), *index))
        });
        (
            request.session_id,
            request.session_epoch,
            asked.collect(),
            forgotten.collect(),
        )
    }

    #[test]
    fn only_what_changed_is_said_again() {
        let mut session = FetchSession::default();
        let mut ask = |partitions: &[_], error, answered| {
            let request = session.request(wanted(partitions));
            session.answered(error, answered);
            summary(&request)
        };
        let all = [(1, 0, 0), (1, 1, 0), (2, 0, 0)];
        let names = vec![(1, 0), (1, 1), (2, 0)];
        assert_eq!(ask(&all, ErrorCode::None, 9), (0, 0, names.clone(), vec![]));
        assert_eq!(ask(&all, ErrorCode::None, 9), (9, 1, vec![], vec![]));
        let moved = [(1, 0, 5), (2, 0, 0), (2, 1, 0)];
        let expected = (9, 2, vec![(1, 0), (2, 1)], vec![(1, 1)]);
        assert_eq!(ask(&moved, ErrorCode::FetchSessionIdNotFound, 0), expected);
        assert_eq!(ask(&all, ErrorCode::None, 0), (0, 0, names.clone(), vec![]));
        assert_eq!(
            ask(&all, ErrorCode::None, 0),
            (0, 0, names, vec![]),
            "without a session everything is said each time"
        );
    }

    #[test]
    fn epochs_wrap_to_one() {
        let mut session = FetchSession::default();
        session.answered(ErrorCode::None, 9);
        session.epoch = i32::MAX;
        session.answered(ErrorCode::None, 9);
        assert_eq!((session.id, session.epoch), (9, 1));
    }
}
