//! What goes wrong in a run, as its seed has it.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use troupe_actors::storage::memory::Crash;

use crate::cluster::{COORDINATION, Machine};
use crate::network::Trace;
use crate::wire::host;

/// Something that goes wrong, and is put right again after a while.
#[derive(Debug, Clone)]
enum Fault {
    /// The process dies (kill -9).
    Kill(String),
    /// The machine loses its power, and of what was not flushed each file all but the first so many bytes.
    PowerLoss(i32, u64),
    /// The broker is told to stop.
    Stop(i32),
    /// Nothing passes between two hosts.
    Partition(String, String),
    /// Nothing passes from one host to another.
    OneWay(String, String),
    /// What two hosts send each other waits.
    Hold(String, String),
    /// Everything takes up to so many milliseconds between two hosts.
    Slow(String, String, u64),
    /// The disk takes so many milliseconds for everything.
    SlowDisk(i32, u64),
    /// The disk has room for so many bytes, until somebody makes more and starts the broker again.
    FullDisk(i32, u64),
    /// The disk does not flush, until there is another one and the broker is started again.
    BadDisk(i32),
    /// The clock is wrong by so many milliseconds.
    Skew(i32, i64),
}

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything but power: what was written to a disk is there after a crash.
    Processes,
    /// Power as well, of one machine at a time. Everybody's flushes are waited for, and nobody loses sight of the
    /// coordination service: an in-sync replica that has lost the end of its log must not be the last one.
    Power,
}

/// How long a machine that lost its power must have been well before the next one does.
const REST: Duration = Duration::from_secs(4);

/// Usual time that a message takes at most.
pub const LATENCY: Duration = Duration::from_millis(5);

/// Makes things go wrong.
pub struct Faults {
    random: StdRng,
    kind: Kind,
    brokers: Vec<Machine>,
    /// When a process may die again.
    rested: Duration,
    /// What is wrong, and until when.
    wrong: Vec<(Duration, Fault)>,
    next: Duration,
    pub count: u32,
    trace: Trace,
}

impl Faults {
    /// Begins at `begin`.
    pub fn new(
        random: StdRng,
        kind: Kind,
        brokers: Vec<Machine>,
        begin: Duration,
        trace: Trace,
    ) -> Self {
        Self {
            random,
            kind,
            brokers,
            rested: begin,
            wrong: Vec::new(),
            next: begin,
            count: 0,
            trace,
        }
    }

    /// Does what is due.
    pub fn step(&mut self, sim: &mut turmoil::Sim<'_>) {
        let now = sim.elapsed();
        let (due, wrong) = std::mem::take(&mut self.wrong)
            .into_iter()
            .partition(|(until, _)| *until <= now);
        self.wrong = wrong;
        for (_, fault) in due {
            self.mend(sim, &fault);
        }
        if now >= self.next {
            let pause = self.random.random_range(50..1_500);
            self.next = now + Duration::from_millis(pause);
            let fault = self.draw();
            if self.kind == Kind::Power && !self.is_survived(now, &fault) {
                return;
            }
            // One thing at a time goes wrong with each pair and each machine.
            if !self
                .wrong
                .iter()
                .any(|(_, other)| fault.is_about_the_same(other))
            {
                let lasts = Duration::from_millis(self.random.random_range(50..5_000));
                if fault.about().0 == PROCESS {
                    self.rested = now + lasts + REST;
                }
                self.begin(sim, &fault);
                self.wrong.push((now + lasts, fault));
            }
        }
    }

    /// Tells whether nothing that was acknowledged can be lost by this beside what is wrong already.
    fn is_survived(&self, now: Duration, fault: &Fault) -> bool {
        let (what, one, other) = fault.about();
        match what {
            PROCESS => one != COORDINATION && now >= self.rested,
            LINK => one != COORDINATION && other != COORDINATION,
            _ => true,
        }
    }

    /// Puts everything right.
    pub fn end(&mut self, sim: &mut turmoil::Sim<'_>) {
        for (_, fault) in std::mem::take(&mut self.wrong) {
            self.mend(sim, &fault);
        }
    }

    /// Starts hosts again whose software has ended by itself.
    pub fn revive(&mut self, sim: &mut turmoil::Sim<'_>) {
        let broken: Vec<String> = self
            .wrong
            .iter()
            .filter_map(|(_, fault)| match fault {
                Fault::Kill(host) => Some(host.clone()),
                Fault::PowerLoss(id, _) | Fault::Stop(id) => Some(host(*id)),
                _ => None,
            })
            .collect();
        for host in self.hosts() {
            if !broken.contains(&host) && !sim.is_host_running(host.as_str()) {
                sim.bounce(host);
            }
        }
    }

    fn hosts(&self) -> Vec<String> {
        let brokers = (1..).zip(&self.brokers).map(|(id, _)| host(id));
        brokers.chain([COORDINATION.to_owned()]).collect()
    }

    fn draw(&mut self) -> Fault {
        let hosts = self.hosts();
        let random = &mut self.random;
        let id = random.random_range(1..=i32::try_from(self.brokers.len()).expect("few"));
        let one = host(id);
        let other = loop {
            let other = hosts.choose(random).expect("a host").clone();
            if other != one {
                break other;
            }
        };
        let (from, to) = match random.random() {
            true => (one.clone(), other.clone()),
            false => (other.clone(), one.clone()),
        };
        match random.random_range(0..100) {
            0..25 if self.kind == Kind::Power => {
                Fault::PowerLoss(id, random.random_range(0..2_000))
            }
            // A full disk or a bad one takes what a kill would.
            0..3 => Fault::FullDisk(id, random.random_range(0..4_000)),
            3..5 => Fault::BadDisk(id),
            5..25 => Fault::Kill(one),
            25..30 => Fault::Kill(COORDINATION.to_owned()),
            30..38 => Fault::Stop(id),
            38..53 => Fault::Partition(one, other),
            53..68 => Fault::OneWay(from, to),
            68..76 => Fault::Hold(one, other),
            76..86 => Fault::Slow(one, other, random.random_range(20..1_500)),
            86..94 => Fault::SlowDisk(id, random.random_range(1..400)),
            _ => Fault::Skew(id, random.random_range(-600_000..600_000)),
        }
    }

    fn begin(&mut self, sim: &mut turmoil::Sim<'_>, fault: &Fault) {
        self.count += 1;
        self.say(sim, "begins", fault);
        match fault {
            Fault::Kill(host) => sim.crash(host.as_str()),
            Fault::PowerLoss(id, keep) => {
                sim.crash(host(*id));
                self.machine(*id).disk.crash(Crash::Machine { keep: *keep });
            }
            Fault::Stop(id) => self.machine(*id).stop(),
            Fault::Partition(one, other) => sim.partition(one.as_str(), other.as_str()),
            Fault::OneWay(from, to) => sim.partition_oneway(from.as_str(), to.as_str()),
            Fault::Hold(one, other) => sim.hold(one.as_str(), other.as_str()),
            Fault::Slow(one, other, most_ms) => sim.set_link_max_message_latency(
                one.as_str(),
                other.as_str(),
                Duration::from_millis(*most_ms),
            ),
            Fault::SlowDisk(id, delay_ms) => self.machine(*id).slow_down(*delay_ms),
            Fault::FullDisk(id, room) => self.machine(*id).disk.limit_room(Some(*room)),
            Fault::BadDisk(id) => self.machine(*id).disk.fail_sync(true),
            Fault::Skew(id, skew_ms) => self.machine(*id).skew(*skew_ms),
        }
        if let Fault::Kill(killed) = fault {
            for (id, machine) in (1..).zip(&self.brokers) {
                if *killed == host(id) {
                    machine.disk.crash(Crash::Process);
                }
            }
        }
    }

    fn mend(&self, sim: &mut turmoil::Sim<'_>, fault: &Fault) {
        self.say(sim, "ends", fault);
        match fault {
            Fault::Kill(host) => sim.bounce(host.as_str()),
            Fault::PowerLoss(id, _) => sim.bounce(host(*id)),
            // Whoever has stopped is started again like those that did not start.
            Fault::Stop(_) => {}
            Fault::Partition(one, other) => sim.repair(one.as_str(), other.as_str()),
            Fault::OneWay(from, to) => sim.repair_oneway(from.as_str(), to.as_str()),
            Fault::Hold(one, other) => sim.release(one.as_str(), other.as_str()),
            Fault::Slow(one, other, _) => {
                sim.set_link_max_message_latency(one.as_str(), other.as_str(), LATENCY);
            }
            Fault::SlowDisk(id, _) => self.machine(*id).slow_down(0),
            Fault::FullDisk(id, _) | Fault::BadDisk(id) => {
                self.machine(*id).disk.limit_room(None);
                self.machine(*id).disk.fail_sync(false);
                sim.crash(host(*id));
                sim.bounce(host(*id));
            }
            Fault::Skew(id, _) => self.machine(*id).skew(0),
        }
    }

    fn say(&self, sim: &turmoil::Sim<'_>, what: &str, fault: &Fault) {
        let said = format!("{:?}: {what}: {fault:?}", sim.elapsed());
        self.trace.say(&said);
        tracing::info!(target: "faults", "{said}");
    }

    fn machine(&self, id: i32) -> &Machine {
        let place = usize::try_from(id - 1).expect("ids begin with 1");
        &self.brokers[place]
    }
}

const PROCESS: u8 = 0;
const LINK: u8 = 1;
const DISK: u8 = 2;
const CLOCK: u8 = 3;

impl Fault {
    /// Tells whether both are about the same machine, or about the same pair.
    fn is_about_the_same(&self, other: &Self) -> bool {
        let (mine, its) = (self.about(), other.about());
        mine.0 == its.0
            && (mine.1 == its.1 && mine.2 == its.2 || mine.1 == its.2 && mine.2 == its.1)
    }

    /// Says what kind of thing it is about: a process, a link, a disk, a clock, and which.
    fn about(&self) -> (u8, String, String) {
        match self {
            Self::Kill(host) => (PROCESS, host.clone(), String::new()),
            Self::PowerLoss(id, _) | Self::Stop(id) | Self::FullDisk(id, _) | Self::BadDisk(id) => {
                (PROCESS, host(*id), String::new())
            }
            Self::Partition(one, other)
            | Self::OneWay(one, other)
            | Self::Hold(one, other)
            | Self::Slow(one, other, _) => (LINK, one.clone(), other.clone()),
            Self::SlowDisk(id, _) => (DISK, host(*id), String::new()),
            Self::Skew(id, _) => (CLOCK, host(*id), String::new()),
        }
    }
}
