//! Runs of many seeds, each in a process of its own.

use std::ops::Range;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use tracing_subscriber::EnvFilter;

use crate::{SEED, entropy, run};

/// The line that a run ends with when all is well.
const VERDICT: &str = "VERDICT";

/// Runs a seed in this process and fails when a promise was broken.
pub fn run_here(seed: u64) {
    let panicked = &*Box::leak(Box::new(AtomicBool::new(false)));
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // One in a task of a host would go unnoticed.
        panicked.store(true, Ordering::SeqCst);
        said(info);
    }));
    if let Ok(filter) = EnvFilter::try_from_env("TROUPE_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_timer(VirtualTime)
            .init();
    }
    let follow = move || {
        entropy::follow(seed);
        run::run(seed)
    };
    let builder = thread::Builder::new().stack_size(16 * 1024 * 1024);
    let verdict = builder.spawn(follow).expect("a thread").join();
    let verdict = verdict.expect("the run does not panic");
    assert!(
        !panicked.load(Ordering::SeqCst),
        "seed {seed}: something panicked"
    );
    assert_eq!(verdict.violations, [""; 0], "seed {seed}");
    println!(
        "{VERDICT} seed {seed}: {} records acknowledged, {} faults, {:?}, trace {:016x} of {}",
        verdict.acknowledged, verdict.faults, verdict.lasted, verdict.trace.0, verdict.trace.1
    );
}

/// Writes the time of the run before each line of the log.
struct VirtualTime;

impl tracing_subscriber::fmt::time::FormatTime for VirtualTime {
    fn format_time(
        &self,
        writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
    ) -> std::fmt::Result {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        write!(writer, "{:>9.3}", now.as_secs_f64())
    }
}

/// Runs a seed in a process of its own; returns its verdict, or all that it said.
pub fn run(seed: u64) -> Result<String, String> {
    let program = std::env::current_exe().expect("this program");
    let arguments = ["--exact", "one_seed", "--ignored", "--nocapture"];
    let done = Command::new(program)
        .args(arguments)
        .env(SEED, seed.to_string())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    let verdict = said.lines().find_map(|line| line.split_once(VERDICT));
    match verdict.filter(|_| done.status.success()) {
        Some((_, verdict)) => Ok(verdict.trim().to_owned()),
        None => Err(format!("{said}{}", String::from_utf8_lossy(&done.stderr))),
    }
}

/// Runs seeds, two processes at a time or as many as there are processors, until all are done.
pub fn run_all(seeds: Range<u64>) {
    let began = Instant::now();
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let (next, done) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let work = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if !seeds.contains(&seed) {
                break;
            }
            match run(seed) {
                Ok(verdict) => println!("{verdict}"),
                Err(said) => {
                    let what = said.lines().find(|line| line.starts_with("VIOLATION"));
                    println!("seed {seed} FAILED: {}", what.unwrap_or("it panicked"));
                    failed.push((seed, said));
                }
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
        failed
    };
    let mut failed: Vec<(u64, String)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| worker.join());
        ended.flat_map(|failed| failed.expect("it runs")).collect()
    });
    failed.sort();
    let done = done.load(Ordering::SeqCst);
    println!(
        "{done} seeds from {} on in {:?}",
        seeds.start,
        began.elapsed()
    );
    for (seed, said) in &failed {
        eprintln!(
            "---- {SEED}={seed} cargo test --test simulation one_seed -- --ignored --nocapture\n{said}"
        );
    }
    let failed: Vec<u64> = failed.into_iter().map(|(seed, _)| seed).collect();
    assert!(failed.is_empty(), "of {done} seeds failed {failed:?}");
}
