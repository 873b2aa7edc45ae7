//! `troupe broker-api-versions`: tells which APIs each broker has, as kafka-broker-api-versions does.
//!
//! Differs from Kafka 3.9: `usable` is the newest version that Troupe's own tools and the broker know.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use troupe_protocol::kafka::api::ApiKey;

use super::output;
use super::tool::{self, Brokers, ToolError};

/// Tell which APIs the brokers have.
#[derive(Debug, Args)]
pub(crate) struct BrokerApiVersionsCommand {
    #[command(flatten)]
    brokers: Brokers,
}

/// Runs the command.
pub(crate) fn run(command: BrokerApiVersionsCommand) -> ExitCode {
    tool::run("", execute(command))
}

async fn execute(command: BrokerApiVersionsCommand) -> Result<(), ToolError> {
    command.brokers.check()?;
    let mut client = command.brokers.connect().await?;
    let metadata = client.metadata(Some(Vec::new())).await?;
    for broker in metadata.brokers {
        let rack = broker.rack.as_ref().map_or("null", |rack| rack.as_str());
        let node = format!(
            "{}:{} (id: {} rack: {rack})",
            broker.host.as_str(),
            broker.port,
            broker.node_id.0
        );
        match client.broker(&broker.host, broker.port).await {
            Ok(connection) => output::line(format_args!(
                "{node} -> (\n\t{}\n)",
                lines(connection.advertised()).join(",\n\t")
            )),
            Err(error) => output::line(format_args!("{node} -> ERROR: {error}")),
        }
    }
    Ok(())
}

/// Says of each API what the broker has of it, in the order of their keys.
fn lines(advertised: &BTreeMap<i16, (i16, i16)>) -> Vec<String> {
    let missing = ApiKey::ALL
        .iter()
        .filter(|key| !advertised.contains_key(&key.code()))
        .map(|key| {
            (
                key.code(),
                format!("{}({}): UNSUPPORTED", key.name(), key.code()),
            )
        });
    let mut lines: BTreeMap<_, _> = missing.collect();
    lines.extend(
        advertised
            .iter()
            .map(|(code, range)| (*code, line(*code, *range))),
    );
    lines.into_values().collect()
}

fn line(code: i16, (min, max): (i16, i16)) -> String {
    let range = match min == max {
        true => min.to_string(),
        false => format!("{min} to {max}"),
    };
    let Some(key) = ApiKey::from_code(code) else {
        return format!("UNKNOWN({code}): {range}");
    };
    let known = key.codec_versions();
    let usable = if *known.end() < min {
        "unusable: node too new".to_owned()
    } else if max < *known.start() {
        "unusable: node too old".to_owned()
    } else {
        format!("usable: {}", max.min(*known.end()))
    };
    format!("{}({code}): {range} [{usable}]", key.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_range_and_use() {
        assert_eq!(line(18, (0, 3)), "ApiVersions(18): 0 to 3 [usable: 3]");
        assert_eq!(line(18, (3, 3)), "ApiVersions(18): 3 [usable: 3]");
        assert_eq!(
            line(18, (99, 99)),
            "ApiVersions(18): 99 [unusable: node too new]"
        );
        assert_eq!(line(1000, (0, 1)), "UNKNOWN(1000): 0 to 1");
        let lines = lines(&[(18, (0, 3))].into());
        assert!(lines.contains(&"Produce(0): UNSUPPORTED".to_owned()));
    }
}
