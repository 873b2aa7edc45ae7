//! Sessions: who is connected, or may still come back.
//!
//! Pure: times are milliseconds of a clock that never goes back.

use std::collections::BTreeMap;

use troupe_protocol::zookeeper::connect::PASSWORD_LEN;

/// Identifies a connection; never used twice while the service runs.
pub type ConnectionId = u64;

/// The time-outs that are granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutRange {
    /// The shortest, in milliseconds.
    pub min_ms: i32,
    /// The longest, in milliseconds.
    pub max_ms: i32,
}

impl TimeoutRange {
    /// Returns ZooKeeper's range for a tick: 2 to 20 times as long.
    pub fn of_tick(tick_time_ms: i32) -> Self {
        Self {
            min_ms: tick_time_ms.saturating_mul(2),
            max_ms: tick_time_ms.saturating_mul(20),
        }
    }

    fn negotiate(self, wanted_ms: i32) -> i32 {
        wanted_ms.min(self.max_ms).max(self.min_ms)
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The granted time-out.
    pub timeout_ms: i32,
    /// Proves that a session is somebody's.
    pub password: [u8; PASSWORD_LEN],
    /// The connection that has it now.
    pub connection: Option<ConnectionId>,
    deadline_ms: i64,
}

impl Session {
    /// Returns when it expires unless its client is heard before, in milliseconds of the monotonic clock.
    pub fn deadline_ms(&self) -> i64 {
        self.deadline_ms
    }
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    table: BTreeMap<i64, Session>,
    range: TimeoutRange,
    last_id: i64,
    last_tick_ms: i64,
}

/// A pause between two ticks that is longer than this is one in which this process did not run (stopped, or starved),
/// so no client could be heard either; it does not count against the sessions.
const LONGEST_TICK_MS: i64 = 2_000;

impl Sessions {
    /// Returns an empty table. `last_id` is the greatest id ever given out; `now_ms` is monotonic.
    pub fn new(range: TimeoutRange, last_id: i64, now_ms: i64) -> Self {
        Self {
            table: BTreeMap::new(),
            range,
            last_id,
            last_tick_ms: now_ms,
        }
    }

    /// Returns the lowest id to start from at a wall-clock time: ids of different runs never meet, because they begin
    /// with the milliseconds of the start and a run gives out fewer than 65,536 of them per millisecond.
    pub fn first_id(wall_ms: i64) -> i64 {
        const SERVER: i64 = 1 << 56;
        SERVER | ((wall_ms & 0xff_ffff_ffff) << 16)
    }

    /// Begins a session for a connection and returns its id.
    pub fn create(
        &mut self,
        connection: ConnectionId,
        wanted_ms: i32,
        password: [u8; PASSWORD_LEN],
        now_ms: i64,
    ) -> (i64, &Session) {
        self.last_id += 1;
        let timeout_ms = self.range.negotiate(wanted_ms);
        let session = Session {
            timeout_ms,
            password,
            connection: Some(connection),
            deadline_ms: now_ms + i64::from(timeout_ms),
        };
        (
            self.last_id,
            self.table.entry(self.last_id).or_insert(session),
        )
    }

    /// Takes up a stored session with its whole time-out before it.
    pub fn restore(&mut self, id: i64, timeout_ms: i32, password: [u8; PASSWORD_LEN], now_ms: i64) {
        self.last_id = self.last_id.max(id);
        let session = Session {
            timeout_ms,
            password,
            connection: None,
            deadline_ms: now_ms + i64::from(timeout_ms),
        };
        self.table.insert(id, session);
    }

    /// Gives a session to a new connection; returns it and the connection that had it, or `None` if there is no such
    /// session or the password is another one.
    pub fn reconnect(
        &mut self,
        id: i64,
        password: &[u8],
        connection: ConnectionId,
        wanted_ms: i32,
        now_ms: i64,
    ) -> Option<(&Session, Option<ConnectionId>)> {
        let range = self.range;
        let session = self
            .table
            .get_mut(&id)
            .filter(|session| session.password == password)?;
        session.timeout_ms = range.negotiate(wanted_ms);
        session.deadline_ms = now_ms + i64::from(session.timeout_ms);
        let previous = session.connection.replace(connection);
        Some((session, previous))
    }

    /// Notes that the client was heard.
    pub fn touch(&mut self, id: i64, now_ms: i64) {
        if let Some(session) = self.table.get_mut(&id) {
            session.deadline_ms = now_ms + i64::from(session.timeout_ms);
        }
    }

    /// Notes that a connection is gone; the session waits for another.
    pub fn disconnect(&mut self, id: i64, connection: ConnectionId) {
        if let Some(session) = self.table.get_mut(&id)
            && session.connection == Some(connection)
        {
            session.connection = None;
        }
    }

    /// Has time in which nobody could be heard not count against the sessions.
    pub fn prolong(&mut self, lost_ms: i64) {
        for session in self.table.values_mut() {
            session.deadline_ms += lost_ms;
        }
        self.last_tick_ms += lost_ms;
    }

    /// Returns the sessions that were not heard for their time-out.
    pub fn expired(&mut self, now_ms: i64) -> Vec<i64> {
        let lost_ms = (now_ms - self.last_tick_ms - LONGEST_TICK_MS).max(0);
        if lost_ms > 0 {
            self.prolong(lost_ms);
        }
        self.last_tick_ms = now_ms;
        self.table
            .iter()
            .filter(|(_, session)| session.deadline_ms <= now_ms)
            .map(|(&id, _)| id)
            .collect()
    }

    /// Ends a session.
    pub fn remove(&mut self, id: i64) -> Option<Session> {
        self.table.remove(&id)
    }

    /// Returns a session.
    pub fn get(&self, id: i64) -> Option<&Session> {
        self.table.get(&id)
    }

    /// Returns all sessions by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Session)> {
        self.table.iter().map(|(&id, session)| (id, session))
    }

    /// Returns the time-outs that are granted.
    pub fn range(&self) -> TimeoutRange {
        self.range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: [u8; PASSWORD_LEN] = [7; PASSWORD_LEN];

    fn sessions() -> Sessions {
        Sessions::new(TimeoutRange::of_tick(3000), 100, 0)
    }

    #[test]
    fn timeouts_are_clamped() {
        let mut sessions = sessions();
        for (wanted, granted) in [(0, 6000), (-5, 6000), (18_000, 18_000), (i32::MAX, 60_000)] {
            let (_, session) = sessions.create(1, wanted, PASSWORD, 0);
            assert_eq!(session.timeout_ms, granted);
        }
    }

    #[test]
    fn time_in_which_nobody_could_be_heard_counts_once() {
        let mut sessions = sessions();
        let (id, _) = sessions.create(1, 6000, PASSWORD, 0);
        sessions.prolong(7_000);
        for now in [7_000, 9_000, 11_000, 12_500] {
            assert!(sessions.expired(now).is_empty(), "at {now}");
        }
        assert_eq!(sessions.expired(13_000), [id]);
    }

    #[test]
    fn a_silent_session_expires_and_a_heard_one_does_not() {
        let mut sessions = sessions();
        let (silent, _) = sessions.create(1, 6000, PASSWORD, 0);
        let (heard, _) = sessions.create(2, 6000, PASSWORD, 0);
        for now in (500..6000).step_by(500) {
            sessions.touch(heard, now);
            assert!(sessions.expired(now).is_empty());
        }
        assert_eq!(sessions.expired(6000), [silent]);
        assert_ne!(silent, heard);
    }

    #[test]
    fn time_in_which_the_process_did_not_run_does_not_count() {
        let mut sessions = sessions();
        let (id, _) = sessions.create(1, 6000, PASSWORD, 0);
        assert!(sessions.expired(500).is_empty());
        assert!(sessions.expired(60_500).is_empty(), "stopped for a minute");
        let expires = (61_000..70_000)
            .step_by(500)
            .find(|&now| !sessions.expired(now).is_empty());
        assert_eq!(
            expires,
            Some(64_000),
            "{id} had 5,500 ms left of which 2,000 ms were counted"
        );
    }

    #[test]
    fn only_the_right_password_moves_a_session() {
        let mut sessions = sessions();
        let (id, _) = sessions.create(1, 6000, PASSWORD, 0);
        assert_eq!(sessions.reconnect(id, &[0; 16], 2, 6000, 0), None);
        assert_eq!(sessions.reconnect(id, b"", 2, 6000, 0), None);
        assert_eq!(sessions.reconnect(id + 1, &PASSWORD, 2, 6000, 0), None);
        let (_, previous) = sessions.reconnect(id, &PASSWORD, 2, 6000, 0).unwrap();
        assert_eq!(previous, Some(1));
        sessions.disconnect(id, 1);
        assert_eq!(sessions.get(id).unwrap().connection, Some(2));
    }

    #[test]
    fn restored_sessions_have_their_whole_timeout_and_their_ids_are_not_used_again() {
        let mut sessions = Sessions::new(TimeoutRange::of_tick(3000), 0, 1_000_000);
        sessions.restore(500, 6000, PASSWORD, 1_000_000);
        assert!(sessions.expired(1_001_000).is_empty());
        assert_eq!(sessions.create(1, 0, PASSWORD, 1_001_000).0, 501);
    }
}
