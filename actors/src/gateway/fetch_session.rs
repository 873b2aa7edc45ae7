//! Incremental fetch sessions (KIP-227): a client names its partitions once and is told only what changed.
//!
//! [`SessionCache`] decides, without clock or chance; [`FetchSessions`] shares it among connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, RecordPayload,
};
use uuid::Uuid;

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
const FIRST_WITH_TOPIC_ID: i16 = 13;
/// After this a session may have to make room: when unused for so long, or when so old and smaller than the new one.
const EVICTION: Duration = Duration::from_secs(120);
/// Partitions in all sessions together; beyond, fetches go without a session.
const MAX_PARTITIONS: usize = 500_000;

/// Names a topic as the client did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    /// Up to version 12.
    Name(Arc<str>),
    /// From version 13 on.
    Id(Uuid),
}

/// A partition to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its topic.
    pub(crate) topic: TopicKey,
    /// Its number, and from where to read.
    pub(crate) partition: FetchPartition,
}

/// What was read of a partition.
#[derive(Debug)]
pub(crate) struct Fetched<R> {
    /// Its topic.
    pub(crate) topic: TopicKey,
    /// The answer.
    pub(crate) response: FetchPartitionResponse<R>,
}

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The partitions to read, in order.
    pub(crate) wanted: Vec<Wanted>,
    session: SessionPlan,
}

#[derive(Debug, PartialEq, Eq)]
enum SessionPlan {
    None,
    Create { privileged: bool, topic_ids: bool },
    Continue { id: i32, epoch: i32 },
}

/// A partition of a session and what the client was told of it last.
#[derive(Debug)]
struct Cached {
    /// Place in the order of reading.
    turn: u64,
    partition: FetchPartition,
    high_watermark: i64,
    log_start_offset: i64,
}

impl Cached {
    fn new(turn: u64, partition: FetchPartition) -> Self {
        Self {
            turn,
            partition,
            high_watermark: -1,
            log_start_offset: -1,
        }
    }

    /// Takes note of an answer; tells whether the client has to see it.
    fn note<R: RecordPayload>(&mut self, response: &FetchPartitionResponse<R>) -> bool {
        let changed = has_records(response)
            || response.high_watermark != self.high_watermark
            || response.log_start_offset != self.log_start_offset
            || response.error != ErrorCode::None
            || response.diverging_epoch.is_some()
            || response.preferred_read_replica >= 0;
        // After an error the client is to see the next success too: its watermark can't be -1.
        self.high_watermark = response.high_watermark;
        self.log_start_offset = response.log_start_offset;
        changed
    }
}

fn has_records<R: RecordPayload>(response: &FetchPartitionResponse<R>) -> bool {
    response
        .records
        .as_ref()
        .is_some_and(|records| records.size() > 0)
}

#[derive(Debug)]
struct Session {
    /// Of a follower: goes last.
    privileged: bool,
    topic_ids: bool,
    created: Duration,
    last_used: Duration,
    /// Epoch that the next request must carry.
    epoch: i32,
    next_turn: u64,
    partitions: BTreeMap<(TopicKey, i32), Cached>,
}

impl Session {
    fn turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    fn update(&mut self, request: &FetchRequest, wanted: Vec<Wanted>) {
        for Wanted { topic, partition } in wanted {
            let turn = self.turn();
            self.partitions
                .entry((topic, partition.index))
                .and_modify(|cached| cached.partition = partition)
                .or_insert_with(|| Cached::new(turn, partition));
        }
        for forgotten in &request.forgotten_topics {
            let topic = topic_key(self.topic_ids, &forgotten.name, forgotten.topic_id);
            for index in &forgotten.partitions {
                self.partitions.remove(&(topic.clone(), *index));
            }
        }
    }

    fn wanted(&self) -> Vec<Wanted> {
        let mut turns: Vec<_> = self.partitions.iter().collect();
        turns.sort_unstable_by_key(|(_, cached)| cached.turn);
        turns
            .into_iter()
            .map(|((topic, _), cached)| Wanted {
                topic: topic.clone(),
                partition: cached.partition,
            })
            .collect()
    }
}

/// The sessions of a broker.
#[derive(Debug)]
pub(crate) struct SessionCache {
    slots: usize,
    sessions: BTreeMap<i32, Session>,
}

impl SessionCache {
    /// Keeps at most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            sessions: BTreeMap::new(),
        }
    }

    /// Says what a request wants; the error is that of the whole request.
    pub(crate) fn begin(
        &mut self,
        request: &FetchRequest,
        version: i16,
        now: Duration,
    ) -> Result<Plan, ErrorCode> {
        let topic_ids = version >= FIRST_WITH_TOPIC_ID;
        let wanted = wanted(request, topic_ids);
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            self.sessions.remove(&id);
            let privileged = request.replica_id >= 0;
            let create = epoch == INITIAL_EPOCH && !wanted.is_empty();
            let session = if create {
                SessionPlan::Create {
                    privileged,
                    topic_ids,
                }
            } else {
                SessionPlan::None
            };
            return Ok(Plan { wanted, session });
        }
        let others = self.partitions();
        let session = session_at(&mut self.sessions, id, epoch)?;
        if session.topic_ids != topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if others.saturating_add(wanted.len()) > MAX_PARTITIONS {
            self.sessions.remove(&id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        session.update(request, wanted);
        if session.partitions.is_empty() {
            self.sessions.remove(&id);
            return Ok(Plan {
                wanted: Vec::new(),
                session: SessionPlan::None,
            });
        }
        session.epoch = next_epoch(epoch);
        session.last_used = now;
        Ok(Plan {
            wanted: session.wanted(),
            session: SessionPlan::Continue {
                id,
                epoch: session.epoch,
            },
        })
    }

    /// Takes note of what was read, drops what the client knows already, and returns the session's id, 0 without one.
    ///
    /// `random` draws ids for new sessions.
    pub(crate) fn finish<R: RecordPayload>(
        &mut self,
        plan: &Plan,
        fetched: &mut Vec<Fetched<R>>,
        now: Duration,
        random: impl FnMut() -> i32,
    ) -> Result<i32, ErrorCode> {
        match plan.session {
            SessionPlan::None => Ok(NO_SESSION),
            SessionPlan::Create {
                privileged,
                topic_ids,
            } => Ok(self.create(plan, fetched, privileged, topic_ids, now, random)),
            SessionPlan::Continue { id, epoch } => {
                let session = session_at(&mut self.sessions, id, epoch)?;
                fetched.retain(|one| {
                    let turn = session.turn();
                    let key = (one.topic.clone(), one.response.index);
                    session.partitions.get_mut(&key).is_some_and(|cached| {
                        if has_records(&one.response) {
                            // Who had something goes to the end, so that all get their share of a tight limit.
                            cached.turn = turn;
                        }
                        cached.note(&one.response)
                    })
                });
                Ok(id)
            }
        }
    }

    fn create<R: RecordPayload>(
        &mut self,
        plan: &Plan,
        fetched: &[Fetched<R>],
        privileged: bool,
        topic_ids: bool,
        now: Duration,
        mut random: impl FnMut() -> i32,
    ) -> i32 {
        let size = plan.wanted.len();
        if self.partitions().saturating_add(size) > MAX_PARTITIONS
            || !self.make_room(privileged, size, now)
        {
            return NO_SESSION;
        }
        let id = loop {
            let id = random();
            if id > 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let partitions = BTreeMap::new();
        let mut session = Session {
            privileged,
            topic_ids,
            created: now,
            last_used: now,
            epoch: next_epoch(INITIAL_EPOCH),
            next_turn: 0,
            partitions,
        };
        for (wanted, one) in plan.wanted.iter().zip(fetched) {
            let mut cached = Cached::new(session.turn(), wanted.partition);
            cached.note(&one.response);
            session
                .partitions
                .insert((wanted.topic.clone(), wanted.partition.index), cached);
        }
        self.sessions.insert(id, session);
        id
    }

    fn partitions(&self) -> usize {
        self.sessions
            .values()
            .map(|session| session.partitions.len())
            .sum()
    }

    /// Makes room for a session of `size` partitions, or says that no other one has to go for it.
    fn make_room(&mut self, privileged: bool, size: usize, now: Duration) -> bool {
        if self.sessions.len() < self.slots {
            return true;
        }
        let since = |then: Duration| now.saturating_sub(then);
        let rank = |session: &Session| (session.privileged, session.partitions.len());
        let stale = self
            .sessions
            .iter()
            .min_by_key(|(_, session)| session.last_used);
        let stale = stale.filter(|(_, session)| since(session.last_used) > EVICTION);
        let victim = stale.or_else(|| {
            let weaker = self.sessions.iter().filter(|(_, session)| {
                let outranked = privileged && !session.privileged;
                let outgrown =
                    since(session.created) > EVICTION && rank(session) < (privileged, size);
                outranked || outgrown
            });
            weaker.min_by_key(|(_, session)| rank(session))
        });
        let victim = victim.map(|(id, _)| *id);
        victim.is_some_and(|id| self.sessions.remove(&id).is_some())
    }
}

/// Finds a session that is at the epoch of a request.
fn session_at(
    sessions: &mut BTreeMap<i32, Session>,
    id: i32,
    epoch: i32,
) -> Result<&mut Session, ErrorCode> {
    let session = sessions
        .get_mut(&id)
        .ok_or(ErrorCode::FetchSessionIdNotFound)?;
    if session.epoch != epoch {
        return Err(ErrorCode::InvalidFetchSessionEpoch);
    }
    Ok(session)
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

fn topic_key(topic_ids: bool, name: &str, id: Uuid) -> TopicKey {
    if topic_ids {
        TopicKey::Id(id)
    } else {
        TopicKey::Name(name.into())
    }
}

fn wanted(request: &FetchRequest, topic_ids: bool) -> Vec<Wanted> {
    let mut wanted = Vec::with_capacity(
        request
            .topics
            .iter()
            .map(|topic| topic.partitions.len())
            .sum(),
    );
    for topic in &request.topics {
        let key = topic_key(topic_ids, &topic.name, topic.topic_id);
        wanted.extend(topic.partitions.iter().map(|&partition| Wanted {
            topic: key.clone(),
            partition,
        }));
    }
    wanted
}

/// The sessions, shared by all connections.
#[derive(Debug)]
pub(crate) struct FetchSessions(Mutex<SessionCache>);

impl FetchSessions {
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
#[path = "fetch_session_tests.rs"]
mod tests;
