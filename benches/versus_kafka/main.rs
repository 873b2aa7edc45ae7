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

mod floor;
mod load;
mod measure;
mod report;
mod side;

use std::path::Path;
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
}

const FULL: Plan = Plan {
    rounds: 3,
    records: [(100, 3_000_000), (1000, 600_000)],
    passes: 4,
    starts: 5,
};
const QUICK: Plan = Plan {
    rounds: 1,
    records: [(100, 1_000_000), (1000, 200_000)],
    passes: 3,
    starts: 2,
};

/// The sides in the order in which they take turns.
const KINDS: [Kind; 2] = [Kind::Troupe, Kind::Kafka];

fn main() -> ExitCode {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    match arguments.next().as_deref() {
        None => compare(FULL, true),
        Some("--quick") => compare(QUICK, false),
        Some(floor::RECEIVE) => floor::receive(arguments.next().as_deref()),
        Some(floor::SEND) => floor::send(arguments.next().as_deref()),
        Some(other) => {
            eprintln!("versus-kafka: unknown option {other}; there is only --quick");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compare(plan: Plan, write: bool) {
    let kafka = Kafka::find(Release::V3_9).expect("tests/java/fetch has made the class paths");
    let mut measures = Measures::default();
    for round in 0..plan.starts {
        for kind in KINDS {
            measures.add("start", kind, side::first_acknowledgement(kind));
            println!("start {} of {} on {kind:?}", round + 1, plan.starts);
        }
    }

    let sides = KINDS.map(Side::start);
    for side in &sides {
        measures.add("idle", side.kind(), side.idle_memory_mb());
    }
    // What is read later also warms both brokers up.
    for (size, records) in plan.records {
        for side in &sides {
            side.create(&format!("read-{size}"));
            load::produce(&kafka, side, &format!("read-{size}"), size, records, "1");
            println!(
                "warmed {:?} with {records} records of {size} B",
                side.kind()
            );
        }
    }
    for round in 0..plan.rounds {
        for (size, records) in plan.records {
            for acks in ["1", "all"] {
                for side in &sides {
                    produce(&kafka, &mut measures, side, round, size, records, acks);
                }
            }
        }
    }
    for (size, records) in plan.records {
        for side in &sides {
            load::consume(side, &format!("read-{size}"), records, 1);
        }
        for round in 0..plan.rounds {
            for side in &sides {
                fetch(&mut measures, side, round, size, records, plan.passes);
            }
        }
    }
    for side in &sides {
        measures.add("loaded", side.kind(), side.peak_memory_mb());
    }
    for (size, _) in plan.records {
        let batches = sides[0].batches(&format!("read-{size}"));
        for round in 0..plan.rounds {
            floors(&mut measures, round, size, &batches, plan);
        }
    }
    drop(sides);

    let page = report::page(&measures, &report::Machine::here());
    println!("\n{page}");
    if write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page).unwrap();
        println!("written to {}", path.display());
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
    let rate = load::consume(side, &format!("read-{size}"), records, passes);
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
