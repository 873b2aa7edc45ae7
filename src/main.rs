//! Troupe: a Kafka broker played by actors.

mod cli;
mod coordination;
mod file_limit;
mod port_holder;
mod server;
mod signals;
mod znode_client;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
