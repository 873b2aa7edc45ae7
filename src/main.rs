//! Troupe: a Kafka broker played by actors.

mod cli;
mod coordination;
mod file_limit;
mod port_holder;
mod server;
mod signals;

use std::process::ExitCode;

use troupe_actors::znode_client;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
