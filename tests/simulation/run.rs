//! One run: a cluster, its clients and what goes wrong, from one seed to a verdict.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use troupe_actors::network::Network;

use crate::admin::Admin;
use crate::cluster::{self, Machine};
use crate::consumer::Consumer;
use crate::coordinator::{self, Coordinator};
use crate::elections::Store;
use crate::faults::{Faults, Kind, LATENCY};
use crate::history::{History, Id, Known, Partition};
use crate::network::{Trace, network};
use crate::offsets::Committer;
use crate::producer::Producer;
use crate::replicas;
use crate::transactions::Transactional;
use crate::wire::Client;

/// Without faults, so that topics are there.
const CALM: Duration = Duration::from_secs(2);
/// With faults.
const STORM: Duration = Duration::from_secs(16);
/// How long everything may take to be well again.
const RECOVERY: Duration = Duration::from_secs(90);

/// The numbers of the producers with transactional ids.
const TRANSACTIONAL: Range<u32> = 10..12;

/// What came of a run.
#[derive(Debug)]
pub struct Verdict {
    pub violations: Vec<String>,
    pub acknowledged: usize,
    pub faults: u32,
    /// The sum of all that was sent, and how many pieces that were.
    pub trace: (u64, u64),
    pub lasted: Duration,
}

/// A run under way.
struct Run {
    sim: turmoil::Sim<'static>,
    random: StdRng,
    kind: Kind,
    machines: Vec<Machine>,
    partitions: Vec<Partition>,
    history: History,
    trace: Trace,
    network: Network,
}

/// Runs a seed.
pub fn run(seed: u64) -> Verdict {
    let mut run = Run::new(seed);
    run.start_hosts();
    run.start_clients();
    let mut faults = run.faults();
    let finished = run.live(&mut faults);
    let lasted = run.sim.elapsed();
    match finished {
        // Replicas that are not the same yet say nothing.
        Ok(()) if run.history.violations().is_empty() => run.check_replicas(),
        Ok(()) => {}
        Err(error) => run.history.violated(error),
    }
    Verdict {
        violations: run.history.violations(),
        acknowledged: run.history.count(),
        faults: faults.count,
        trace: run.trace.sum(),
        lasted,
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let sim = turmoil::Builder::new()
            .rng_seed(random.random())
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(Duration::from_millis(2))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(LATENCY)
            .tcp_capacity(4_096)
            .enable_random_order()
            .build();
        let trace = Trace::default();
        let brokers = match random.random_ratio(1, 5) {
            true => 5,
            false => 3,
        };
        let kind = match random.random_ratio(1, 4) {
            true => Kind::Power,
            false => Kind::Processes,
        };
        Self {
            sim,
            random,
            kind,
            machines: (0..brokers).map(|_| Machine::default()).collect(),
            partitions: (0..2)
                .map(|index| Partition {
                    topic: "records".to_owned(),
                    index,
                })
                .collect(),
            history: History::new(trace.clone()),
            network: network(&trace),
            trace,
        }
    }

    fn start_hosts(&mut self) {
        let store = Store::new(self.history.clone());
        cluster::coordination(&mut self.sim, &store, &self.network);
        let segment_bytes = self.random.random_range(2_000..200_000);
        let mut settings = vec![("log.segment.bytes", i32::to_string(&segment_bytes))];
        if self.kind == Kind::Power {
            settings.push(("log.flush.interval.messages", "1".to_owned()));
        }
        for (id, machine) in (1..).zip(&self.machines) {
            cluster::broker(&mut self.sim, id, machine, &self.network, &settings);
        }
    }

    fn client(&mut self) -> Client {
        let brokers = i32::try_from(self.machines.len()).expect("few");
        let random = StdRng::seed_from_u64(self.random.random());
        Client::new(self.network.clone(), brokers, random)
    }

    /// Starts all clients on one host: each one more would take its time in every step.
    fn start_clients(&mut self) {
        let mut clients: Vec<LocalBoxFuture<'static, ()>> = Vec::new();
        let admin = Admin::new(self.client(), self.history.clone());
        clients.push(admin.run(self.partitions.clone()).boxed_local());
        for number in 0..2 {
            let history = self.history.clone();
            let producer = Producer::new(number, self.client(), history, self.partitions.clone());
            clients.push(producer.run().boxed_local());
        }
        let coordinator = Coordinator::new(self.client(), coordinator::Kind::Group, "group");
        let committer = Committer {
            coordinator,
            history: self.history.clone(),
            partition: self.partitions[0].clone(),
        };
        clients.push(committer.run().boxed_local());
        for number in TRANSACTIONAL {
            let (history, partitions) = (self.history.clone(), self.partitions.clone());
            let producer = Transactional::new(number, self.client(), history, partitions);
            clients.push(producer.run().boxed_local());
        }
        for partition in self.partitions.clone() {
            for committed in [false, true] {
                let (history, partition) = (self.history.clone(), partition.clone());
                let consumer = Consumer::new(self.client(), history, partition, committed);
                clients.push(consumer.run().boxed_local());
            }
        }
        self.sim.client("clients", async move {
            let clients = clients.into_iter().map(tokio::task::spawn_local);
            for ended in join_all(clients).await {
                ended?;
            }
            Ok(())
        });
    }

    fn faults(&mut self) -> Faults {
        let random = StdRng::seed_from_u64(self.random.random());
        let (machines, trace) = (self.machines.clone(), self.trace.clone());
        Faults::new(random, self.kind, machines, CALM, trace)
    }

    /// Lets time pass until everybody is done.
    fn live(&mut self, faults: &mut Faults) -> Result<(), String> {
        let mut revived = Duration::ZERO;
        let storm_ends = CALM + STORM;
        loop {
            let is_done = self.sim.step().map_err(|error| error.to_string())?;
            let now = self.sim.elapsed();
            if is_done && self.has_replicated() {
                return Ok(());
            }
            if now >= storm_ends && !self.history.is_ending() {
                faults.end(&mut self.sim);
                self.history.end();
            } else if now < storm_ends {
                faults.step(&mut self.sim);
            }
            if now > revived + Duration::from_millis(100) {
                revived = now;
                faults.revive(&mut self.sim);
            }
            if now > storm_ends + RECOVERY {
                let (complaint, replicas) = (self.history.complaint(), self.replicas_that_differ());
                self.say_what_is_there();
                return Err(format!(
                    "it does not become well again: clients are done: {is_done}; {complaint}; {replicas:?}"
                ));
            }
            if !self.history.violations().is_empty() {
                return Ok(());
            }
        }
    }

    /// Logs the last record of each producer, which says who can't go on.
    fn say_what_is_there(&self) {
        for partition in &self.partitions {
            let log = replicas::log(&self.machines[0].disk, partition);
            let found = replicas::ids(&log).into_iter();
            let last: BTreeMap<u32, (i64, u32)> = found
                .map(|(offset, id, _)| (id.producer, (offset, id.number)))
                .collect();
            tracing::info!(target: "clients", "{partition} has of each producer {last:?}");
        }
    }

    fn has_replicated(&self) -> bool {
        self.replicas_that_differ().is_empty()
    }

    /// Lists what is not the same on all disks.
    fn replicas_that_differ(&self) -> Vec<String> {
        let mut different = Vec::new();
        for partition in &self.partitions {
            let logs: Vec<Vec<u8>> = self
                .machines
                .iter()
                .map(|machine| replicas::log(&machine.disk, partition))
                .filter(|log| !log.is_empty())
                .collect();
            if let Some((first, rest)) = logs.split_first() {
                let others = rest.iter().filter(|log| *log != first);
                different.extend(
                    others.map(|other| {
                        format!("{partition}: {}", replicas::difference(first, other))
                    }),
                );
            }
        }
        different
    }

    /// Checks what is on the disks against what clients were told.
    fn check_replicas(&self) {
        for partition in &self.partitions {
            let log = self
                .machines
                .iter()
                .map(|machine| replicas::log(&machine.disk, partition))
                .max_by_key(Vec::len)
                .unwrap_or_default();
            let found = replicas::ids(&log);
            let broken = self.history.of(partition, |known| broken(&found, known));
            for promise in broken {
                self.history.violated(format!("{partition}: {promise}"));
            }
        }
    }
}

/// Returns the promises that a log breaks.
fn broken(found: &[(i64, Id, i32)], known: &Known) -> Vec<String> {
    let mut broken = Vec::new();
    let mut by_id: BTreeMap<Id, i64> = BTreeMap::new();
    let mut last: BTreeMap<u32, Id> = BTreeMap::new();
    for (offset, id, _) in found {
        if let Some(before) = by_id.insert(*id, *offset) {
            broken.push(format!("{id:?} is there twice, at {before} and {offset}"));
        }
        if let Some(before) = last.insert(id.producer, *id)
            && before > *id
        {
            broken.push(format!("{id:?} comes after {before:?}"));
        }
    }
    for (id, told) in &known.acknowledged {
        match (by_id.get(id), told) {
            (None, _) => broken.push(format!("{id:?} was acknowledged and is lost")),
            (Some(offset), Some(told)) if offset != told => {
                broken.push(format!(
                    "{id:?} was acknowledged at {told} and is at {offset}"
                ));
            }
            _ => {}
        }
    }
    let there: BTreeMap<i64, (Id, i32)> = found
        .iter()
        .map(|(offset, id, epoch)| (*offset, (*id, *epoch)))
        .collect();
    for (offset, read) in &known.read {
        if there.get(offset) != Some(read) {
            broken.push(format!(
                "{read:?} was read at {offset}, where there is {:?}",
                there.get(offset)
            ));
        }
    }
    for id in known.committed.intersection(&known.aborted) {
        broken.push(format!("{id:?} was aborted and read as committed"));
    }
    broken
}
