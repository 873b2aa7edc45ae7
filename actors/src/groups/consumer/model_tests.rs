//! A consumer group among members of both protocols that join, die, lose answers and come back, while topics change,
//! records get lost and the coordinator starts again, in random order.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use troupe_protocol::kafka::errors::ErrorCode;
use uuid::Uuid;

use super::group::{MigrationPolicy, Refusal};
use super::heartbeat::{Beat, Heartbeat, LEAVE_EPOCH, LEAVE_FOR_A_WHILE_EPOCH};
use super::member::{Partitions, TopicIdPartition};
use super::testing::{Driver, beating, classic_join, joining, read_assignment};
use super::topics::{Topic, Topics};
use crate::groups::session::SyncRequest;

/// The first two are dynamic members, the third is a static one, the others speak the classic protocol: one gives
/// everything back before it joins, one only what it has to.
const CLIENTS: usize = 5;
const STATIC: usize = 2;
const EAGER: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    AnswerLost,
    /// The records can't be stored.
    WriteFails,
}

#[derive(Debug, Clone)]
enum Op {
    /// Whatever a client does next.
    Step(usize, Fate),
    Leave(usize),
    /// A static member goes for a while, any other as if it were killed.
    Vanish(usize),
    Advance(i64),
    /// A topic gets more partitions.
    Grow(usize, i32),
    /// A topic is deleted, and made anew at once or not.
    Replace(usize, i32),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let fate = prop_oneof![
        6 => Just(Fate::Arrives),
        2 => Just(Fate::AnswerLost),
        1 => Just(Fate::WriteFails),
    ];
    prop_oneof![
        20 => (client.clone(), fate).prop_map(|(client, fate)| Op::Step(client, fate)),
        1 => client.clone().prop_map(Op::Leave),
        1 => client.prop_map(Op::Vanish),
        2 => prop_oneof![0i64..5_000, 0i64..70_000].prop_map(Op::Advance),
        1 => (0usize..2, 0i32..3).prop_map(|(topic, more)| Op::Grow(topic, more)),
        1 => (0usize..2, 0i32..9).prop_map(|(topic, size)| Op::Replace(topic, size)),
        1 => Just(Op::Restart),
    ]
}

#[derive(Debug, Clone, Default)]
struct Client {
    number: usize,
    /// How often it began anew under another id.
    life: usize,
    epoch: i32,
    owned: Partitions,
    /// Whether it got no answer: then clients say everything again, and are told everything.
    says_all: bool,
    /// Of a classic member: whether it has to join, or else to sync.
    has_joined: bool,
    has_synced: bool,
}

impl Client {
    fn id(&self) -> Arc<str> {
        format!("c{}-{}", self.number, self.life).into()
    }

    fn is_classic(&self) -> bool {
        self.number > STATIC
    }

    fn instance(&self) -> Option<Arc<str>> {
        (self.number == STATIC).then(|| "static".into())
    }

    fn begin_anew(&mut self) {
        *self = Client {
            number: self.number,
            life: self.life,
            ..Client::default()
        };
    }

    fn be_another(&mut self) {
        self.begin_anew();
        self.life += 1;
    }
}

struct Model {
    driver: Driver,
    clients: Vec<Client>,
    version: u64,
    topics: [Topic; 2],
}

impl Model {
    fn new() -> Self {
        let mut driver = Driver::new(&[4, 2]);
        driver.config.migration = MigrationPolicy {
            upgrade: true,
            downgrade: false,
        };
        let client = |number| Client {
            number,
            ..Client::default()
        };
        let mut model = Self {
            driver,
            clients: (0..CLIENTS).map(client).collect(),
            version: 1,
            topics: [Topic {
                id: Uuid::nil(),
                partitions: 0,
            }; 2],
        };
        model.replace_topic(0, 4);
        model.replace_topic(1, 2);
        model
    }

    fn replace_topic(&mut self, topic: usize, partitions: i32) {
        let id = Uuid::from_u128(self.version.into());
        self.topics[topic] = Topic { id, partitions };
        self.publish_topics();
    }

    fn publish_topics(&mut self) {
        self.version += 1;
        let named = ["t0".into(), "t1".into()].into_iter().zip(self.topics);
        let existing = named.filter(|(_, topic)| topic.partitions > 0);
        self.driver.topics = Topics::new(self.version, existing.collect());
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Step(client, fate) => self.step(client, fate),
            Op::Leave(client) => self.leave(client),
            Op::Vanish(client) => self.vanish(client),
            Op::Advance(ms) => self.driver.advance(ms),
            Op::Grow(topic, more) => {
                // What does not exist can't grow.
                if self.topics[topic].partitions > 0 {
                    self.topics[topic].partitions += more;
                }
                self.publish_topics();
            }
            Op::Replace(topic, size) => self.replace_topic(topic, size),
            Op::Restart => self.driver.restart(),
        }
    }

    fn step(&mut self, number: usize, fate: Fate) {
        let log = self.driver.log.clone();
        let mut client = self.clients[number].clone();
        if client.is_classic() {
            self.step_classic(&mut client);
        } else {
            self.beat(&mut client);
        }
        match fate {
            Fate::Arrives => self.clients[number] = client,
            Fate::AnswerLost => self.before_answer(number),
            Fate::WriteFails => {
                self.before_answer(number);
                self.driver.log = log;
                self.driver.group.lost_records();
            }
        }
    }

    /// What a client has given up before it asked stays given up.
    fn before_answer(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.says_all = true;
        if number == EAGER && !client.has_joined {
            client.owned.clear();
        }
    }

    fn beat(&mut self, client: &mut Client) {
        let beat = if client.epoch == 0 {
            joining(&client.id(), &["t0", "t1"])
        } else {
            beating(&client.id(), client.epoch, Some(&client.owned))
        };
        let beat = Heartbeat {
            instance_id: client.instance(),
            rebalance_timeout_ms: Some(60_000),
            topics: client
                .says_all
                .then(|| ["t0".into(), "t1".into()].into())
                .or(beat.topics),
            ..beat
        };
        take(client, self.driver.beat(&beat));
    }

    fn step_classic(&mut self, client: &mut Client) {
        let id = client.id();
        let outcome = if !client.has_joined {
            self.join_classic(client)
        } else if client.has_synced {
            let beaten = self
                .driver
                .run(|group, step| group.classic_heartbeat(&id, None, client.epoch, step));
            beaten.inspect_err(|_| client.has_joined = false)
        } else {
            self.sync_classic(client)
        };
        match outcome {
            Ok(()) => {}
            Err(ErrorCode::RebalanceInProgress) => client.has_joined = false,
            Err(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => client.begin_anew(),
            Err(other) => panic!("{other}"),
        }
    }

    fn join_classic(&mut self, client: &mut Client) -> Result<(), ErrorCode> {
        if client.number == EAGER {
            client.owned.clear();
        }
        // The model's classic members know one topic.
        let owned: Vec<i32> = client.owned.iter().map(|&(_, number)| number).collect();
        let join = classic_join(&client.id(), &owned);
        let joined = self.driver.run(|group, step| group.join(&join, step))?;
        client.epoch = joined.generation;
        client.has_joined = true;
        client.has_synced = false;
        Ok(())
    }

    fn sync_classic(&mut self, client: &mut Client) -> Result<(), ErrorCode> {
        let sync = SyncRequest {
            member_id: client.id(),
            instance_id: None,
            generation: client.epoch,
            protocol_type: None,
            protocol: None,
            assignment: BTreeMap::new(),
        };
        let synced = self.driver.run(|group, step| group.sync(&sync, step))?;
        client.owned = read_assignment(&synced.assignment, &self.driver.topics);
        client.has_synced = true;
        Ok(())
    }

    fn leave(&mut self, number: usize) {
        let client = self.clients[number].clone();
        let id = client.id();
        if client.is_classic() {
            let _ = self
                .driver
                .run(|group, step| group.classic_leave(&id, None, step));
        } else {
            let beat = Heartbeat {
                instance_id: client.instance(),
                ..beating(&id, LEAVE_EPOCH, None)
            };
            let _ = self.driver.beat(&beat);
        }
        self.clients[number].be_another();
    }

    fn vanish(&mut self, number: usize) {
        let client = &self.clients[number];
        if client.instance().is_some() {
            let beat = Heartbeat {
                instance_id: client.instance(),
                ..beating(&client.id(), LEAVE_FOR_A_WHILE_EPOCH, None)
            };
            let _ = self.driver.beat(&beat);
        }
        self.clients[number].be_another();
    }

    /// Demands that whoever is in the group has no more than the group knows of, and no two have the same.
    fn check(&self) {
        let group = &self.driver.group;
        let mut holders = BTreeMap::<TopicIdPartition, &str>::new();
        for (id, member) in group.members() {
            let held = &member.current.assigned | &member.current.revoking;
            for partition in &held {
                let other = holders.insert(*partition, id);
                assert_eq!(other, None, "{partition:?} is held twice");
            }
            assert!(member.current.epoch <= group.epoch());
            let client = self.clients.iter().find(|client| client.id() == *id);
            if let Some(client) = client {
                let topics = &self.driver.topics;
                let mut owned = client.owned.iter();
                // Whoever still reads from a topic that is no more learns of that with the next answer.
                assert!(
                    owned.all(|owned| held.contains(owned) || topics.name(owned.0).is_none()),
                    "{client:?} owns what it may not: {held:?}"
                );
            }
        }
        let owners = group.owners.iter();
        let owners = owners.map(|(partition, id)| (*partition, &**id));
        assert_eq!(holders, owners.collect());
        assert!(group.target_epoch() <= group.epoch());
    }

    /// Tells whether everyone is there and has what it is to have.
    fn is_settled(&self) -> bool {
        let group = &self.driver.group;
        let has_all = |client: &Client| {
            let target = group.target(&client.id());
            target.is_some_and(|target| *target == client.owned)
        };
        group.seen_topics == Some(self.driver.topics.version())
            && group.state_name() == "Stable"
            && group.members().count() == CLIENTS
            && self.clients.iter().all(has_all)
    }

    /// Lets everyone go on undisturbed, and demands that all is assigned then, evenly.
    fn finish(&mut self) {
        self.replace_topic(0, 7);
        self.replace_topic(1, 3);
        for _ in 0..200 {
            if self.is_settled() {
                break;
            }
            for number in 0..CLIENTS {
                self.step(number, Fate::Arrives);
                self.check();
            }
            self.driver.advance(1_000);
            self.check();
        }
        let group = &self.driver.group;
        assert_eq!(group.state_name(), "Stable");
        assert_eq!(group.members().count(), CLIENTS);
        let mut counts = Vec::new();
        for client in &self.clients {
            assert_eq!(client.owned, self.driver.assigned(&client.id()));
            counts.push(client.owned.len());
        }
        assert_eq!(counts.iter().sum::<usize>(), 10, "all partitions are read");
        assert!(counts.iter().all(|&count| count == 2), "{counts:?}");
    }
}

/// Learns from the answer to a heartbeat.
fn take(client: &mut Client, answer: Result<Beat, Refusal>) {
    match answer.map_err(|refusal| refusal.error) {
        Ok(beat) => {
            client.epoch = beat.member_epoch;
            client.says_all = false;
            if let Some(assignment) = beat.assignment {
                client.owned = assignment;
            }
        }
        Err(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => client.begin_anew(),
        Err(ErrorCode::UnreleasedInstanceId) => {}
        Err(ErrorCode::FencedInstanceId) => client.be_another(),
        Err(other) => panic!("{other}"),
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_read_twice_and_all_in_the_end(
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut model = Model::new();
        for op in &ops {
            model.apply(op);
            model.check();
        }
        model.finish();
    }
}
