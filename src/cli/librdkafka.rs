//! What the console tools share: settings of librdkafka, and properties given as flags or files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::config::ClientConfig;
use troupe_actors::config::properties;

use crate::signals::Termination;

/// Reads `key=value` flags.
pub(super) fn pairs(flags: &[String]) -> Result<BTreeMap<String, String>, String> {
    let pair = |flag: &String| match flag.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        // Kafka reads a bare name as an empty value.
        None if !flag.is_empty() => Ok((flag.clone(), String::new())),
        _ => Err(format!("Invalid command line properties: {flag}")),
    };
    flags.iter().map(pair).collect()
}

/// Reads a file of properties.
pub(super) fn read_properties(path: &Path) -> Result<BTreeMap<String, String>, String> {
    properties::read_map(path).map_err(|error| error.to_string())
}

/// Sets properties of the Java clients; what librdkafka does not have is left out, with a line that says so.
pub(super) fn apply(config: &mut ClientConfig, properties: BTreeMap<String, String>) {
    for (name, value) in properties {
        if JAVA_ONLY.contains(&name.as_str()) {
            tracing::warn!("{name} has no effect here");
            continue;
        }
        let name = match name.as_str() {
            "buffer.memory" => {
                let kilobytes = value
                    .parse::<u64>()
                    .map_or(value, |bytes| (bytes / 1024).max(1).to_string());
                config.set("queue.buffering.max.kbytes", kilobytes);
                continue;
            }
            "max.partition.fetch.bytes" => "max.partition.fetch.bytes".to_owned(),
            "fetch.max.wait.ms" => "fetch.wait.max.ms".to_owned(),
            _ => name,
        };
        config.set(name, value);
    }
}

/// Properties of the Java clients without a counterpart.
const JAVA_ONLY: [&str; 10] = [
    "default.api.timeout.ms",
    "interceptor.classes",
    "key.deserializer",
    "key.serializer",
    "max.block.ms",
    "max.poll.records",
    "metric.reporters",
    "partitioner.class",
    "value.deserializer",
    "value.serializer",
];

/// Returns a flag that is raised when the user presses Ctrl-C, or the process is told to end.
pub(super) fn interruption() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&interrupted);
    let wait = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        runtime.block_on(async {
            let mut termination = Termination::watch();
            termination.signal().await;
            raised.store(true, Ordering::Relaxed);
            // The second time there is no more patience.
            termination.signal().await;
        });
        std::process::exit(130);
    };
    // Without the thread a signal simply ends the process.
    let _ = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait);
    interrupted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_pairs() {
        let flags = |texts: &[&str]| {
            pairs(
                &texts
                    .iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let read = flags(&["print.key=true", "key.separator==", "bare"]).unwrap();
        assert_eq!(read.get("key.separator").map(String::as_str), Some("="));
        assert_eq!(read.get("bare").map(String::as_str), Some(""));
        assert_eq!(
            flags(&["=x"]).unwrap_err(),
            "Invalid command line properties: =x"
        );
    }
}
