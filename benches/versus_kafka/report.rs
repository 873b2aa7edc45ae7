//! The page that is printed and kept: tables with ratios, and how they came about.

use std::fmt::Write as _;
use std::process::Command;

use crate::measure::{Measures, Spread};

/// What the measures were taken on.
pub(crate) struct Machine {
    lines: Vec<String>,
}

impl Machine {
    pub(crate) fn here() -> Machine {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or_default();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let lines = vec![
            format!(
                "{cores} cores ({}), {:.0} GB of memory",
                model.trim_matches([' ', '\t', ':']),
                kib * 1024.0 / 1e9
            ),
            format!("Linux {}", kernel.trim()),
            first_line("java", &["--version"]),
            first_line("rustc", &["--version"]),
        ];
        Machine { lines }
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    String::from_utf8_lossy(&output)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Writes the page in Markdown.
pub(crate) fn page(measures: &Measures, machine: &Machine) -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n## Throughput\n\n");
    page.push_str(
        "| records/s | Troupe | Kafka 3.9.1 | Troupe / Kafka |\n| --- | --- | --- | --- |\n",
    );
    for size in [100, 1000] {
        for acks in ["1", "all"] {
            let name = format!("produce {size} {acks} rate");
            row(
                &mut page,
                measures,
                &format!("produce, {size} B, acks={acks}"),
                &name,
                None,
                0,
            );
        }
    }
    for size in [100, 1000] {
        row(
            &mut page,
            measures,
            &format!("fetch, {size} B"),
            &format!("fetch {size} rate"),
            None,
            0,
        );
    }

    page.push_str("\n## Broker CPU\n\n| CPU s/GB | Troupe | Kafka 3.9.1 | Troupe / Kafka | floor | Troupe / floor |\n");
    page.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for size in [100, 1000] {
        for acks in ["1", "all"] {
            let name = format!("produce {size} {acks} cpu");
            let floor = format!("produce {size}");
            row(
                &mut page,
                measures,
                &format!("produce, {size} B, acks={acks}"),
                &name,
                Some(&floor),
                2,
            );
        }
    }
    for size in [100, 1000] {
        let (name, floor) = (format!("fetch {size} cpu"), format!("fetch {size}"));
        row(
            &mut page,
            measures,
            &format!("fetch, {size} B"),
            &name,
            Some(&floor),
            2,
        );
    }

    page.push_str("\n## Memory and start\n\n| | Troupe | Kafka 3.9.1 | Troupe / Kafka |\n| --- | --- | --- | --- |\n");
    row(
        &mut page,
        measures,
        "resident memory, idle, MB",
        "idle",
        None,
        1,
    );
    row(
        &mut page,
        measures,
        "resident memory, peak under this load, MB",
        "loaded",
        None,
        1,
    );
    row(
        &mut page,
        measures,
        "start to first acknowledged record, s",
        "start",
        None,
        3,
    );

    page.push_str(
        "\n## Batches\n\n| mean bytes of a batch | Troupe | Kafka 3.9.1 | Troupe / Kafka |\n",
    );
    page.push_str("| --- | --- | --- | --- |\n");
    for size in [100, 1000] {
        for acks in ["1", "all"] {
            let name = format!("produce {size} {acks} batch");
            row(
                &mut page,
                measures,
                &format!("produce, {size} B, acks={acks}"),
                &name,
                None,
                0,
            );
        }
    }
    page.push_str(EXPLANATION);
    for line in &machine.lines {
        let _ = writeln!(page, "- {line}");
    }
    page
}

fn row(
    page: &mut String,
    measures: &Measures,
    label: &str,
    name: &str,
    floor: Option<&str>,
    digits: usize,
) {
    let (Some(troupe), Some(kafka)) = (measures.of(name, "troupe"), measures.of(name, "kafka"))
    else {
        return;
    };
    let ratio = troupe.median / kafka.median;
    let _ = write!(
        page,
        "| {label} | {} | {} | {ratio:.3} |",
        show(troupe, digits),
        show(kafka, digits)
    );
    if let Some(floor) = floor.and_then(|floor| measures.of(floor, "floor")) {
        let ratio = troupe.median / floor.median;
        let _ = write!(page, " {} | {ratio:.2} |", show(floor, digits));
    }
    page.push('\n');
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
