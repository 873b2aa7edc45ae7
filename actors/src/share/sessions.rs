//! Share sessions: which partitions a member of a share group fetches from (KIP-932).
//!
//! A session belongs to a member, not to a connection. It names its partitions once and carries an epoch that each
//! request raises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

/// The epoch of a request that opens a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that closes a session.
pub(crate) const FINAL_EPOCH: i32 = -1;
/// Partitions in all sessions together; beyond, no session is opened and none grows.
const MAX_PARTITIONS: usize = 500_000;

/// A partition of a topic.
pub(crate) type TopicIdPartition = (Uuid, i32);

/// Names a session: group and member.
pub(crate) type SessionKey = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Session {
    /// The epoch that the next request must carry.
    epoch: i32,
    partitions: BTreeSet<TopicIdPartition>,
    /// Where the next look at the partitions begins, so that each has its turn.
    next: usize,
}

/// The share sessions of a broker.
#[derive(Debug)]
pub(crate) struct SessionCache {
    slots: usize,
    sessions: BTreeMap<SessionKey, Session>,
}

impl SessionCache {
    /// Keeps at most `slots` sessions (`group.share.max.share.sessions`).
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            sessions: BTreeMap::new(),
        }
    }

    /// Opens a session with these partitions in place of an earlier one.
    ///
    /// # Errors
    /// SHARE_SESSION_LIMIT_REACHED when there are too many.
    pub(crate) fn open(
        &mut self,
        key: &SessionKey,
        partitions: &[TopicIdPartition],
    ) -> Result<(), ErrorCode> {
        self.sessions.remove(key);
        let full = self.partitions().saturating_add(partitions.len()) > MAX_PARTITIONS;
        if full || self.sessions.len() >= self.slots {
            return Err(ErrorCode::ShareSessionLimitReached);
        }
        let session = Session {
            epoch: 1,
            partitions: partitions.iter().copied().collect(),
            next: 0,
        };
        self.sessions.insert(key.clone(), session);
        Ok(())
    }

    /// Goes on with a session: adds partitions and takes others out.
    ///
    /// # Errors
    /// As [`advance`](Self::advance), and SHARE_SESSION_LIMIT_REACHED when there are too many partitions.
    pub(crate) fn update(
        &mut self,
        key: &SessionKey,
        epoch: i32,
        added: &[TopicIdPartition],
        forgotten: &[TopicIdPartition],
    ) -> Result<(), ErrorCode> {
        let full = self.partitions().saturating_add(added.len()) > MAX_PARTITIONS;
        self.advance(key, epoch)?;
        if full {
            self.sessions.remove(key);
            return Err(ErrorCode::ShareSessionLimitReached);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.partitions.extend(added);
            for partition in forgotten {
                session.partitions.remove(partition);
            }
        }
        Ok(())
    }

    /// Checks and raises the epoch of a session.
    ///
    /// # Errors
    /// SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH.
    pub(crate) fn advance(&mut self, key: &SessionKey, epoch: i32) -> Result<(), ErrorCode> {
        let session = self.sessions.get_mut(key);
        let session = session.ok_or(ErrorCode::ShareSessionNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        session.epoch = epoch.checked_add(1).unwrap_or(1);
        Ok(())
    }

    /// Closes a session; returns its partitions.
    ///
    /// # Errors
    /// SHARE_SESSION_NOT_FOUND.
    pub(crate) fn close(&mut self, key: &SessionKey) -> Result<Vec<TopicIdPartition>, ErrorCode> {
        let session = self.sessions.remove(key);
        let session = session.ok_or(ErrorCode::ShareSessionNotFound)?;
        Ok(session.partitions.into_iter().collect())
    }

    /// Lists the partitions of a session; another one comes first each time.
    pub(crate) fn partitions_of(&mut self, key: &SessionKey) -> Vec<TopicIdPartition> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Vec::new();
        };
        let mut partitions: Vec<_> = session.partitions.iter().copied().collect();
        if !partitions.is_empty() {
            let first = session.next.checked_rem(partitions.len()).unwrap_or(0);
            partitions.rotate_left(first);
            session.next = first.wrapping_add(1);
        }
        partitions
    }

    fn partitions(&self) -> usize {
        let sessions = self.sessions.values();
        sessions.map(|session| session.partitions.len()).sum()
    }
}

/// The sessions, shared by all connections.
#[derive(Debug)]
pub(crate) struct ShareSessions(Mutex<SessionCache>);

impl ShareSessions {
    /// Keeps at most `slots` sessions.
    pub(crate) fn new(slots: usize) -> Self {
        Self(Mutex::new(SessionCache::new(slots)))
    }

    /// Locks the cache, for the moment of a decision.
    pub(crate) fn lock(&self) -> MutexGuard<'_, SessionCache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(member: &str) -> SessionKey {
        ("g".into(), member.into())
    }

    fn partition(number: i32) -> TopicIdPartition {
        (Uuid::from_u128(1), number)
    }

    #[test]
    fn requests_raise_the_epoch() {
        let mut cache = SessionCache::new(10);
        let a = key("a");
        assert_eq!(cache.advance(&a, 1), Err(ErrorCode::ShareSessionNotFound));
        cache.open(&a, &[partition(0)]).unwrap();
        assert_eq!(
            cache.update(&a, 2, &[], &[]),
            Err(ErrorCode::InvalidShareSessionEpoch)
        );
        cache.update(&a, 1, &[partition(1)], &[]).unwrap();
        cache.advance(&a, 2).unwrap();
        cache.update(&a, 3, &[], &[partition(0)]).unwrap();
        assert_eq!(cache.partitions_of(&a), [partition(1)]);
        assert_eq!(cache.close(&a), Ok(vec![partition(1)]));
        assert_eq!(cache.close(&a), Err(ErrorCode::ShareSessionNotFound));
    }

    #[test]
    fn the_epoch_wraps_to_one() {
        let mut cache = SessionCache::new(10);
        let a = key("a");
        cache.open(&a, &[]).unwrap();
        cache.sessions.get_mut(&a).unwrap().epoch = i32::MAX;
        cache.advance(&a, i32::MAX).unwrap();
        cache.advance(&a, 1).unwrap();
    }

    #[test]
    fn opening_replaces_and_is_limited() {
        let mut cache = SessionCache::new(1);
        cache.open(&key("a"), &[partition(0)]).unwrap();
        cache.open(&key("a"), &[partition(1)]).unwrap();
        assert_eq!(cache.partitions_of(&key("a")), [partition(1)]);
        assert_eq!(
            cache.open(&key("b"), &[]),
            Err(ErrorCode::ShareSessionLimitReached)
        );
    }

    #[test]
    fn each_partition_comes_first_in_turn() {
        let mut cache = SessionCache::new(1);
        cache
            .open(&key("a"), &[partition(0), partition(1)])
            .unwrap();
        let mut first = || cache.partitions_of(&key("a"))[0];
        assert_eq!(
            [first(), first(), first()],
            [partition(0), partition(1), partition(0)]
        );
    }
}
