//! Log lines, on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::output;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What the server logs unless `RUST_LOG` says otherwise: its own affairs, and the troubles of what it is built of.
const SERVER_LEVELS: &str = "warn,troupe=info,troupe_actors=info,troupe_protocol=info";

/// What a tool logs unless `RUST_LOG` says otherwise. What librdkafka says of connections it says twice: once for each
/// broker, and for the client as a whole many times more.
const TOOL_LEVELS: &str = "error,rdkafka::client=off";

/// Starts logging for a server.
pub(crate) fn start_for_server(format: LogFormat) {
    let colours = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_ansi(colours)
        .with_writer(io::stderr)
        .with_env_filter(filter(SERVER_LEVELS));
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Starts logging for a tool, which says little of its own accord.
pub(crate) fn start_for_tool() {
    tracing_subscriber::fmt()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .with_env_filter(filter(TOOL_LEVELS))
        .init();
}

fn filter(default: &str) -> EnvFilter {
    let Some(wanted) = std::env::var_os(EnvFilter::DEFAULT_ENV) else {
        return EnvFilter::new(default);
    };
    let wanted = wanted.to_string_lossy();
    EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
        output::error(format_args!(
            "RUST_LOG={wanted} has no effect: {error}; expected target=level,..., for example info,troupe=debug"
        ));
        EnvFilter::new(default)
    })
}
