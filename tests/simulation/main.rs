//! A whole cluster in one thread, on virtual time and a network that loses and delays: what it promises, it keeps.
//!
//! A run follows from its seed, down to each byte that is sent. It has a process of its own, because the tasks of tokio
//! are woken in an order that depends on how many runtimes a process has had.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it found"
)]

mod admin;
mod cluster;
mod consumer;
mod coordinator;
mod elections;
mod entropy;
mod faults;
mod history;
mod network;
mod offsets;
mod producer;
#[path = "../support/records.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod records;
mod replicas;
mod run;
mod seeds;
mod transactions;
mod wire;

/// The seed of [`one_seed`].
const SEED: &str = "TROUPE_SEED";
/// How many seeds to run, from 0; or which, as `from..to`.
const SEEDS: &str = "TROUPE_SEEDS";

/// Runs the seed of `TROUPE_SEED` in this process; the other tests call this one.
#[test]
#[ignore = "the others run it, each seed in a process of its own"]
fn one_seed() {
    let seed = std::env::var(SEED).map_or(0, |seed| seed.parse().expect("a number"));
    seeds::run_here(seed);
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [1, 2] {
        let (one, again) = (seeds::run(seed), seeds::run(seed));
        assert_eq!(one, again, "seed {seed}");
        one.expect("nothing was violated");
    }
}

/// Takes two or three minutes of two processors.
#[test]
fn what_was_promised_is_kept() {
    seeds::run_all(100_000..100_200);
}

#[test]
#[ignore = "takes hours; TROUPE_SEEDS=n runs fewer or more"]
fn what_was_promised_is_kept_with_ten_thousand_seeds() {
    let seeds = std::env::var(SEEDS).unwrap_or_else(|_| "10000".to_owned());
    let (from, to) = seeds.split_once("..").unwrap_or(("0", &seeds));
    let bound = |text: &str| text.parse::<u64>().expect("a number");
    seeds::run_all(bound(from)..bound(to));
}
