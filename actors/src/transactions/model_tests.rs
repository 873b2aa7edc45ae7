//! Two producers fight for one transactional id while answers are lost, writes fail and the coordinator crashes. However
//! it goes: what a transaction wrote is committed everywhere or nowhere, as its producer was told; and only the newest
//! producer gets on.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use troupe_protocol::kafka::errors::ErrorCode;

use super::transaction::{End, Init, Producer, Step, Transaction, Value};
use crate::partition::TopicPartition;

const TIMEOUT_MS: i32 = 100;

/// What a producer may do.
#[derive(Debug, Clone, Copy)]
enum Action {
    /// Start, or start anew.
    Init,
    /// Go on after an error (KIP-360).
    GoOn,
    /// Add a partition and write there.
    Write(i32),
    End(bool),
}

/// What becomes of a request that stores something.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Fine,
    /// Stored, but the answer is lost.
    Lost,
    NotStored,
    /// The coordinator crashes before or after the write.
    CrashBefore,
    CrashAfter,
}

#[derive(Debug, Clone)]
enum Event {
    Act(usize, Action, Fate),
    /// One of the markers that are due is written.
    Marker(usize),
    Complete(Fate),
    Pass(i64),
    Crash,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Fine),
        1 => Just(Fate::Lost),
        1 => Just(Fate::NotStored),
        1 => Just(Fate::CrashBefore),
        1 => Just(Fate::CrashAfter),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let action = prop_oneof![
        1 => Just(Action::Init),
        1 => Just(Action::GoOn),
        4 => (0..3).prop_map(Action::Write),
        3 => any::<bool>().prop_map(Action::End),
    ];
    prop_oneof![
        10 => (0..2usize, action, fate()).prop_map(|(who, action, fate)| Event::Act(who, action, fate)),
        6 => (0..3usize).prop_map(Event::Marker),
        4 => fate().prop_map(Event::Complete),
        1 => (0i64..150).prop_map(Event::Pass),
        1 => Just(Event::Crash),
    ]
}

/// What a partition keeps.
#[derive(Debug, Default)]
struct Partition {
    epochs: BTreeMap<i64, i16>,
    /// Transactions with records that are neither committed nor aborted, by producer id.
    open: BTreeMap<i64, BTreeSet<usize>>,
    committed: BTreeSet<usize>,
    aborted: BTreeSet<usize>,
}

/// A producer, as its client sees it.
#[derive(Debug, Default)]
struct Client {
    version: i16,
    producer: Option<Producer>,
    /// Its open transaction.
    transaction: Option<usize>,
    /// The end that it asks for until it has an answer.
    ending: Option<bool>,
}

struct World {
    /// What the log says: all that survives a crash.
    log: Option<Value>,
    id: Option<Transaction>,
    /// Partitions that have the marker of the transaction that is ending.
    marked: BTreeSet<TopicPartition>,
    partitions: BTreeMap<TopicPartition, Partition>,
    clients: [Client; 2],
    now_ms: i64,
    next_id: i64,
    /// What producers were told about their transactions.
    told: Vec<Option<bool>>,
    /// Who was given which epoch.
    given: BTreeMap<(i64, i16), usize>,
}

impl World {
    fn new(versions: [i16; 2]) -> Self {
        Self {
            log: None,
            id: None,
            marked: BTreeSet::new(),
            partitions: (0..3)
                .map(|index| (TopicPartition::new("t", index), Partition::default()))
                .collect(),
            clients: versions.map(|version| Client {
                version,
                ..Client::default()
            }),
            now_ms: 0,
            next_id: 0,
            told: Vec::new(),
            given: BTreeMap::new(),
        }
    }

    fn crash(&mut self) {
        self.id = self.log.clone().map(Transaction::restored);
        self.marked.clear();
    }

    /// Stores what is pending; returns whether the asker hears of it.
    fn store(&mut self, fate: Fate) -> Result<(), ErrorCode> {
        let unknown = Err(ErrorCode::NotCoordinator);
        let Some(id) = &mut self.id else {
            return unknown;
        };
        if matches!(fate, Fate::Fine | Fate::Lost | Fate::CrashAfter) {
            self.log = id.pending().cloned();
        }
        match fate {
            Fate::CrashBefore | Fate::CrashAfter => {
                self.crash();
                unknown
            }
            Fate::NotStored => {
                id.stored(false);
                if id.is_new() {
                    self.id = None;
                }
                Err(ErrorCode::CoordinatorNotAvailable)
            }
            Fate::Fine | Fate::Lost => {
                id.stored(true);
                self.marked.clear();
                if fate == Fate::Lost { unknown } else { Ok(()) }
            }
        }
    }

    fn follow(&mut self, step: Result<Step, ErrorCode>, fate: Fate) -> Result<Producer, ErrorCode> {
        match step? {
            Step::Answer(producer) => Ok(producer),
            Step::Store(producer) => self.store(fate).map(|()| producer),
            Step::Fence => {
                self.store(fate)?;
                Err(ErrorCode::ConcurrentTransactions)
            }
            Step::NeedsProducerId => panic!("a fresh id was given"),
        }
    }

    fn act(&mut self, who: usize, action: Action, fate: Fate) {
        let client = &self.clients[who];
        match (action, client.producer, client.ending) {
            (Action::Init, ..) => self.init(who, None, fate),
            (_, None, _) => {}
            (_, Some(producer), Some(commit)) => self.end(who, producer, commit, fate),
            // A client aborts first.
            (Action::GoOn, Some(producer), None) if client.transaction.is_none() => {
                self.init(who, Some(producer), fate);
            }
            (Action::GoOn, ..) => {}
            (Action::Write(partition), Some(producer), None) => {
                self.write(who, producer, partition, fate);
            }
            (Action::End(commit), Some(producer), None) if client.transaction.is_some() => {
                self.end(who, producer, commit, fate);
            }
            (Action::End(_), ..) => {}
        }
    }

    fn init(&mut self, who: usize, expected: Option<Producer>, fate: Fate) {
        let init = Init {
            timeout_ms: TIMEOUT_MS,
            expected,
        };
        self.next_id += 1;
        let (fresh, now_ms) = (self.next_id, self.now_ms);
        let id = self
            .id
            .get_or_insert_with(|| Transaction::new(fresh, now_ms));
        let step = id.init(init, Some(fresh), now_ms);
        match self.follow(step, fate) {
            Ok(producer) => {
                self.give(who, producer);
                let client = &mut self.clients[who];
                client.producer = Some(producer);
                client.transaction = None;
                client.ending = None;
            }
            Err(ErrorCode::ProducerFenced) => self.fenced(who),
            Err(_) => {}
        }
    }

    /// An epoch belongs to one producer alone.
    fn give(&mut self, who: usize, producer: Producer) {
        let owner = *self
            .given
            .entry((producer.id, producer.epoch))
            .or_insert(who);
        assert_eq!(owner, who, "{producer:?} was given to both");
    }

    fn fenced(&mut self, who: usize) {
        let client = &mut self.clients[who];
        *client = Client {
            version: client.version,
            ..Client::default()
        };
    }

    fn write(&mut self, who: usize, producer: Producer, partition: i32, fate: Fate) {
        let Some(id) = &mut self.id else { return };
        let version = self.clients[who].version;
        let partition = TopicPartition::new("t", partition);
        let partitions = BTreeSet::from([partition.clone()]);
        let step = id.add(producer, &partitions, version, self.now_ms);
        // Whatever becomes of it, the client knows that it may have begun.
        if self.clients[who].transaction.is_none() && step.is_ok() {
            self.clients[who].transaction = Some(self.told.len());
            self.told.push(None);
        }
        match self.follow(step, fate) {
            Ok(_) => {
                let transaction = self.clients[who].transaction.expect("it has begun");
                let log = self.partitions.get_mut(&partition).expect("it exists");
                let epoch = log.epochs.entry(producer.id).or_insert(producer.epoch);
                assert!(
                    *epoch <= producer.epoch,
                    "the coordinator took a fenced one"
                );
                *epoch = producer.epoch;
                log.open.entry(producer.id).or_default().insert(transaction);
            }
            Err(ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping) => {
                self.fenced(who)
            }
            Err(_) => {}
        }
    }

    fn end(&mut self, who: usize, producer: Producer, commit: bool, fate: Fate) {
        let Some(id) = &mut self.id else { return };
        let end = End {
            producer,
            commit,
            transaction_version: self.clients[who].version,
        };
        self.next_id += 1;
        let step = id.end(end, Some(self.next_id), self.now_ms);
        self.clients[who].ending = Some(commit);
        match self.follow(step, fate) {
            Ok(next) => {
                self.give(who, next);
                let client = &mut self.clients[who];
                client.producer = Some(next);
                client.ending = None;
                if let Some(transaction) = client.transaction.take() {
                    self.told[transaction] = Some(commit);
                }
            }
            Err(
                ErrorCode::ProducerFenced
                | ErrorCode::InvalidProducerIdMapping
                | ErrorCode::InvalidTxnState,
            ) => self.fenced(who),
            Err(_) => {}
        }
    }

    /// Writes the marker to one of the partitions that are due.
    fn marker(&mut self, which: usize) {
        let Some(ending) = self.id.as_ref().and_then(Transaction::to_end) else {
            return;
        };
        let due = ending.partitions.difference(&self.marked).cloned();
        let Some(partition) = due.cycle().nth(which) else {
            return;
        };
        let log = self.partitions.get_mut(&partition).expect("it exists");
        let epoch = log.epochs.entry(ending.producer.id).or_default();
        assert!(*epoch <= ending.producer.epoch, "the marker is too old");
        *epoch = ending.producer.epoch;
        let closed = log.open.remove(&ending.producer.id).unwrap_or_default();
        if ending.committed {
            log.committed.extend(closed);
        } else {
            log.aborted.extend(closed);
        }
        self.marked.insert(partition);
    }

    fn complete(&mut self, fate: Fate) {
        let Some(id) = &mut self.id else { return };
        let ending = id.to_end();
        if ending.is_some_and(|ending| ending.partitions.is_subset(&self.marked))
            && id.complete(self.now_ms)
        {
            let _ = self.store(fate);
        }
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let now_ms = self.now_ms;
        if self.id.as_mut().is_some_and(|id| id.time_out(now_ms)) {
            self.store(Fate::Fine).expect("it is stored");
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Act(who, action, fate) => self.act(who, action, fate),
            Event::Marker(which) => self.marker(which),
            Event::Complete(fate) => self.complete(fate),
            Event::Pass(ms) => self.pass(ms),
            Event::Crash => self.crash(),
        }
        let logged = self.log.as_ref();
        let in_memory = self.id.as_ref().filter(|id| !id.is_new());
        assert_eq!(
            in_memory.map(Transaction::value),
            logged,
            "memory and log differ"
        );
    }

    /// Lets everything come to its end, and looks at what is left.
    fn settle(mut self) {
        self.pass(i64::from(TIMEOUT_MS) + 1);
        for _ in 0..3 {
            self.marker(0);
        }
        self.complete(Fate::Fine);
        let all = |of: fn(&Partition) -> &BTreeSet<usize>| -> BTreeSet<usize> {
            self.partitions.values().flat_map(of).copied().collect()
        };
        let committed = all(|partition| &partition.committed);
        let aborted = all(|partition| &partition.aborted);
        for (partition, log) in &self.partitions {
            assert!(log.open.is_empty(), "{partition} hangs: {log:?}");
        }
        assert!(committed.is_disjoint(&aborted), "{committed:?} {aborted:?}");
        for (transaction, told) in self.told.iter().enumerate() {
            match told {
                Some(true) => assert!(!aborted.contains(&transaction), "{transaction} is lost"),
                Some(false) => assert!(!committed.contains(&transaction), "{transaction} is back"),
                None => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn transactions_are_atomic_whatever_happens(
        versions in prop::array::uniform2(prop::sample::select(vec![0i16, 2])),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(versions);
        for event in &events {
            world.happen(event);
        }
        world.settle();
    }
}
