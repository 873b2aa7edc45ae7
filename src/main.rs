//! Troupe: a Kafka broker played by actors.

mod cli;
mod port_holder;
mod server;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
