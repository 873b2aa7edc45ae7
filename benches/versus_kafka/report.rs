//! The page that is printed and kept: tables with ratios, and how they came about.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::measure::{Measures, Spread};

/// Writes the page in Markdown.
pub(crate) fn page(measures: &Measures, machine: &Machine) -> String {
    let mut page = String::from(HEAD);
    throughput(&mut page, measures);
    broker_cpu(&mut page, measures);
    latency(&mut page, measures);
    groups(&mut page, measures);
    compaction(&mut page, measures);
    memory_and_start(&mut page, measures);
    batches(&mut page, measures);
    page.push_str(EXPLANATION);
    for line in &machine.lines {
        let _ = writeln!(page, "- {line}");
    }
    page
}

/// The sizes of values and the acknowledgements that produces are measured with.
const PRODUCES: [(usize, &str); 4] = [(100, "1"), (100, "all"), (1000, "1"), (1000, "all")];
/// The sizes of values that fetches are measured with.
const FETCHES: [usize; 2] = [100, 1000];

fn throughput(page: &mut String, measures: &Measures) {
    let mut table = Table::new(page, measures, "Throughput", "records/s");
    for (size, acks) in PRODUCES {
        let label = format!("produce, {size} B, acks={acks}");
        table.row(&label, &format!("produce {size} {acks} rate"), 0);
    }
    for size in FETCHES {
        table.row(
            &format!("fetch, {size} B"),
            &format!("fetch {size} rate"),
            0,
        );
    }
    for size in FETCHES {
        let label = format!("kafka-consumer-perf-test, {size} B");
        table.row(&label, &format!("group fetch {size} rate"), 0);
    }
}

fn broker_cpu(page: &mut String, measures: &Measures) {
    let mut table = Table::with_floor(page, measures, "Broker CPU", "CPU s/GB");
    for (size, acks) in PRODUCES {
        let label = format!("produce, {size} B, acks={acks}");
        let name = format!("produce {size} {acks} cpu");
        table.row_with_floor(&label, &name, &format!("produce {size}"), 2);
    }
    for size in FETCHES {
        let label = format!("fetch, {size} B");
        let name = format!("fetch {size} cpu");
        table.row_with_floor(&label, &name, &format!("fetch {size}"), 2);
    }
}

fn latency(page: &mut String, measures: &Measures) {
    let unit = format!("µs, at {} records/s", crate::latency::RATE);
    let mut table = Table::new(page, measures, "Latency from producer to consumer", &unit);
    for part in ["p50", "p99", "p99.9"] {
        table.row(part, &format!("latency {part}"), 0);
    }
}

fn groups(page: &mut String, measures: &Measures) {
    let mut table = Table::new(page, measures, "Groups", "");
    table.row("commits/s", "commits", 0);
    table.row(
        "resident memory with 5,000 members, MB",
        "members memory",
        1,
    );
    table.row("their joining, CPU s", "members join", 2);
    table.row("a heartbeat, CPU µs", "members heartbeat", 1);
}

fn compaction(page: &mut String, measures: &Measures) {
    let mut table = Table::new(page, measures, "Compaction", "");
    table.row("dirty data, MB/s", "compaction", 1);
}

fn memory_and_start(page: &mut String, measures: &Measures) {
    let mut table = Table::new(page, measures, "Memory and start", "");
    table.row("resident memory, idle, MB", "idle", 1);
    table.row("resident memory, peak under this load, MB", "loaded", 1);
    table.row("start to first acknowledged record, s", "start", 3);
}

fn batches(page: &mut String, measures: &Measures) {
    let mut table = Table::new(page, measures, "Batches", "mean bytes of a batch");
    for (size, acks) in PRODUCES {
        let label = format!("produce, {size} B, acks={acks}");
        table.row(&label, &format!("produce {size} {acks} batch"), 0);
    }
}

/// A table of the page under construction; without a row it is left out.
struct Table<'a> {
    page: &'a mut String,
    measures: &'a Measures,
    head: Option<String>,
}

impl<'a> Table<'a> {
    fn new(page: &'a mut String, measures: &'a Measures, heading: &str, unit: &str) -> Table<'a> {
        let head = format!(
            "\n## {heading}\n\n| {unit} | Troupe | Kafka 3.9.1 | Troupe / Kafka |\n| --- | --- | --- | --- |\n"
        );
        Table {
            page,
            measures,
            head: Some(head),
        }
    }

    fn with_floor(
        page: &'a mut String,
        measures: &'a Measures,
        heading: &str,
        unit: &str,
    ) -> Table<'a> {
        let head = format!(
            "\n## {heading}\n\n| {unit} | Troupe | Kafka 3.9.1 | Troupe / Kafka | floor | Troupe / floor |\n\
             | --- | --- | --- | --- | --- | --- |\n"
        );
        Table {
            page,
            measures,
            head: Some(head),
        }
    }

    fn row(&mut self, label: &str, name: &str, digits: usize) {
        if self.sides(label, name, digits).is_some() {
            self.page.push('\n');
        }
    }

    fn row_with_floor(&mut self, label: &str, name: &str, floor: &str, digits: usize) {
        let Some(troupe) = self.sides(label, name, digits) else {
            return;
        };
        if let Some(floor) = self.measures.of(floor, "floor") {
            let ratio = troupe.median / floor.median;
            let _ = write!(self.page, " {} | {ratio:.2} |", show(floor, digits));
        }
        self.page.push('\n');
    }

    /// Writes what both sides reached, where both were measured, and returns Troupe's.
    fn sides(&mut self, label: &str, name: &str, digits: usize) -> Option<Spread> {
        let troupe = self.measures.of(name, "troupe")?;
        let kafka = self.measures.of(name, "kafka")?;
        self.page.push_str(&self.head.take().unwrap_or_default());
        let ratio = troupe.median / kafka.median;
        let _ = write!(
            self.page,
            "| {label} | {} | {} | {ratio:.3} |",
            show(troupe, digits),
            show(kafka, digits)
        );
        Some(troupe)
    }
}

/// The median, with the least and the most where there is more than one value.
fn show(spread: Spread, digits: usize) -> String {
    let Spread {
        median,
        least,
        most,
    } = spread;
    if least == most {
        format!("{median:.digits$}")
    } else {
        format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
    }
}

const HEAD: &str = "\
# Performance

Written by `benches/versus-kafka`: Troupe and Apache Kafka 3.9.1 (in ZooKeeper mode) side by side on one machine, in one
run. Each value is the median of its rounds, with the least and the most in parentheses.
";

const EXPLANATION: &str = "
## How it is measured

- Both brokers run all the time, on loopback, with their defaults; Kafka and its ZooKeeper with the options of their own
  start scripts. All that is given for Kafka's CPU and memory is the sum with its ZooKeeper, as Troupe's includes its own
  coordination. Measures alternate between the two.
- A first load of each size is not counted: it warms the virtual machine up, and is what the fetches read.
- Produce is `org.apache.kafka.tools.ProducerPerformance` of 3.9.1 with its defaults, on a topic of one partition. It is one
  Java process on the same cores, so where both brokers wait for it their rates are alike, and CPU tells them apart.
- Fetch is librdkafka in one process, reading one partition from its first record out of the page cache.
- kafka-consumer-perf-test is `org.apache.kafka.tools.ConsumerPerformance` of 3.9.1 with its defaults, in a group of its own;
  its rate while fetching.
- Latency is from just before librdkafka is given a record of 100 B (acks=all, `linger.ms=0`) until the consumer in the same
  process has it.
- Commits are OffsetCommit requests for one partition each, of eight groups on a connection each, every one waiting for its
  answer.
- The members are 1,000 groups of 5, each member on a connection of its own with a heartbeat every three seconds, on brokers
  that did nothing before.
- Compaction is of a log in which each of 100,000 keys has 25 values of 200 B, from the change of `cleanup.policy`
  until only the last ones are left in its closed segments, with one cleaner thread and `log.cleaner.backoff.ms=50`.
- CPU is user and system time of the broker's processes from `/proc/PID/stat`, by GB (10^9 bytes) of record values. The
  kernel's work for the broker's sockets and files is in it; writing dirty pages back is not, on either side.
- The floor is a process that does only what cannot be left out, with as many bytes in batches of the same mean size as Troupe
  was sent. For produce: read the request, one CRC-32C, append to a file, answer with 56 bytes, five requests in flight. For
  fetch: `sendfile`.
- Idle memory is VmRSS five seconds after the first acknowledged record; the peak is VmHWM after everything.
- The start is that of an empty directory: from starting the processes until one record to a topic that is created by its
  first use is acknowledged. ZooKeeper is started first and waited for.
- Batches are smaller where the broker answers faster, as the producer does not linger: more requests for the same bytes.

## The machine

";
