//! kcat, the command-line client built on librdkafka.

use std::process::Command;

use super::process::{Output, Process};
use super::server::Server;
use super::skip::skip;

/// Returns whether kcat is here. Without it the test is skipped by name, or fails where `./test` had to get it.
pub fn present() -> bool {
    let found = Command::new("kcat").arg("-V").output().is_ok();
    if !found {
        let why = "kcat is not installed; ./test installs it or says how";
        assert!(std::env::var_os("TROUPE_REQUIRE_KCAT").is_none(), "{why}");
        skip(why);
    }
    found
}

/// Runs kcat against `server` to its end, with `input` on standard input.
pub fn kcat(server: &Server, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new("kcat");
    command.args(["-b", &server.bootstrap()]).args(arguments);
    let mut process = Process::spawn("kcat", command);
    process.feed(input);
    process.finish()
}
