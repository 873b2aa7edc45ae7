//! Whatever happens in whatever order: the rules of [`super::model`] hold, and it all comes to a good end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::model::{Model, name, topic};
use super::*;
use crate::metadata::NO_LEADER;

const BROKERS: [BrokerId; 5] = [1, 2, 3, 4, 5];
const TOPICS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Happening {
    Came(Vec<BrokerId>),
    Went(Vec<BrokerId>),
    Created(Index, Vec<Vec<BrokerId>>, bool),
    /// The leader lets in and throws out; whether the controller hears of it.
    IsrWritten(Index, Vec<BrokerId>, bool),
    StateLost(Index),
    Preferred,
    Balance(u32),
    Unclean(Index),
    Shutdown(Index),
    Reassigned(Index, Vec<BrokerId>),
    Cancelled(Index),
    Deleted(Index),
    DeletionsAnswered(bool),
    Succeeded(Vec<BrokerId>),
}

fn some_brokers() -> impl Strategy<Value = Vec<BrokerId>> {
    subsequence(BROKERS.to_vec(), 1..=3).prop_shuffle()
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let index = any::<Index>;
    prop_oneof![
        3 => some_brokers().prop_map(Came),
        2 => some_brokers().prop_map(Went),
        3 => (index(), prop::collection::vec(some_brokers(), 1..4), any::<bool>())
            .prop_map(|(topic, replicas, unclean)| Created(topic, replicas, unclean)),
        6 => (index(), subsequence(BROKERS.to_vec(), 0..=5), any::<bool>())
            .prop_map(|(partition, isr, heard)| IsrWritten(partition, isr, heard)),
        1 => index().prop_map(StateLost),
        1 => Just(Preferred),
        1 => (0u32..100).prop_map(Balance),
        1 => index().prop_map(Unclean),
        2 => index().prop_map(Shutdown),
        4 => (index(), some_brokers()).prop_map(|(partition, targets)| Reassigned(partition, targets)),
        1 => index().prop_map(Cancelled),
        1 => index().prop_map(Deleted),
        2 => any::<bool>().prop_map(DeletionsAnswered),
        2 => subsequence(BROKERS.to_vec(), 0..=2).prop_map(Succeeded),
    ]
}

/// The model, and where each partition is to end.
struct Run {
    model: Model,
    goals: BTreeMap<TopicPartition, BTreeSet<BrokerId>>,
}

fn set(replicas: &[BrokerId]) -> BTreeSet<BrokerId> {
    replicas.iter().copied().collect()
}

impl Run {
    fn some_partition(&self, index: Index) -> Option<TopicPartition> {
        let names: Vec<_> = self
            .model
            .context
            .partitions()
            .map(|(name, ..)| name)
            .collect();
        (!names.is_empty()).then(|| index.get(&names).clone())
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Came(brokers) => _ = self.model.came(&brokers),
            Happening::Went(brokers) => _ = self.model.went(&brokers),
            Happening::Created(index, replicas, unclean) => {
                self.create(TOPICS[index.index(TOPICS.len())], &replicas, unclean);
            }
            Happening::Preferred => {
                let all = self
                    .model
                    .context
                    .partitions()
                    .map(|(name, ..)| name)
                    .collect();
                self.model.ask(Event::PreferredAsked(all));
            }
            Happening::Balance(percentage) => {
                self.model.ask(Event::BalanceDue { percentage });
            }
            Happening::Shutdown(index) => {
                self.model.ask(Event::ShutdownAsked(*index.get(&BROKERS)));
            }
            Happening::Deleted(index) => {
                _ = self.model.delete(&[TOPICS[index.index(TOPICS.len())]])
            }
            Happening::DeletionsAnswered(deleted) => self.model.answer_deletions(deleted),
            Happening::Succeeded(restarted) => _ = self.model.succeed(&restarted),
            Happening::IsrWritten(index, ..)
            | Happening::StateLost(index)
            | Happening::Unclean(index)
            | Happening::Reassigned(index, _)
            | Happening::Cancelled(index) => {
                if let Some(name) = self.some_partition(index) {
                    self.happens_to(name, happening);
                }
            }
        }
    }

    fn create(&mut self, topic_name: &str, replicas: &[Vec<BrokerId>], unclean: bool) {
        if self.model.context.topics.contains_key(topic_name) {
            return;
        }
        for (number, replicas) in (0..).zip(replicas) {
            let name = name(topic_name, number);
            self.goals.insert(name, set(replicas));
        }
        let replicas: Vec<&[BrokerId]> = replicas.iter().map(Vec::as_slice).collect();
        let mut read = topic(&replicas);
        read.topic.unclean_election = unclean;
        self.model.create(topic_name, read);
    }

    fn happens_to(&mut self, name: TopicPartition, happening: Happening) {
        match happening {
            Happening::IsrWritten(_, isr, heard) => self.write_isr(&name, &isr, heard),
            Happening::StateLost(_) if self.model.stored(&name).is_some() => {
                self.model.lose_state(&name);
                self.model.read([name]);
            }
            Happening::Unclean(_) => {
                self.model.ask(Event::UncleanAsked(BTreeSet::from([name])));
            }
            Happening::Reassigned(_, targets) => {
                let goal = set(&targets);
                self.reassign(name, Some(targets), goal);
            }
            Happening::Cancelled(_) => {
                let home = self.model.homes[&name].clone();
                self.reassign(name, None, home);
            }
            _ => {}
        }
    }

    fn reassign(
        &mut self,
        name: TopicPartition,
        targets: Option<Vec<BrokerId>>,
        goal: BTreeSet<BrokerId>,
    ) {
        let asked = BTreeMap::from([(name.clone(), targets)]);
        self.model.ask(Event::ReassignmentAsked(asked));
        if !self.model.refused.contains_key(&name) {
            self.goals.insert(name, goal);
        }
    }

    /// The leader lets in only whom it knows as replicas and as alive, and always counts itself.
    fn write_isr(&mut self, name: &TopicPartition, isr: &[BrokerId], heard: bool) {
        let context = &self.model.context;
        let partition = context.partition(name).unwrap();
        let Some(stored) = self.model.stored(name) else {
            return;
        };
        let electable = context.electable();
        let replicas = partition.assignment.replicas.iter().copied();
        let isr: Vec<BrokerId> = replicas
            .filter(|id| *id == stored.leader || (isr.contains(id) && electable.contains(id)))
            .collect();
        if stored.leader != NO_LEADER {
            self.model.leader_writes(name, &isr);
            if heard {
                self.model.read([name.clone()]);
            }
        }
    }

    /// All brokers come back, all replicas catch up, all deletions are answered.
    fn heals(&mut self) {
        self.model.came(&BROKERS);
        for _ in 0..3 {
            let all: Vec<_> = self
                .model
                .context
                .partitions()
                .map(|(name, ..)| name)
                .collect();
            for name in all {
                if self.model.context.partition(&name).is_some() {
                    self.write_isr(&name, &BROKERS, true);
                }
            }
            self.model.answer_deletions(true);
        }
    }

    fn ends_well(&self) {
        let context = &self.model.context;
        assert!(context.deletions.is_empty(), "{:?}", context.deletions);
        assert!(context.stale.is_empty());
        for (name, _, partition) in context.partitions() {
            let replicas = set(&partition.assignment.replicas);
            assert_eq!(replicas, self.goals[&name], "{name}");
            assert!(!partition.assignment.is_reassigning(), "{name}");
            let leadership = partition.leadership.as_ref().unwrap();
            assert_eq!(set(&leadership.isr), replicas, "{name}");
            assert!(replicas.contains(&leadership.leader), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rules_hold_and_all_ends_well(happenings in prop::collection::vec(happening(), 1..60)) {
        let mut run = Run {
            model: Model::with_brokers(&[1, 2, 3]),
            goals: BTreeMap::new(),
        };
        for happening in happenings {
            run.happens(happening);
        }
        run.heals();
        run.ends_well();
    }
}
