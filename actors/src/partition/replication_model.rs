//! Three replicas of one partition against the promises of replication: any order of fetches, lost answers, elections,
//! crashes and changes of the in-sync set, with a leader that does not know yet that it is none.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::follow::divergence;
use super::leader::{FollowerFetch, Leadership};
use super::messages::Reader;
use super::replica::{LogBounds, Replica};
use crate::log::epochs::LeaderEpochs;
use crate::storage::memory::MemoryStorage;

const BROKERS: [i32; 3] = [1, 2, 3];
const LAG: Duration = Duration::from_secs(30);

/// A record: the epoch in which it was written, and what tells it from all others.
type Record = (i32, u32);

struct Broker {
    id: i32,
    replica: Replica,
    log: Vec<Record>,
    epochs: LeaderEpochs,
    /// The leadership that it leads or follows in: leader and epoch.
    knows: Option<(i32, i32)>,
    /// The high watermark that it last had as a leader, and in which epoch.
    led_to: (i32, i64),
}

/// The state of the partition as it is written down.
struct Written {
    leader: i32,
    leader_epoch: i32,
    version: i32,
    isr: Vec<i32>,
}

/// A change of the in-sync set on its way.
struct Proposal {
    leader: i32,
    leader_epoch: i32,
    version: i32,
    isr: Vec<i32>,
}

struct Cluster {
    brokers: Vec<Broker>,
    written: Written,
    proposals: Vec<Proposal>,
    /// Records that were acknowledged with acks=all, by offset.
    acknowledged: Vec<Record>,
    now: Duration,
    records: u32,
}

#[derive(Debug, Clone)]
enum Step {
    /// The broker appends so many records, if it believes that it leads.
    Append(usize, u32),
    /// It fetches so many records at most from its leader; the answer may be lost.
    Fetch(usize, usize, bool),
    /// Time passes, and leaders look for followers that lag.
    Lag(u64),
    /// The next change of the in-sync set is written; the answer may be lost.
    Write(bool),
    /// A member of the in-sync set is elected.
    Elect(usize),
    /// A broker hears of the current leadership.
    Hear(usize),
    /// A broker loses its role for a while.
    Resign(usize),
    /// A broker forgets what is not in its log.
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let broker = || 0usize..3;
    let step = prop_oneof![
        4 => (broker(), 1u32..4).prop_map(|(at, count)| Step::Append(at, count)),
        12 => (broker(), 0usize..4, prop::bool::weighted(0.1))
            .prop_map(|(at, count, lost)| Step::Fetch(at, count, lost)),
        1 => (1u64..40).prop_map(Step::Lag),
        3 => prop::bool::weighted(0.2).prop_map(Step::Write),
        1 => broker().prop_map(Step::Elect),
        4 => broker().prop_map(Step::Hear),
        3 => broker().prop_map(Step::Resign),
        1 => broker().prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..150)
}

impl Broker {
    fn new(id: i32) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        Self {
            id,
            replica: Replica::new(id, LogBounds { start: 0, end: 0 }, 0),
            log: Vec::new(),
            epochs: LeaderEpochs::empty(storage, Path::new("/")),
            knows: None,
            led_to: (-1, 0),
        }
    }

    fn end(&self) -> i64 {
        i64::try_from(self.log.len()).unwrap()
    }

    fn leads(&self) -> bool {
        self.replica.check_leader().is_ok()
    }

    fn append(&mut self, record: Record) {
        self.epochs.assign(record.0, self.end()).unwrap();
        self.log.push(record);
        self.replica.appended(self.end(), 1);
    }

    fn truncate(&mut self, end: i64) {
        self.log.truncate(usize::try_from(end).unwrap());
        self.epochs.truncate_end(end).unwrap();
        let end = self.end();
        self.replica.truncated(LogBounds { start: 0, end });
    }
}

impl Cluster {
    fn new() -> Self {
        Self {
            brokers: BROKERS.map(Broker::new).into(),
            written: Written {
                leader: 1,
                leader_epoch: 0,
                version: 0,
                isr: BROKERS.to_vec(),
            },
            proposals: Vec::new(),
            acknowledged: Vec::new(),
            now: Duration::from_secs(100),
            records: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append(at, count) => self.append(at, count),
            Step::Fetch(at, count, lost) => self.fetch(at, count, lost),
            Step::Lag(seconds) => {
                self.now += Duration::from_secs(seconds);
                for at in 0..self.brokers.len() {
                    let shrunk = self.brokers[at].replica.shrunk_isr(self.now);
                    self.propose(at, shrunk);
                }
            }
            Step::Write(lost) => self.write(lost),
            Step::Elect(at) => {
                let id = self.brokers[at].id;
                if self.written.isr.contains(&id) {
                    self.written.leader = id;
                    self.written.leader_epoch += 1;
                    self.written.version += 1;
                }
            }
            Step::Hear(at) => self.hear(at),
            Step::Resign(at) => {
                let broker = &mut self.brokers[at];
                broker.replica.resign();
                broker.knows = None;
            }
            Step::Restart(at) => {
                let broker = &mut self.brokers[at];
                // What it has not written by now goes with it.
                self.proposals
                    .retain(|proposal| proposal.leader != broker.id);
                let end = broker.end();
                // The checkpoint of the high watermark is older than that.
                let high_watermark = broker.replica.high_watermark() / 2;
                broker.replica =
                    Replica::new(broker.id, LogBounds { start: 0, end }, high_watermark);
                (broker.knows, broker.led_to) = (None, (-1, 0));
            }
        }
    }

    fn append(&mut self, at: usize, count: u32) {
        let broker = &mut self.brokers[at];
        for _ in 0..count {
            if broker.leads() {
                self.records += 1;
                broker.append((broker.replica.leader_epoch(), self.records));
            }
        }
    }

    fn hear(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        let (leader, leader_epoch) = (self.written.leader, self.written.leader_epoch);
        if leader == broker.id {
            let order = Leadership {
                leader_epoch,
                partition_epoch: self.written.version,
                isr: &self.written.isr,
                replicas: &BROKERS,
                lag_max: LAG,
                now: self.now,
            };
            if broker.replica.lead(&order).unwrap() {
                let end = broker.end();
                broker.epochs.assign(leader_epoch, end).unwrap();
            }
        } else {
            broker.replica.follow(leader_epoch).unwrap();
        }
        broker.knows = Some((leader, leader_epoch));
    }

    fn fetch(&mut self, at: usize, count: usize, lost: bool) {
        let follower = &self.brokers[at];
        let Some((leader_id, epoch)) = follower.knows.filter(|(leader, _)| *leader != follower.id)
        else {
            return;
        };
        let (offset, last) = (follower.end(), follower.epochs.latest());
        let reader = Reader::Follower {
            broker: follower.id,
        };
        let leader_at = usize::try_from(leader_id - 1).unwrap();
        let leader = &mut self.brokers[leader_at];
        if leader.replica.check_reader(reader, epoch).is_err() {
            return;
        }
        let asked = last.map(|entry| leader.epochs.end_offset_for(entry.epoch, leader.end()));
        let diverging = asked
            .zip(last)
            .filter(|((epoch, end), last)| *epoch < last.epoch || *end < offset);
        if diverging.is_none() && leader.replica.check_offset(offset).is_ok() {
            leader.replica.follower_fetches(&FollowerFetch {
                broker: BROKERS[at],
                offset,
                now: self.now,
            });
        }
        let from = usize::try_from(offset).unwrap();
        let copied: Vec<Record> = leader.log.iter().skip(from).take(count).copied().collect();
        let high_watermark = leader.replica.high_watermark();
        let expanded = leader.replica.expanded_isr(BROKERS[at]);
        self.propose(leader_at, expanded);
        if lost {
            return;
        }
        let follower = &mut self.brokers[at];
        if let Some((answer, _)) = diverging {
            let own = follower.epochs.end_offset_for(answer.0, offset);
            let end = divergence(answer, own, offset, follower.replica.high_watermark());
            follower.truncate(end);
            return;
        }
        for record in copied {
            follower.append(record);
        }
        follower.replica.leader_has_replicated(high_watermark);
    }

    fn propose(&mut self, at: usize, isr: Option<Vec<i32>>) {
        let replica = &mut self.brokers[at].replica;
        if let Some(isr) = isr {
            replica.isr_changing_to(&isr);
            self.proposals.push(Proposal {
                leader: BROKERS[at],
                leader_epoch: replica.leader_epoch(),
                version: replica.partition_epoch(),
                isr,
            });
        }
    }

    /// Writes a proposal as the writer does it, and answers unless the answer is lost.
    fn write(&mut self, lost: bool) {
        if self.proposals.is_empty() {
            return;
        }
        let proposal = self.proposals.remove(0);
        let written = &mut self.written;
        let ours =
            (written.leader, written.leader_epoch) == (proposal.leader, proposal.leader_epoch);
        if ours && written.version == proposal.version {
            written.version += 1;
            written.isr = proposal.isr;
        }
        let at = usize::try_from(proposal.leader - 1).unwrap();
        let replica = &mut self.brokers[at].replica;
        if replica.leader_epoch() != proposal.leader_epoch {
            return;
        }
        match ours && !lost {
            true => replica.isr_changed(written.version, written.isr.clone()),
            false => replica.isr_refused(proposal.version, !lost),
        }
    }

    /// Checks the promises after a step.
    fn check(&mut self) -> TestCaseResult {
        for broker in &mut self.brokers {
            let (epoch, now) = (
                broker.replica.leader_epoch(),
                broker.replica.high_watermark(),
            );
            prop_assert!(now <= broker.end(), "broker {}", broker.id);
            if !broker.leads() {
                continue;
            }
            let (before, at) = broker.led_to;
            if before == epoch {
                prop_assert!(
                    now >= at,
                    "broker {} went back from {at} to {now}",
                    broker.id
                );
            }
            broker.led_to = (epoch, now);
            // Producers with acks=all have been answered up to there, whether it still leads or not.
            for (offset, record) in broker
                .log
                .iter()
                .enumerate()
                .take(usize::try_from(now).unwrap())
            {
                match self.acknowledged.get(offset) {
                    Some(known) => prop_assert_eq!(known, record, "offset {}", offset),
                    None => self.acknowledged.push(*record),
                }
            }
        }
        // Whoever may be elected has all of it.
        let members: BTreeSet<i32> = self.written.isr.iter().copied().collect();
        for broker in self.brokers.iter().filter(|one| members.contains(&one.id)) {
            let kept = broker.log.get(..self.acknowledged.len());
            prop_assert_eq!(kept, Some(&self.acknowledged[..]), "broker {}", broker.id);
        }
        // Followers show what was acknowledged and nothing else.
        for broker in &self.brokers {
            let shown = usize::try_from(broker.replica.high_watermark()).unwrap();
            let shown = broker.log.get(..shown);
            prop_assert_eq!(shown, self.acknowledged.get(..shown.map_or(0, <[_]>::len)));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn what_was_acknowledged_is_never_lost(steps in steps()) {
        let mut cluster = Cluster::new();
        for at in 0..BROKERS.len() {
            cluster.hear(at);
        }
        for step in &steps {
            cluster.take(step);
            cluster.check()?;
        }
    }

    #[test]
    fn in_the_end_all_logs_are_the_same(steps in steps(), leader in 0usize..3) {
        let mut cluster = Cluster::new();
        for step in &steps {
            cluster.take(step);
        }
        // A leader, followers that hear of it and fetch, and all is well.
        cluster.take(&Step::Elect(leader));
        for at in 0..BROKERS.len() {
            cluster.hear(at);
        }
        let leads = usize::try_from(cluster.written.leader - 1).unwrap();
        cluster.append(leads, 1);
        for at in (0..BROKERS.len()).cycle().take(3 * 400) {
            cluster.fetch(at, 3, false);
            cluster.write(false);
        }
        let log = cluster.brokers[leads].log.clone();
        for broker in &cluster.brokers {
            prop_assert_eq!(&broker.log, &log, "broker {}", broker.id);
            prop_assert_eq!(broker.replica.high_watermark(), broker.end());
        }
        let isr: BTreeSet<i32> = cluster.written.isr.iter().copied().collect();
        prop_assert_eq!(isr.len(), BROKERS.len());
    }
}
