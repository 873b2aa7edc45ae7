//! What was measured, by name and side.
#![allow(dead_code, reason = "each benchmark uses its own part of this")]

use std::collections::BTreeMap;

use crate::support::server::Kind;

/// All values of all measures.
#[derive(Default)]
pub(crate) struct Measures {
    values: BTreeMap<(String, &'static str), Vec<f64>>,
}

impl Measures {
    pub(crate) fn add(&mut self, name: &str, kind: Kind, value: f64) {
        let side = match kind {
            Kind::Troupe => "troupe",
            Kind::Kafka => "kafka",
        };
        self.add_for(name, side, value);
    }

    pub(crate) fn add_floor(&mut self, name: &str, value: f64) {
        self.add_for(name, "floor", value);
    }

    pub(crate) fn add_for(&mut self, name: &str, side: &'static str, value: f64) {
        self.values
            .entry((name.to_owned(), side))
            .or_default()
            .push(value);
    }

    /// The values of one measure on one side, if it was taken.
    pub(crate) fn of(&self, name: &str, side: &'static str) -> Option<Spread> {
        let mut values = self.values.get(&(name.to_owned(), side))?.clone();
        values.sort_by(f64::total_cmp);
        Some(Spread {
            median: median(&values),
            least: *values.first()?,
            most: *values.last()?,
        })
    }
}

/// The middle and the ends of a measure's values.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

/// The CPU time that a process has taken so far, in seconds: user and system time of `/proc/PID/stat`.
pub(crate) fn cpu_seconds(process_id: u32) -> f64 {
    let stat =
        std::fs::read_to_string(format!("/proc/{process_id}/stat")).expect("the process runs");
    // The name in parentheses may hold spaces; the fields after it do not.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = |index: usize| {
        fields
            .split_whitespace()
            .nth(index)
            .and_then(|text| text.parse::<f64>().ok())
    };
    let (user, system) = (ticks(11).expect("utime"), ticks(12).expect("stime"));
    (user + system) / rustix::param::clock_ticks_per_second() as f64
}

/// A figure in MB (10^6 bytes) of `/proc/PID/status`, such as `VmRSS` or `VmHWM`.
pub(crate) fn memory_mb(process_id: u32, figure: &str) -> f64 {
    let status =
        std::fs::read_to_string(format!("/proc/{process_id}/status")).expect("the process runs");
    let line = status
        .lines()
        .find(|line| line.starts_with(figure))
        .expect("this figure is in the status");
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("a number of KiB");
    kib * 1024.0 / 1e6
}
