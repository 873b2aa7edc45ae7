//! Balances among members that do not subscribe to the same topics.
//!
//! Everyone keeps what it has, what is left goes to whoever has least. Then partitions are handed on along chains of
//! members, each of which may read what it is handed, from one that has more to one that has at least two less, until
//! there is no such chain: no assignment is more balanced then.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use super::{Assignment, Subscriber};
use crate::groups::consumer::member::{Partitions, TopicIdPartition};

/// How often a partition may be looked at in all chains together. Beyond it the assignment is taken as it is: the
/// coordinator has more to do.
const MAX_LOOKS: usize = 20_000_000;

struct Balance {
    /// Members by topic, by their places.
    subscribers: BTreeMap<Uuid, Vec<usize>>,
    /// What each member has, by its place.
    owned: Vec<Partitions>,
    looks: usize,
}

/// Assigns all partitions to those who subscribe to their topics.
pub(super) fn balance(members: &[Subscriber<'_>], all: &[TopicIdPartition]) -> Assignment {
    let mut subscribers = BTreeMap::<Uuid, Vec<usize>>::new();
    for (place, member) in members.iter().enumerate() {
        for &topic in &member.topics {
            subscribers.entry(topic).or_default().push(place);
        }
    }
    let mut unassigned: Partitions = all.iter().copied().collect();
    let keep = |member: &Subscriber<'_>| -> Partitions {
        let kept = member.current.iter().filter(|partition| {
            member.topics.contains(&partition.0) && unassigned.remove(partition)
        });
        kept.copied().collect()
    };
    let owned = members.iter().map(keep).collect();
    let mut balance = Balance {
        subscribers,
        owned,
        looks: 0,
    };
    balance.hand_out(unassigned);
    while balance.looks < MAX_LOOKS && balance.improve() {}
    let ids = members.iter().map(|member| member.id.clone());
    ids.zip(balance.owned).collect()
}

impl Balance {
    fn load(&self, place: usize) -> usize {
        self.owned.get(place).map_or(0, Partitions::len)
    }

    fn subscribers(&self, topic: Uuid) -> &[usize] {
        self.subscribers.get(&topic).map_or(&[], Vec::as_slice)
    }

    /// Gives each partition to whoever may read it and has least; those that few may read come first.
    fn hand_out(&mut self, unassigned: Partitions) {
        let mut unassigned: Vec<TopicIdPartition> = unassigned.into_iter().collect();
        unassigned.sort_by_key(|&(topic, _)| self.subscribers(topic).len());
        for partition in unassigned {
            let candidates = self.subscribers(partition.0).iter().copied();
            let least = candidates.min_by_key(|&place| (self.load(place), place));
            if let Some(mine) = least.and_then(|place| self.owned.get_mut(place)) {
                mine.insert(partition);
            }
        }
    }

    /// Hands partitions on along one chain; tells whether there was one.
    fn improve(&mut self) -> bool {
        let mut by_load: Vec<usize> = (0..self.owned.len()).collect();
        by_load.sort_by_key(|&place| std::cmp::Reverse(self.load(place)));
        for from in by_load {
            if let Some(chain) = self.chain(from) {
                for (giver, taker, partition) in chain {
                    self.hand_on(giver, taker, partition);
                }
                return true;
            }
        }
        false
    }

    fn hand_on(&mut self, giver: usize, taker: usize, partition: TopicIdPartition) {
        if let Some(owned) = self.owned.get_mut(giver) {
            owned.remove(&partition);
        }
        if let Some(owned) = self.owned.get_mut(taker) {
            owned.insert(partition);
        }
    }

    /// Finds the shortest chain from a member to one that has at least two less: giver, taker and partition each.
    fn chain(&mut self, from: usize) -> Option<Vec<(usize, usize, TopicIdPartition)>> {
        let least = self.load(from).checked_sub(2)?;
        let mut reached = BTreeMap::<usize, (usize, TopicIdPartition)>::new();
        let mut queue = VecDeque::from([from]);
        while let Some(giver) = queue.pop_front() {
            let partitions: Vec<TopicIdPartition> = self
                .owned
                .get(giver)
                .into_iter()
                .flatten()
                .copied()
                .collect();
            for partition in partitions {
                let takers = self.subscribers(partition.0).to_vec();
                self.looks = self.looks.saturating_add(takers.len());
                for taker in takers {
                    if taker == from || reached.contains_key(&taker) {
                        continue;
                    }
                    reached.insert(taker, (giver, partition));
                    if self.load(taker) <= least {
                        return Some(path(&reached, from, taker));
                    }
                    queue.push_back(taker);
                }
            }
        }
        None
    }
}

fn path(
    reached: &BTreeMap<usize, (usize, TopicIdPartition)>,
    from: usize,
    to: usize,
) -> Vec<(usize, usize, TopicIdPartition)> {
    let mut path = Vec::new();
    let mut taker = to;
    while taker != from {
        let Some(&(giver, partition)) = reached.get(&taker) else {
            break;
        };
        path.push((giver, taker, partition));
        taker = giver;
    }
    path
}
