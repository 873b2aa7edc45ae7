//! Compares Troupe with Apache Kafka 3.9.1 in ZooKeeper mode, and with the machine's own floor, in one run.
//!
//! Both brokers run side by side with their own start scripts' options, and every measure alternates between them, so
//! that whatever else the machine does meets both. `benches/versus-kafka` runs this.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program for developers"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod compaction;
mod floor;
mod groups;
mod latency;
mod load;
mod machine;
mod measure;
mod page;
mod report;
mod side;

use std::process::ExitCode;

use measure::Measures;
use side::Side;
use support::java::{Kafka, Release};
use support::server::Kind;

/// How much is run.
#[derive(Clone, Copy)]
struct Plan {
    /// How often each measure is taken on each side.
    rounds: usize,
    /// Records of a produce measure, by the size of their values in bytes.
    records: [(usize, usize); 2],
    /// How often a fetch measure reads its whole topic.
    passes: usize,
    /// How often each side is started for the time to its first acknowledgement.
    starts: usize,
    /// Seconds of a latency measure.
    latency_seconds: u32,
    /// Commits of each of the groups that commit at a time.
    commits: usize,
    /// Records of a log that is compacted.
    compacted: usize,
    /// Groups, and members of each, that live side by side.
    groups: (usize, usize),
    /// Heartbeats of each member.
    heartbeats: u32,
}

const FULL: Plan = Plan {
    rounds: 3,
    records: [(100, 3_000_000), (1000, 600_000)],
    passes: 4,
    starts: 5,
    latency_seconds: 10,
    commits: 5_000,
    compacted: 2_500_000,
    groups: (1_000, 5),
    heartbeats: 10,
};
const QUICK: Plan = Plan {
    rounds: 1,
    records: [(100, 1_000_000), (1000, 200_000)],
    passes: 3,
    starts: 2,
    latency_seconds: 5,
    commits: 1_000,
    compacted: 1_000_000,
    groups: (100, 5),
    heartbeats: 3,
};

/// The sides in the order in which they take turns.
const KINDS: [Kind; 2] = [Kind::Troupe, Kind::Kafka];

/// What can be measured alone, with `--only`.
const PARTS: [&str; 6] = [
    "start",
    "members",
    "load",
    "latency",
    "commits",
    "compaction",
];

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
        [floor::RECEIVE, file] => floor::receive(file),
        [floor::SEND, file] => floor::send(file),
        _ => {
            eprintln!(
                "versus-kafka: unknown arguments {arguments:?}; there are --quick and --only PART, where PART is one of {PARTS:?}"
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compare(plan: Plan, parts: &[&str], write: bool) {
    let kafka = Kafka::find(Release::V3_9).expect("tests/java/fetch has made the class paths");
    groups::raise_file_limit();
    let mut measures = Measures::default();
    let is_wanted = |part| parts.contains(&part);
    if is_wanted("start") {
        starts(&mut measures, plan);
    }
    if is_wanted("members") {
        members(&mut measures, plan);
    }

    let sides = KINDS.map(Side::start);
    if is_wanted("load") {
        load(&kafka, &mut measures, &sides, plan);
    }
    if is_wanted("latency") {
        latencies(&mut measures, &sides, plan);
    }
    if is_wanted("commits") {
        commits(&mut measures, &sides, plan);
    }
    if is_wanted("compaction") {
        compactions(&mut measures, &sides, plan);
    }
    drop(sides);

    let text = report::page(&measures, &machine::Machine::here());
    println!("\n{text}");
    if write {
        page::write(page::Part::Kafka, &text);
    }
}

/// Produces and fetches, and the memory that they take.
fn load(kafka: &Kafka, measures: &mut Measures, sides: &[Side], plan: Plan) {
    for side in sides {
        measures.add("idle", side.kind(), side.idle_memory_mb());
    }
    produces(kafka, measures, sides, plan);
    fetches(kafka, measures, sides, plan);
    for side in sides {
        measures.add("loaded", side.kind(), side.peak_memory_mb());
    }
    for (size, _) in plan.records {
        let batches = sides[0].batches(&read_topic(size));
        for round in 0..plan.rounds {
            floors(measures, round, size, &batches, plan);
        }
    }
}

/// The topic of records of a size that are only read.
fn read_topic(size: usize) -> String {
    format!("read-{size}")
}

fn starts(measures: &mut Measures, plan: Plan) {
    for round in 0..plan.starts {
        for kind in KINDS {
            measures.add("start", kind, side::first_acknowledgement(kind));
            println!("start {} of {} on {kind:?}", round + 1, plan.starts);
        }
    }
}

/// On brokers of their own, so that the memory is that of the members.
fn members(measures: &mut Measures, plan: Plan) {
    let (groups, each) = plan.groups;
    for kind in KINDS {
        let side = Side::start(kind);
        let idle = side.idle_memory_mb();
        let before = side.cpu_seconds();
        let mut members = groups::Members::join(&side, groups, each);
        let joined = side.cpu_seconds();
        members.live(plan.heartbeats);
        let lived = side.cpu_seconds();
        let memory = side.memory_mb();
        let heartbeats = (groups * each) as f64 * f64::from(plan.heartbeats);
        let heartbeat = (lived - joined) * 1e6 / heartbeats;
        measures.add("members memory", kind, memory);
        measures.add("members join", kind, joined - before);
        measures.add("members heartbeat", kind, heartbeat);
        println!(
            "{groups} groups of {each} on {kind:?}: {idle:.1} MB before, {memory:.1} MB with them, joined with {:.2} CPU s, \
             {heartbeat:.1} CPU us a heartbeat",
            joined - before
        );
    }
}

fn produces(kafka: &Kafka, measures: &mut Measures, sides: &[Side], plan: Plan) {
    // What is read later also warms both brokers up.
    for (size, records) in plan.records {
        for side in sides {
            side.create(&read_topic(size));
            load::produce(kafka, side, &read_topic(size), size, records, "1");
            println!(
                "warmed {:?} with {records} records of {size} B",
                side.kind()
            );
        }
    }
    for round in 0..plan.rounds {
        for (size, records) in plan.records {
            for acks in ["1", "all"] {
                for side in sides {
                    produce(kafka, measures, side, round, size, records, acks);
                }
            }
        }
    }
}

fn fetches(kafka: &Kafka, measures: &mut Measures, sides: &[Side], plan: Plan) {
    for (size, records) in plan.records {
        for side in sides {
            load::consume(side, &read_topic(size), records, 1);
        }
        for round in 0..plan.rounds {
            for side in sides {
                fetch(measures, side, round, size, records, plan.passes);
            }
        }
        for round in 0..plan.rounds {
            for side in sides {
                let group = format!("performance-{size}-{round}");
                let rate = load::consume_in_group(kafka, side, &read_topic(size), &group, records);
                measures.add(&format!("group fetch {size} rate"), side.kind(), rate);
                println!(
                    "group fetch {size} B round {round} on {:?}: {rate:.0} records/s",
                    side.kind()
                );
            }
        }
    }
}

fn latencies(measures: &mut Measures, sides: &[Side], plan: Plan) {
    for round in 0..plan.rounds {
        for side in sides {
            // One for each round, because a record tells its time by the clock of its round.
            let topic = format!("latency-{round}");
            side.create(&topic);
            let taken = latency::measure(side, &topic, plan.latency_seconds);
            let kind = side.kind();
            measures.add("latency p50", kind, taken.median);
            measures.add("latency p99", kind, taken.p99);
            measures.add("latency p99.9", kind, taken.p999);
            println!(
                "latency round {round} on {kind:?}: p50 {:.0}, p99 {:.0}, p99.9 {:.0} us",
                taken.median, taken.p99, taken.p999
            );
        }
    }
}

fn commits(measures: &mut Measures, sides: &[Side], plan: Plan) {
    for side in sides {
        side.create("committed");
    }
    for round in 0..plan.rounds {
        for side in sides {
            let rate = groups::commits_per_second(side, "committed", plan.commits);
            measures.add("commits", side.kind(), rate);
            println!(
                "commits round {round} on {:?}: {rate:.0} a second",
                side.kind()
            );
        }
    }
}

fn compactions(measures: &mut Measures, sides: &[Side], plan: Plan) {
    for round in 0..plan.rounds {
        for side in sides {
            let topic = format!("compacted-{round}");
            let rate = compaction::measure(side, &topic, plan.compacted);
            measures.add("compaction", side.kind(), rate);
            println!(
                "compaction round {round} on {:?}: {rate:.0} MB/s",
                side.kind()
            );
        }
    }
}

fn produce(
    kafka: &Kafka,
    measures: &mut Measures,
    side: &Side,
    round: usize,
    size: usize,
    records: usize,
    acks: &str,
) {
    let topic = format!("write-{size}-{acks}-{round}");
    side.create(&topic);
    let before = side.cpu_seconds();
    let rate = load::produce(kafka, side, &topic, size, records, acks);
    let cpu = (side.cpu_seconds() - before) / gigabytes(size, records);
    let batch = side.batches(&topic).mean_size;
    side.delete(&topic);
    let kind = side.kind();
    measures.add(&format!("produce {size} {acks} rate"), kind, rate);
    measures.add(&format!("produce {size} {acks} cpu"), kind, cpu);
    measures.add(&format!("produce {size} {acks} batch"), kind, batch);
    println!(
        "produce {size} B acks={acks} on {kind:?}: {rate:.0} records/s, {cpu:.2} CPU s/GB, {batch:.0} B a batch"
    );
}

fn fetch(
    measures: &mut Measures,
    side: &Side,
    round: usize,
    size: usize,
    records: usize,
    passes: usize,
) {
    let before = side.cpu_seconds();
    let rate = load::consume(side, &read_topic(size), records, passes);
    let cpu = (side.cpu_seconds() - before) / gigabytes(size, records * passes);
    measures.add(&format!("fetch {size} rate"), side.kind(), rate);
    measures.add(&format!("fetch {size} cpu"), side.kind(), cpu);
    println!(
        "fetch {size} B round {round} on {:?}: {rate:.0} records/s, {cpu:.2} CPU s/GB",
        side.kind()
    );
}

fn floors(measures: &mut Measures, round: usize, size: usize, batches: &side::Batches, plan: Plan) {
    let payload = gigabytes(size, batches.records);
    let receive = floor::measure_receive(batches.mean_size as usize, batches.count) / payload;
    measures.add_floor(&format!("produce {size}"), receive);
    let send = floor::measure_send(batches.bytes, plan.passes) / (payload * plan.passes as f64);
    measures.add_floor(&format!("fetch {size}"), send);
    println!("floor {size} B round {round}: receive {receive:.2}, send {send:.2} CPU s/GB");
}

/// The size of the values of records: what one CPU second per GB is counted by.
fn gigabytes(size: usize, records: usize) -> f64 {
    size as f64 * records as f64 / 1e9
}
