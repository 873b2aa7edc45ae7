//! Says that a test did not run, where the runner's capture cannot hide it.

use std::io::Write;

/// Prints one line that names this test and why it did not run. `./test` counts these lines.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let file = env!("CARGO_CRATE_NAME");
    // Not `eprintln!`: that one is captured, and a skipped test must not look like one that passed.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {file}::{test}: {why}");
}
