//! Compares Troupe's coordination service with Apache ZooKeeper 3.9 standalone, in one run.
//!
//! Every measure alternates between the two, so that whatever else the machine does meets both. Both flush every
//! transaction to disk before they answer. `benches/versus-zookeeper` runs this.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for developers"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod load;
#[path = "../versus_kafka/machine.rs"]
mod machine;
#[path = "../versus_kafka/measure.rs"]
mod measure;
#[path = "../versus_kafka/page.rs"]
mod page;
mod report;
mod side;

use std::process::ExitCode;
use std::time::Duration;

use load::Kind;
use measure::Measures;
use side::{SIDES, Side};

/// How much is run.
#[derive(Clone, Copy)]
struct Plan {
    /// How often each measure is taken on each side.
    rounds: usize,
    /// How long a measure of throughput lasts.
    duration: Duration,
    /// How often all watchers are told of a change, in one measure.
    changes: usize,
    /// Sessions that are open at once for the measure of their memory.
    sessions: usize,
    /// How often each side is started.
    starts: usize,
}

const FULL: Plan = Plan {
    rounds: 3,
    duration: Duration::from_secs(4),
    changes: 50,
    sessions: 5_000,
    starts: 5,
};
const QUICK: Plan = Plan {
    rounds: 1,
    duration: Duration::from_secs(1),
    changes: 10,
    sessions: 2_000,
    starts: 2,
};

/// Clients that work at once.
const CLIENTS: [usize; 3] = [1, 10, 100];
/// Clients that watch one node.
const WATCHERS: usize = 1_000;
/// Nodes that a side holds, and starts with, for some of the measures.
const NODES: usize = 100_000;

/// What can be measured alone, with `--only`.
const PARTS: [&str; 5] = ["start", "load", "watches", "nodes", "sessions"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => compare(FULL, &PARTS, true),
        ["--quick"] => compare(QUICK, &PARTS, false),
        ["--only", part] if PARTS.contains(&part) => compare(FULL, &[part], false),
        ["--quick", "--only", part] if PARTS.contains(&part) => compare(QUICK, &[part], false),
        _ => {
            eprintln!(
                "versus-zookeeper: unknown arguments {arguments:?}; there are --quick and --only PART, where PART is one of {PARTS:?}"
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compare(plan: Plan, parts: &[&str], write: bool) {
    load::raise_file_limit();
    let mut measures = Measures::default();
    for part in parts {
        match *part {
            "start" => starts(&mut measures, plan),
            "load" => throughputs(&mut measures, plan),
            "watches" => watches(&mut measures, plan),
            "nodes" => nodes(&mut measures, plan),
            _ => sessions(&mut measures, plan),
        }
    }
    let text = report::part(&measures, &machine::Machine::here());
    println!("\n{text}");
    if write {
        page::write(page::Part::Zookeeper, &text);
    }
}

/// Notes a value, and says it.
fn add(measures: &mut Measures, name: &str, side: &'static str, value: f64) {
    println!("{name} on {side}: {value:.3}");
    measures.add_for(name, side, value);
}

fn starts(measures: &mut Measures, plan: Plan) {
    for _ in 0..plan.starts {
        for name in SIDES {
            let (side, seconds) = Side::start_timed(name);
            add(measures, "start", side.name(), seconds);
        }
    }
}

fn throughputs(measures: &mut Measures, plan: Plan) {
    let sides = SIDES.map(Side::start);
    for side in &sides {
        add(measures, "idle", side.name(), side.settled_memory_mb());
    }
    for side in &sides {
        // Not counted: it warms the virtual machine up.
        load::throughput(side.port(), Kind::Set, 10, plan.duration);
        load::throughput(side.port(), Kind::Get, 10, plan.duration);
    }
    for _ in 0..plan.rounds {
        for kind in Kind::ALL {
            for clients in CLIENTS {
                for side in &sides {
                    throughput(measures, side, kind, clients, plan.duration);
                }
            }
        }
    }
    for side in &sides {
        add(measures, "loaded", side.name(), side.peak_memory_mb());
    }
}

fn throughput(measures: &mut Measures, side: &Side, kind: Kind, clients: usize, time: Duration) {
    let before = side.cpu_seconds();
    let taken = load::throughput(side.port(), kind, clients, time);
    let cpu_us = (side.cpu_seconds() - before) * 1e6 / taken.answers as f64;
    let name = format!("{} {clients}", kind.name());
    add(measures, &format!("{name} rate"), side.name(), taken.rate);
    add(measures, &format!("{name} p99"), side.name(), taken.p99_us);
    add(measures, &format!("{name} cpu"), side.name(), cpu_us);
}

fn watches(measures: &mut Measures, plan: Plan) {
    let sides = SIDES.map(Side::start);
    // Not counted, as above.
    for side in &sides {
        load::fan_out(side.port(), WATCHERS, plan.changes);
    }
    for _ in 0..plan.rounds {
        for side in &sides {
            let time = load::fan_out(side.port(), WATCHERS, plan.changes);
            add(measures, "fan-out", side.name(), time);
        }
    }
}

/// Memory and start with many nodes.
fn nodes(measures: &mut Measures, plan: Plan) {
    let mut sides = SIDES.map(Side::start);
    for side in &sides {
        load::create_nodes(side.port(), NODES);
        add(measures, "created", side.name(), side.settled_memory_mb());
    }
    for _ in 0..plan.starts {
        for side in &mut sides {
            let seconds = side.restart();
            add(measures, "full start", side.name(), seconds);
        }
    }
    for side in &sides {
        load::expect_nodes(side.port(), NODES);
        add(measures, "started", side.name(), side.settled_memory_mb());
    }
}

/// On servers of their own, so that the memory is that of the sessions.
fn sessions(measures: &mut Measures, plan: Plan) {
    for name in SIDES {
        let side = Side::start(name);
        let before = side.settled_memory_mb();
        let open = load::open_sessions(side.port(), plan.sessions);
        let each_mb = (side.settled_memory_mb() - before) / plan.sessions as f64;
        drop(open);
        add(measures, "sessions", side.name(), 1.0 / each_mb);
    }
}
