//! A group among clients that join, die, lose answers and come back, in random order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use troupe_protocol::kafka::errors::ErrorCode;

use super::group::{GroupConfig, State};
use super::join::JoinRequest;
use super::member::Ticket;
use super::session::SyncRequest;
use super::testing::{Driver, assignment_of, config, request};

const CLIENTS: usize = 5;

#[derive(Debug, Clone)]
enum Op {
    /// Joins with the member id that the client has.
    Join {
        client: usize,
        sticky: bool,
    },
    /// Syncs in the client's generation.
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    /// Forgets member id and whatever it waits for, as one that was killed.
    Die(usize),
    /// Reads the answers that have come; without it they are as good as lost.
    Receive(usize),
    Advance(i64),
    Store(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    prop_oneof![
        4 => (client.clone(), any::<bool>()).prop_map(|(client, sticky)| Op::Join { client, sticky }),
        6 => client.clone().prop_map(Op::Receive),
        4 => client.clone().prop_map(Op::Sync),
        2 => client.clone().prop_map(Op::Heartbeat),
        1 => client.clone().prop_map(Op::Leave),
        1 => client.prop_map(Op::Die),
        2 => prop_oneof![0i64..3_000, 0i64..20_000, 0i64..100_000].prop_map(Op::Advance),
        3 => prop::bool::weighted(0.9).prop_map(Op::Store),
    ]
}

/// The first two clients are static members, the others learn their id first, in the way of their version.
#[derive(Default)]
struct Client {
    member_id: Arc<str>,
    generation: i32,
    join: Option<Ticket>,
    sync: Option<Ticket>,
}

struct Model {
    group: Driver,
    clients: Vec<Client>,
    /// The generation that each sync was sent in.
    sent_in: BTreeMap<Ticket, i32>,
    /// Who was asked to assign, by generation.
    leaders: BTreeMap<i32, BTreeSet<Arc<str>>>,
    checked: BTreeSet<Ticket>,
    last_generation: i32,
}

impl Model {
    fn new(config: GroupConfig) -> Self {
        Self {
            group: Driver::new(config),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            sent_in: BTreeMap::new(),
            leaders: BTreeMap::new(),
            checked: BTreeSet::new(),
            last_generation: 0,
        }
    }

    fn instance(client: usize) -> Option<Arc<str>> {
        (client < 2).then(|| format!("i{client}").into())
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Join { client, sticky } => self.join(client, sticky),
            Op::Sync(client) => self.sync(client),
            Op::Heartbeat(client) => {
                let (id, generation) = self.identity(client);
                let instance = Self::instance(client);
                let _ = self
                    .group
                    .run(|group, step| group.heartbeat(&id, instance.as_deref(), generation, step));
            }
            Op::Leave(client) => {
                let (id, _) = self.identity(client);
                let instance = Self::instance(client);
                let _ = self
                    .group
                    .run(|group, step| group.leave(&id, instance.as_deref(), step));
                self.clients[client] = Client::default();
            }
            Op::Die(client) => self.clients[client] = Client::default(),
            Op::Receive(client) => self.receive(client),
            Op::Advance(ms) => self.group.advance(ms),
            Op::Store(succeeds) => {
                let result = succeeds
                    .then_some(())
                    .ok_or(ErrorCode::CoordinatorNotAvailable);
                self.group.store(result);
            }
        }
    }

    fn identity(&self, client: usize) -> (Arc<str>, i32) {
        let client = &self.clients[client];
        (Arc::clone(&client.member_id), client.generation)
    }

    fn join(&mut self, client: usize, sticky: bool) {
        let protocols: &[&str] = if sticky {
            &["sticky", "range"]
        } else {
            &["range", "sticky"]
        };
        let request = JoinRequest {
            instance_id: Self::instance(client),
            member_id_required: client != 4,
            can_skip_assignment: client != 1,
            ..request(&self.clients[client].member_id, protocols)
        };
        self.clients[client].join = Some(self.group.join(request));
    }

    fn sync(&mut self, client: usize) {
        let (member_id, generation) = self.identity(client);
        let members = self.group.group.members();
        let assignment = members
            .map(|member| (Arc::clone(&member.id), assignment_of(&member.id)))
            .collect();
        let ticket = self.group.start_sync(SyncRequest {
            member_id,
            instance_id: Self::instance(client),
            generation,
            protocol_type: None,
            protocol: None,
            assignment,
        });
        self.sent_in.insert(ticket, generation);
        self.clients[client].sync = Some(ticket);
    }

    fn receive(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if let Some(joined) = client
            .join
            .and_then(|join| self.group.joins[&join].as_ref())
        {
            client.join = None;
            match joined.error {
                ErrorCode::None => {
                    client.member_id = Arc::clone(&joined.member_id);
                    client.generation = joined.generation;
                }
                ErrorCode::MemberIdRequired => client.member_id = Arc::clone(&joined.member_id),
                ErrorCode::RebalanceInProgress => {}
                _ => client.member_id = "".into(),
            }
        }
        if let Some(sync) = client.sync
            && self.group.syncs[&sync].is_some()
        {
            client.sync = None;
        }
    }

    fn check(&mut self) {
        let group = &self.group.group;
        assert!(
            group.generation() >= self.last_generation,
            "the generation went back"
        );
        self.last_generation = group.generation();
        let ids: BTreeSet<_> = group.members().map(|m| Arc::clone(&m.id)).collect();
        match group.state() {
            State::Empty => assert!(ids.is_empty()),
            State::PreparingRebalance(_) => {}
            State::CompletingRebalance | State::Stable => {
                let leader = group.leader.clone().expect("a leader");
                assert!(ids.contains(&leader), "the leader is no member");
                let protocol = group.protocol.as_deref().expect("a protocol");
                assert!(group.members().all(|m| m.supports(protocol)));
                assert!(group.members().all(|m| !m.is_new), "one was let in late");
            }
            State::Dead => panic!("nobody deletes this group"),
        }
        for (instance, id) in &group.static_members {
            let member = group.members.get(id).expect("a static member");
            assert_eq!(member.instance_id.as_ref(), Some(instance));
        }
        self.check_answers();
    }

    fn check_answers(&mut self) {
        for (&ticket, joined) in &self.group.joins {
            let Some(joined) = joined else { continue };
            if !self.checked.insert(ticket) || joined.error != ErrorCode::None {
                continue;
            }
            assert_eq!(joined.generation, self.group.group.generation());
            if !joined.members.is_empty() && !joined.skip_assignment {
                assert_eq!(joined.leader, joined.member_id);
                let leaders = self.leaders.entry(joined.generation).or_default();
                leaders.insert(Arc::clone(&joined.member_id));
                assert_eq!(leaders.len(), 1, "two leaders of one generation");
            }
        }
        for (&ticket, synced) in &self.group.syncs {
            let Some(synced) = synced else { continue };
            if self.checked.insert(ticket) && synced.error == ErrorCode::None {
                assert_eq!(self.sent_in[&ticket], self.group.group.generation());
                assert_eq!(self.group.state(), "Stable");
            }
        }
    }

    /// Lets time pass until nobody is left, and demands that everyone was answered.
    fn finish(&mut self) {
        for _ in 0..1_000 {
            while self.group.store(Ok(())).is_some() {
                self.check();
            }
            let Some(deadline_ms) = self.group.group.next_deadline_ms() else {
                break;
            };
            self.group.advance((deadline_ms - self.group.now_ms).max(0));
            self.check();
        }
        assert_eq!(self.group.state(), "Empty");
        for (ticket, joined) in &self.group.joins {
            assert!(joined.is_some(), "join {ticket} was never answered");
        }
        for (ticket, synced) in &self.group.syncs {
            assert!(synced.is_some(), "sync {ticket} was never answered");
        }
    }
}

proptest! {
    #[test]
    fn whatever_clients_do_the_group_stays_right(
        ops in prop::collection::vec(op(), 1..150),
        initial_rebalance_delay_ms in prop_oneof![Just(0i64), Just(3_000)],
        max_size in 2usize..8,
    ) {
        let mut model = Model::new(GroupConfig { initial_rebalance_delay_ms, max_size, ..config() });
        for op in &ops {
            model.apply(op);
            model.check();
        }
        model.finish();
    }
}
