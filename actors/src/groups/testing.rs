//! Drives a group in tests: hands out tickets, keeps the answers, stores when told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::errors::ErrorCode;

use super::consumer::assign::Assignor;
use super::consumer::group::{ConsumerConfig, MigrationPolicy};
use super::group::{Effect, Group, GroupConfig, Joined, Now, Purpose, State, Step, Synced};
use super::join::JoinRequest;
use super::member::{Protocol, Ticket};
use super::records::GroupValue;
use super::session::SyncRequest;

pub(crate) const SESSION_TIMEOUT_MS: i32 = 10_000;
pub(crate) const REBALANCE_TIMEOUT_MS: i32 = 60_000;

pub(crate) fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: 0,
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 1_800_000,
        max_size: 100,
        offset_metadata_max_bytes: 4096,
        offsets_retention_ms: 1_000_000,
        consumer: ConsumerConfig {
            heartbeat_interval_ms: 5_000,
            session_timeout_ms: 45_000,
            max_size: 100,
            classic_max_size: 100,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy {
                upgrade: true,
                downgrade: true,
            },
        },
    }
}

/// A request to join as the first protocol version that must know its member id makes it.
pub(crate) fn request(member_id: &str, protocols: &[&str]) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        fresh_member_id: "".into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        protocol_type: "consumer".into(),
        protocols: protocols
            .iter()
            .map(|name| Protocol {
                name: (*name).into(),
                metadata: Bytes::copy_from_slice(format!("for {name}").as_bytes()),
            })
            .collect(),
        member_id_required: false,
        can_skip_assignment: true,
    }
}

pub(crate) struct Driver {
    pub(crate) config: GroupConfig,
    pub(crate) now_ms: i64,
    pub(crate) group: Group,
    pub(crate) stores: VecDeque<(GroupValue, Purpose)>,
    pub(crate) joins: BTreeMap<Ticket, Option<Joined>>,
    pub(crate) syncs: BTreeMap<Ticket, Option<Synced>>,
    next: u64,
}

impl Driver {
    pub(crate) fn new(config: GroupConfig) -> Self {
        let now = Now {
            wall_ms: 0,
            monotonic_ms: 0,
        };
        Self {
            config,
            now_ms: 0,
            group: Group::new("g".into(), now),
            stores: VecDeque::new(),
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn run<T>(&mut self, act: impl FnOnce(&mut Group, &mut Step<'_>) -> T) -> T {
        let now = Now {
            wall_ms: self.now_ms,
            monotonic_ms: self.now_ms,
        };
        let mut step = Step::new(&self.config, now);
        let result = act(&mut self.group, &mut step);
        for effect in step.effects {
            match effect {
                Effect::Joined(ticket, joined) => {
                    let earlier = self.joins.get_mut(&ticket).expect("a join's ticket");
                    assert!(earlier.is_none(), "a join is answered twice");
                    *earlier = Some(joined);
                }
                Effect::Synced(ticket, synced) => {
                    let earlier = self.syncs.get_mut(&ticket).expect("a sync's ticket");
                    assert!(earlier.is_none(), "a sync is answered twice");
                    *earlier = Some(synced);
                }
                Effect::Store(value, purpose) => self.stores.push_back((value, purpose)),
            }
        }
        result
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next
    }

    /// Starts a join; its fresh member id is `m<ticket>`.
    pub(crate) fn join(&mut self, mut request: JoinRequest) -> Ticket {
        let ticket = self.ticket();
        request.fresh_member_id = format!("m{ticket}").into();
        self.joins.insert(ticket, None);
        self.run(|group, step| group.join(request, ticket, step));
        ticket
    }

    pub(crate) fn joined(&self, ticket: Ticket) -> &Joined {
        self.joins[&ticket].as_ref().expect("an answer to the join")
    }

    pub(crate) fn start_sync(&mut self, request: SyncRequest) -> Ticket {
        let ticket = self.ticket();
        self.syncs.insert(ticket, None);
        self.run(|group, step| group.sync(request, ticket, step));
        ticket
    }

    /// Starts a sync in the group's generation; the leader gives each member its own id.
    pub(crate) fn sync(&mut self, member_id: &str) -> Ticket {
        let members = self.group.members();
        let assignment = members
            .map(|member| (Arc::clone(&member.id), assignment_of(&member.id)))
            .collect();
        self.start_sync(SyncRequest {
            member_id: member_id.into(),
            instance_id: None,
            generation: self.group.generation(),
            protocol_type: None,
            protocol: None,
            assignment,
        })
    }

    pub(crate) fn synced(&self, ticket: Ticket) -> &Synced {
        self.syncs[&ticket].as_ref().expect("an answer to the sync")
    }

    /// Ends the oldest write.
    pub(crate) fn store(&mut self, result: Result<(), ErrorCode>) -> Option<GroupValue> {
        let (value, purpose) = self.stores.pop_front()?;
        self.run(|group, step| group.stored(purpose, result, step));
        Some(value)
    }

    pub(crate) fn heartbeat(&mut self, member_id: &str) -> Result<(), ErrorCode> {
        let generation = self.group.generation();
        self.run(|group, step| group.heartbeat(member_id, None, generation, step))
    }

    pub(crate) fn leave(&mut self, member_id: &str) -> Result<(), ErrorCode> {
        self.run(|group, step| group.leave(member_id, None, step))
    }

    pub(crate) fn advance(&mut self, ms: i64) {
        self.now_ms += ms;
        self.run(|group, step| group.tick(step));
    }

    pub(crate) fn state(&self) -> &'static str {
        self.group.state().name()
    }

    /// Brings a group of members to Stable; the first leads.
    pub(crate) fn stable(members: Vec<JoinRequest>) -> (Self, Vec<Arc<str>>) {
        let mut driver = Self::new(GroupConfig {
            initial_rebalance_delay_ms: 10,
            ..config()
        });
        let tickets: Vec<Ticket> = members.into_iter().map(|m| driver.join(m)).collect();
        while matches!(driver.group.state(), State::PreparingRebalance(_)) {
            driver.advance(10);
        }
        let ids: Vec<Arc<str>> = tickets
            .iter()
            .map(|&ticket| Arc::clone(&driver.joined(ticket).member_id))
            .collect();
        for id in ids.iter().rev() {
            driver.sync(id);
        }
        driver.store(Ok(()));
        assert_eq!(driver.state(), "Stable");
        (driver, ids)
    }
}

pub(crate) fn assignment_of(member_id: &str) -> Bytes {
    Bytes::copy_from_slice(member_id.as_bytes())
}
