//! This benchmark's part of the page.

use std::fmt::Write as _;

use crate::CLIENTS;
use crate::load::Kind;
use crate::machine::Machine;
use crate::measure::{Measures, Spread};
use crate::page::ZOOKEEPER;

const HEAD: &str = "
Written by `benches/versus-zookeeper`: Troupe's coordination service (`troupe zookeeper`) and Apache ZooKeeper 3.9.3
standalone side by side on one machine, in one run, in turns. Both flush every transaction to disk before they answer. Each
value is the median of its rounds, with the least and the most in parentheses.
";

const EXPLANATION: &str = "
## How that is measured

- Clients wait for each answer before they ask again. All of them run on one thread of one process beside the server,
  and take their part of the same cores. Nodes have 100 bytes of data; created nodes are sequential ones, each client's
  below a node of its own.
- CPU is user and system time of the server's process from `/proc/PID/stat`, by answers.
- Each of 1,000 clients has a persistent watch on one node; the time is from sending a change of the node until the last
  client has the event.
- Memory is VmRSS three seconds after the last request; the peak is VmHWM. 100,000 znodes are those that `nodes`
  of this benchmark creates: 100 bytes each, 1,000 below each parent.
- Sessions per MB: the growth of resident memory by idle sessions, each on a connection of its own.
- Start: from the start of the process until it has granted a session, the first time or after an orderly stop.
- ZooKeeper runs with the heap of its start script (`-Xmx1000m`).

## The machine

";

/// Writes the part in Markdown.
pub(crate) fn part(measures: &Measures, machine: &Machine) -> String {
    let mut page = format!("{ZOOKEEPER}{HEAD}");
    for (heading, unit, what) in [
        ("Requests", "a second", "rate"),
        ("Latency of requests", "99th percentile, µs", "p99"),
        ("CPU of requests", "CPU µs", "cpu"),
    ] {
        let mut rows = Vec::new();
        for kind in Kind::ALL {
            for clients in CLIENTS {
                let label = format!("{}, {}", kind.name(), plural(clients));
                rows.push((label, format!("{} {clients} {what}", kind.name()), 0));
            }
        }
        table(&mut page, measures, heading, unit, &rows);
    }
    let rows = [
        ("a change until 1,000 watchers know it, ms", "fan-out", 2),
        ("idle sessions per MB", "sessions", 0),
        ("resident memory, idle, MB", "idle", 1),
        ("resident memory, peak under this load, MB", "loaded", 1),
        ("resident memory, 100,000 znodes created, MB", "created", 1),
        ("resident memory, started with them, MB", "started", 1),
        ("start to first session, s", "start", 3),
        ("the same with 100,000 znodes, s", "full start", 3),
    ];
    let rows = rows.map(|(label, name, digits)| (label.to_owned(), name.to_owned(), digits));
    let heading = "Watches, sessions, memory and start";
    table(&mut page, measures, heading, "", &rows);
    page.push_str(EXPLANATION);
    for line in &machine.lines {
        let _ = writeln!(page, "- {line}");
    }
    page
}

fn plural(clients: usize) -> String {
    match clients {
        1 => "1 client".to_owned(),
        _ => format!("{clients} clients"),
    }
}

/// Writes a table of what was measured: labels, names of measures and digits; without a row it is left out.
fn table(
    page: &mut String,
    measures: &Measures,
    heading: &str,
    unit: &str,
    rows: &[(String, String, usize)],
) {
    let mut head = Some(format!(
        "\n## {heading}\n\n| {unit} | Troupe | ZooKeeper 3.9.3 | Troupe / ZooKeeper |\n| --- | --- | --- | --- |\n"
    ));
    for &(ref label, ref name, digits) in rows {
        let (Some(troupe), Some(zookeeper)) =
            (measures.of(name, "troupe"), measures.of(name, "zookeeper"))
        else {
            continue;
        };
        page.push_str(&head.take().unwrap_or_default());
        let ratio = troupe.median / zookeeper.median;
        let _ = writeln!(
            page,
            "| {label} | {} | {} | {ratio:.3} |",
            show(troupe, digits),
            show(zookeeper, digits)
        );
    }
}

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
