//! The flags of `troupe topics`, and which of them go together.

use std::path::PathBuf;

use clap::Args;

/// Create, list, describe, change and delete topics.
#[derive(Debug, Default, Args)]
pub(crate) struct TopicsCommand {
    /// Create a topic.
    #[arg(long)]
    pub(super) create: bool,
    /// List the topics.
    #[arg(long)]
    pub(super) list: bool,
    /// Tell partitions, leaders, replicas and configuration.
    #[arg(long)]
    pub(super) describe: bool,
    /// Change the number of partitions or the configuration.
    #[arg(long)]
    pub(super) alter: bool,
    /// Delete topics.
    #[arg(long)]
    pub(super) delete: bool,
    /// The brokers to connect to: host:port,host:port.
    #[arg(long, value_name = "SERVERS")]
    pub(super) bootstrap_server: Option<String>,
    /// The topic; but for --create, a regular expression.
    #[arg(long)]
    pub(super) topic: Option<String>,
    /// The number of partitions.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) partitions: Option<i32>,
    /// The number of replicas of each partition.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) replication_factor: Option<i32>,
    /// The brokers of each partition: 0:1,1:0.
    #[arg(long, value_name = "BROKERS")]
    pub(super) replica_assignment: Option<String>,
    /// A configuration override; can be repeated.
    #[arg(long = "config", value_name = "NAME=VALUE")]
    pub(super) configs: Vec<String>,
    /// A configuration override to remove; can be repeated.
    #[arg(long = "delete-config", value_name = "NAME")]
    pub(super) deleted_configs: Vec<String>,
    /// Do nothing where the topic exists.
    #[arg(long)]
    pub(super) if_not_exists: bool,
    /// Do nothing where no topic matches.
    #[arg(long)]
    pub(super) if_exists: bool,
    /// Describe only partitions with fewer replicas in sync than replicas.
    #[arg(long)]
    pub(super) under_replicated_partitions: bool,
    /// Describe only partitions without a leader.
    #[arg(long)]
    pub(super) unavailable_partitions: bool,
    /// Describe only partitions with just min.insync.replicas in sync.
    #[arg(long)]
    pub(super) at_min_isr_partitions: bool,
    /// Describe only partitions with fewer than min.insync.replicas in sync.
    #[arg(long)]
    pub(super) under_min_isr_partitions: bool,
    /// Describe only topics with configuration overrides.
    #[arg(long)]
    pub(super) topics_with_overrides: bool,
    /// Leave out topics such as __consumer_offsets.
    #[arg(long)]
    pub(super) exclude_internal: bool,
    /// The id of the topic to describe.
    #[arg(long, value_name = "ID")]
    pub(super) topic_id: Option<String>,
    /// A file of settings for the connection.
    #[arg(long, value_name = "FILE")]
    pub(super) command_config: Option<PathBuf>,
    /// Of older Kafkas: find the brokers at a ZooKeeper.
    #[arg(long, value_name = "SERVERS", hide_short_help = true)]
    pub(super) zookeeper: Option<String>,
    /// Of older Kafkas: the same as --bootstrap-server.
    #[arg(long, value_name = "SERVERS", hide_short_help = true)]
    pub(super) broker_list: Option<String>,
    /// Of older Kafkas: does nothing.
    #[arg(long, hide = true)]
    pub(super) force: bool,
    /// Of older Kafkas: does nothing.
    #[arg(long, hide = true)]
    pub(super) disable_rack_aware: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    List,
    Describe,
    Alter,
    Delete,
}

impl Action {
    fn flag(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::List => "list",
            Action::Describe => "describe",
            Action::Alter => "alter",
            Action::Delete => "delete",
        }
    }
}

/// Flags that do not go together. The text is that of Kafka's tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UsageError(pub(super) String);

impl TopicsCommand {
    /// Returns what is to be done, if the flags make sense.
    pub(super) fn action(&self) -> Result<Action, UsageError> {
        let given = [
            (self.create, Action::Create),
            (self.list, Action::List),
            (self.describe, Action::Describe),
            (self.alter, Action::Alter),
            (self.delete, Action::Delete),
        ];
        let mut actions = given
            .into_iter()
            .filter_map(|(given, action)| given.then_some(action));
        let (Some(action), None) = (actions.next(), actions.next()) else {
            let message = "Command must include exactly one action: --list, --describe, --create, --alter or --delete";
            return Err(UsageError(message.to_owned()));
        };
        if self.bootstrap_server.is_none() && self.broker_list.is_none() && self.zookeeper.is_none()
        {
            return Err(UsageError(
                "--bootstrap-server must be specified".to_owned(),
            ));
        }
        self.check_required(action)?;
        self.check_misplaced(action)?;
        self.check_pairs()?;
        Ok(action)
    }

    fn check_required(&self, action: Action) -> Result<(), UsageError> {
        let missing = |name| {
            Err(UsageError(format!(
                "Missing required argument \"[{name}]\""
            )))
        };
        if matches!(action, Action::Create | Action::Alter | Action::Delete) && self.topic.is_none()
        {
            return missing("topic");
        }
        let changes_config = !self.configs.is_empty() || !self.deleted_configs.is_empty();
        if action == Action::Alter && self.partitions.is_none() && !changes_config {
            return missing("partitions");
        }
        Ok(())
    }

    /// Checks each flag against the actions that it belongs to.
    fn check_misplaced(&self, action: Action) -> Result<(), UsageError> {
        use Action::{Alter, Create, Delete, Describe, List};
        let rules: [(bool, &str, &[Action]); 14] = [
            (!self.configs.is_empty(), "config", &[Create, Alter]),
            (!self.deleted_configs.is_empty(), "delete-config", &[Alter]),
            (self.partitions.is_some(), "partitions", &[Create, Alter]),
            (
                self.replication_factor.is_some(),
                "replication-factor",
                &[Create],
            ),
            (
                self.replica_assignment.is_some(),
                "replica-assignment",
                &[Create, Alter],
            ),
            (
                self.under_replicated_partitions,
                "under-replicated-partitions",
                &[Describe],
            ),
            (
                self.under_min_isr_partitions,
                "under-min-isr-partitions",
                &[Describe],
            ),
            (
                self.at_min_isr_partitions,
                "at-min-isr-partitions",
                &[Describe],
            ),
            (
                self.unavailable_partitions,
                "unavailable-partitions",
                &[Describe],
            ),
            (
                self.topics_with_overrides,
                "topics-with-overrides",
                &[Describe],
            ),
            (self.if_exists, "if-exists", &[Alter, Delete, Describe]),
            (self.if_not_exists, "if-not-exists", &[Create]),
            (self.exclude_internal, "exclude-internal", &[List, Describe]),
            (self.topic_id.is_some(), "topic-id", &[Describe]),
        ];
        let misplaced = rules
            .into_iter()
            .find(|(given, _, actions)| *given && !actions.contains(&action));
        misplaced.map_or(Ok(()), |(_, flag, _)| Err(excluded(flag, action.flag())))
    }

    fn check_pairs(&self) -> Result<(), UsageError> {
        let assigned = self.replica_assignment.is_some();
        if self.create && assigned && self.partitions.is_some() {
            return Err(excluded("replica-assignment", "partitions"));
        }
        if assigned && self.replication_factor.is_some() {
            return Err(excluded("replica-assignment", "replication-factor"));
        }
        let filters = [
            (
                self.under_replicated_partitions,
                "under-replicated-partitions",
            ),
            (self.under_min_isr_partitions, "under-min-isr-partitions"),
            (self.at_min_isr_partitions, "at-min-isr-partitions"),
            (self.unavailable_partitions, "unavailable-partitions"),
        ];
        let filter = filters.into_iter().find(|(given, _)| *given);
        match filter {
            Some((_, flag)) if self.topics_with_overrides => {
                Err(excluded("topics-with-overrides", flag))
            }
            _ => Ok(()),
        }
    }
}

fn excluded(flag: &str, by: &str) -> UsageError {
    UsageError(format!(
        "Option \"[{flag}]\" can't be used with option \"[{by}]\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create() -> TopicsCommand {
        TopicsCommand {
            create: true,
            bootstrap_server: Some("localhost:9092".into()),
            topic: Some("t".into()),
            ..TopicsCommand::default()
        }
    }

    fn error(command: TopicsCommand) -> String {
        command.action().unwrap_err().0
    }

    #[test]
    fn exactly_one_action() {
        let expected = "Command must include exactly one action: --list, --describe, --create, --alter or --delete";
        assert_eq!(error(TopicsCommand::default()), expected);
        assert_eq!(
            error(TopicsCommand {
                list: true,
                ..create()
            }),
            expected
        );
        assert_eq!(create().action(), Ok(Action::Create));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            error(TopicsCommand {
                bootstrap_server: None,
                ..create()
            }),
            "--bootstrap-server must be specified"
        );
        assert_eq!(
            error(TopicsCommand {
                topic: None,
                ..create()
            }),
            "Missing required argument \"[topic]\""
        );
        let alter = TopicsCommand {
            create: false,
            alter: true,
            ..create()
        };
        assert_eq!(error(alter), "Missing required argument \"[partitions]\"");
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let describe = TopicsCommand {
            create: false,
            describe: true,
            if_not_exists: true,
            ..create()
        };
        assert_eq!(
            error(describe),
            "Option \"[if-not-exists]\" can't be used with option \"[describe]\""
        );
        let both = TopicsCommand {
            partitions: Some(2),
            replica_assignment: Some("1".into()),
            ..create()
        };
        assert_eq!(
            error(both),
            "Option \"[replica-assignment]\" can't be used with option \"[partitions]\""
        );
    }
}
