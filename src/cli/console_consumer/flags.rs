//! The flags of `troupe console-consumer`, and what they come to.

use std::path::PathBuf;

use clap::Args;
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use regex::Regex;

use crate::cli::librdkafka::{apply, pairs, read_properties};
use crate::cli::zookeeper;

/// Print the records of a topic.
#[derive(Debug, Default, Args)]
pub(crate) struct ConsoleConsumerCommand {
    /// The topic to read.
    #[arg(long)]
    topic: Option<String>,
    /// The topics to read, as a regular expression.
    #[arg(long, alias = "whitelist", value_name = "PATTERN")]
    include: Option<String>,
    /// The brokers to connect to: host:port,host:port.
    #[arg(long, value_name = "SERVERS")]
    bootstrap_server: Option<String>,
    /// The only partition to read.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    partition: Option<i32>,
    /// Where to start in that partition: earliest, latest or a number.
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    offset: Option<String>,
    /// Start with the oldest record and not with the next to come.
    #[arg(long)]
    from_beginning: bool,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    pub(super) max_messages: Option<u64>,
    /// Stop when no record came for so long, in milliseconds.
    #[arg(long, value_name = "MS")]
    pub(super) timeout_ms: Option<u64>,
    /// What to print: print.timestamp, print.partition, print.offset, print.headers, print.key, print.value,
    /// key.separator, line.separator, headers.separator, null.literal; can be repeated.
    #[arg(long = "property", value_name = "NAME=VALUE")]
    pub(super) properties: Vec<String>,
    /// A file of such properties.
    #[arg(long, value_name = "FILE")]
    pub(super) formatter_config: Option<PathBuf>,
    /// read_committed leaves out what belongs to open or aborted transactions.
    #[arg(long, value_name = "LEVEL", default_value = "read_uncommitted")]
    isolation_level: Option<String>,
    /// The consumer group: its members share the partitions, and it goes on where it stopped. Without one every
    /// partition is read.
    #[arg(long)]
    pub(super) group: Option<String>,
    /// A setting of the consumer; can be repeated.
    #[arg(long = "consumer-property", value_name = "NAME=VALUE")]
    consumer_properties: Vec<String>,
    /// A file of settings of the consumer.
    #[arg(
        long = "consumer.config",
        alias = "consumer-config",
        value_name = "FILE"
    )]
    consumer_config: Option<PathBuf>,
    /// Of older Kafkas: find the brokers at a ZooKeeper.
    #[arg(long, value_name = "SERVERS", hide_short_help = true)]
    zookeeper: Option<String>,
    #[command(flatten)]
    older: OlderFlags,
}

/// Flags that tell Java what to load, or that went with the first consumer. They are taken, and do nothing.
#[derive(Debug, Default, Args)]
struct OlderFlags {
    #[arg(long, hide = true)]
    new_consumer: bool,
    #[arg(long, hide = true)]
    formatter: Option<String>,
    #[arg(long, hide = true)]
    key_deserializer: Option<String>,
    #[arg(long, hide = true)]
    value_deserializer: Option<String>,
    #[arg(long, hide = true)]
    skip_message_on_error: bool,
    #[arg(long, hide = true)]
    enable_systest_events: bool,
    #[arg(long, hide = true)]
    delete_consumer_offsets: bool,
    #[arg(long, hide = true)]
    csv_reporter_enabled: bool,
    #[arg(long, hide = true)]
    metrics_dir: Option<String>,
}

/// The topics to read.
#[derive(Debug)]
pub(super) enum Topics {
    /// By name.
    One(String),
    /// By pattern.
    Matching(Regex),
}

impl Topics {
    /// Returns what librdkafka subscribes to: a name, or a pattern, which starts with `^` there.
    pub(super) fn subscription(&self) -> &str {
        match self {
            Self::One(topic) => topic,
            Self::Matching(pattern) => pattern.as_str(),
        }
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::One(topic) => topic == name,
            Self::Matching(pattern) => pattern.is_match(name),
        }
    }
}

/// What the flags come to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) topics: Topics,
    /// All where there is none.
    pub(super) partition: Option<i32>,
    pub(super) offset: Offset,
}

impl ConsoleConsumerCommand {
    /// Checks which flags go together; the errors are those of Kafka's tool.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        if self.bootstrap_server.is_none() && self.zookeeper.is_none() {
            return Err("Missing required argument \"[bootstrap-server]\"".to_owned());
        }
        let topics = match (&self.topic, &self.include) {
            (Some(topic), None) => Topics::One(topic.clone()),
            (None, Some(pattern)) => {
                let alternatives = pattern.replace(',', "|");
                let invalid = |_| format!("{pattern} is an invalid regex.");
                Topics::Matching(Regex::new(&format!("^(?:{alternatives})$")).map_err(invalid)?)
            }
            _ => return Err("Exactly one of --include/--topic is required. ".to_owned()),
        };
        if self.partition.is_some() && self.topic.is_none() {
            return Err("The topic is required when partition is specified.".to_owned());
        }
        if self.offset.is_some() && self.partition.is_none() {
            return Err("The partition is required when offset is specified.".to_owned());
        }
        if self.group.is_some() && self.partition.is_some() {
            return Err("Options group and partition cannot be specified together.".to_owned());
        }
        if self.from_beginning && self.offset.is_some() {
            return Err(
                "Options from-beginning and offset cannot be specified together.".to_owned(),
            );
        }
        let offset = match &self.offset {
            Some(text) => parse_offset(text)?,
            None if self.from_beginning => Offset::Beginning,
            None => Offset::End,
        };
        Ok(Plan {
            topics,
            partition: self.partition,
            offset,
        })
    }

    /// Makes the settings of librdkafka.
    pub(super) fn client_config(&self) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.servers()?)
            .set("client.id", "console-consumer");
        config.set(
            "isolation.level",
            self.isolation_level
                .as_deref()
                .unwrap_or("read_uncommitted"),
        );
        config.set(
            "auto.offset.reset",
            if self.from_beginning {
                "earliest"
            } else {
                "latest"
            },
        );
        config
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", "500");
        if let Some(path) = &self.consumer_config {
            apply(&mut config, read_properties(path)?);
        }
        apply(&mut config, pairs(&self.consumer_properties)?);
        match &self.group {
            // What is committed is what was printed, not what librdkafka has read ahead.
            Some(group) => config
                .set("group.id", group)
                .set("enable.auto.offset.store", "false"),
            // librdkafka wants the name of a group even where partitions are assigned by hand.
            None => config
                .set("group.id", "console-consumer")
                .set("enable.auto.commit", "false"),
        };
        Ok(config)
    }

    fn servers(&self) -> Result<String, String> {
        if let Some(servers) = &self.bootstrap_server {
            return Ok(servers.clone());
        }
        let connect = self.zookeeper.as_deref().unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let servers = runtime
            .block_on(zookeeper::brokers(connect))
            .map_err(|error| error.to_string())?
            .join(",");
        zookeeper::hint("--zookeeper", &format!("--bootstrap-server {servers}"));
        Ok(servers)
    }
}

fn parse_offset(text: &str) -> Result<Offset, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "earliest" => Ok(Offset::Beginning),
        "latest" => Ok(Offset::End),
        number => match number.parse() {
            Ok(offset) if offset >= 0 => Ok(Offset::Offset(offset)),
            _ => Err(format!(
                "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a \
                 non-negative long."
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> ConsoleConsumerCommand {
        ConsoleConsumerCommand {
            topic: Some("t".into()),
            bootstrap_server: Some("localhost:9092".into()),
            ..ConsoleConsumerCommand::default()
        }
    }

    #[test]
    fn a_reader_starts_at_the_end_unless_told_otherwise() {
        assert_eq!(command().plan().unwrap().offset, Offset::End);
        let command = ConsoleConsumerCommand {
            from_beginning: true,
            ..command()
        };
        assert_eq!(command.plan().unwrap().offset, Offset::Beginning);
    }

    #[test]
    fn offsets_are_words_or_numbers() {
        assert_eq!(parse_offset("Earliest"), Ok(Offset::Beginning));
        assert_eq!(parse_offset("42"), Ok(Offset::Offset(42)));
        assert_eq!(
            parse_offset("-5").unwrap_err(),
            "The provided offset value '-5' is incorrect. Valid values are 'earliest', 'latest', or a non-negative \
             long."
        );
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let error = |command: ConsoleConsumerCommand| command.plan().unwrap_err();
        let offset = || Some("1".to_owned());
        assert_eq!(
            error(ConsoleConsumerCommand {
                offset: offset(),
                ..command()
            }),
            "The partition is required when offset is specified."
        );
        assert_eq!(
            error(ConsoleConsumerCommand {
                offset: offset(),
                partition: Some(0),
                from_beginning: true,
                ..command()
            }),
            "Options from-beginning and offset cannot be specified together."
        );
        assert_eq!(
            error(ConsoleConsumerCommand {
                include: Some("a".into()),
                ..command()
            }),
            "Exactly one of --include/--topic is required. "
        );
        assert_eq!(
            error(ConsoleConsumerCommand {
                bootstrap_server: None,
                ..command()
            }),
            "Missing required argument \"[bootstrap-server]\""
        );
        assert_eq!(
            error(ConsoleConsumerCommand {
                group: Some("g".into()),
                partition: Some(0),
                ..command()
            }),
            "Options group and partition cannot be specified together."
        );
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        let command = ConsoleConsumerCommand {
            topic: None,
            include: Some("a,b.*".into()),
            ..command()
        };
        let topics = command.plan().unwrap().topics;
        assert!(topics.matches("a") && topics.matches("bc") && !topics.matches("ab"));
    }
}
