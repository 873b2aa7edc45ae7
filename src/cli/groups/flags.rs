//! The flags of `troupe consumer-groups`, and which of them go together.

use std::path::PathBuf;

use clap::Args;

/// List, describe, delete and reset consumer groups.
#[derive(Debug, Default, Args)]
pub(crate) struct GroupsCommand {
    /// List the groups.
    #[arg(long)]
    pub(super) list: bool,
    /// Tell committed offsets and lag, or what --members and --state ask for.
    #[arg(long)]
    pub(super) describe: bool,
    /// Delete groups with their offsets.
    #[arg(long)]
    pub(super) delete: bool,
    /// Change what groups have committed; only shows what would change without --execute.
    #[arg(long)]
    pub(super) reset_offsets: bool,
    /// Delete what a group has committed of the topics.
    #[arg(long)]
    pub(super) delete_offsets: bool,
    /// The brokers to connect to: host:port,host:port.
    #[arg(long, value_name = "SERVERS")]
    pub(super) bootstrap_server: Option<String>,
    /// The group; can be repeated.
    #[arg(long = "group", value_name = "GROUP")]
    pub(super) groups: Vec<String>,
    /// All groups instead of --group.
    #[arg(long)]
    pub(super) all_groups: bool,
    /// A topic, or partitions of it: topic:0,1; can be repeated.
    #[arg(long = "topic", value_name = "TOPIC")]
    pub(super) topics: Vec<String>,
    /// With --reset-offsets: all topics that the group has committed offsets of.
    #[arg(long)]
    pub(super) all_topics: bool,
    /// With --describe: the members.
    #[arg(long)]
    pub(super) members: bool,
    /// With --describe: the state; with --list: the states, and only groups in these: Stable,Empty.
    #[arg(long, value_name = "STATES", num_args = 0..=1, default_missing_value = "")]
    pub(super) state: Option<String>,
    /// With --list: the types, and only groups of these: Classic,Consumer.
    #[arg(long = "type", value_name = "TYPES", num_args = 0..=1, default_missing_value = "")]
    pub(super) kind: Option<String>,
    /// With --describe: committed offsets and lag, as without it.
    #[arg(long)]
    pub(super) offsets: bool,
    /// With --members: what each of them is assigned.
    #[arg(long)]
    pub(super) verbose: bool,
    /// With --reset-offsets: only show what would change.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// With --reset-offsets: change it.
    #[arg(long)]
    pub(super) execute: bool,
    /// With --reset-offsets: show it as CSV, which --from-file reads.
    #[arg(long)]
    pub(super) export: bool,
    #[command(flatten)]
    pub(super) target: TargetFlags,
    /// How long an answer may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub(super) timeout: u64,
    /// A file of settings for the connection.
    #[arg(long, value_name = "FILE")]
    pub(super) command_config: Option<PathBuf>,
    /// Of older Kafkas: find the brokers at a ZooKeeper.
    #[arg(long, value_name = "SERVERS", hide_short_help = true)]
    pub(super) zookeeper: Option<String>,
    /// Of older Kafkas: says what is always so now.
    #[arg(long, hide = true)]
    pub(super) new_consumer: bool,
}

/// Where `--reset-offsets` resets to.
#[derive(Debug, Default, Args)]
pub(super) struct TargetFlags {
    /// Reset to this offset.
    #[arg(long, value_name = "OFFSET", allow_negative_numbers = true)]
    pub(super) to_offset: Option<i64>,
    /// Reset to the first record from this time on: 2026-01-31T12:00:00.000.
    #[arg(long, value_name = "DATETIME")]
    pub(super) to_datetime: Option<String>,
    /// Reset to the first record of the last while: P1DT2H30M.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(super) by_duration: Option<String>,
    /// Reset to the beginning.
    #[arg(long)]
    pub(super) to_earliest: bool,
    /// Reset to the end.
    #[arg(long)]
    pub(super) to_latest: bool,
    /// Leave committed offsets as they are, and commit the end where there is none.
    #[arg(long)]
    pub(super) to_current: bool,
    /// Move committed offsets by this many, forwards or backwards.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) shift_by: Option<i64>,
    /// Reset to the offsets of a CSV file, as --export writes it.
    #[arg(long, value_name = "FILE")]
    pub(super) from_file: Option<PathBuf>,
}

impl TargetFlags {
    /// Names the flags that are given, in the order in which Kafka looks at them.
    fn given(&self) -> Vec<&'static str> {
        let flags = [
            (self.to_offset.is_some(), "to-offset"),
            (self.to_datetime.is_some(), "to-datetime"),
            (self.by_duration.is_some(), "by-duration"),
            (self.to_earliest, "to-earliest"),
            (self.to_latest, "to-latest"),
            (self.to_current, "to-current"),
            (self.shift_by.is_some(), "shift-by"),
            (self.from_file.is_some(), "from-file"),
        ];
        named(&flags)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    List,
    Describe,
    Delete,
    ResetOffsets,
    DeleteOffsets,
}

/// Flags that do not go together. The text is that of Kafka's tool.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

impl GroupsCommand {
    /// Returns what is to be done, if the flags make sense.
    pub(super) fn action(&self) -> Result<Action, UsageError> {
        if self.bootstrap_server.is_none() && self.zookeeper.is_none() {
            return usage("Missing required argument \"[bootstrap-server]\"");
        }
        self.check_available()?;
        self.check_describe()?;
        self.check_delete()?;
        self.check_reset()?;
        self.check_scope()?;
        let given = [
            (self.list, Action::List),
            (self.describe, Action::Describe),
            (self.delete, Action::Delete),
            (self.reset_offsets, Action::ResetOffsets),
            (self.delete_offsets, Action::DeleteOffsets),
        ];
        match named(&given)[..] {
            [action] => Ok(action),
            _ => usage(
                "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, \
                 --delete-offsets",
            ),
        }
    }

    /// Returns whether `--reset-offsets` is to leave everything as it is without having been told so.
    pub(super) fn is_dry_by_default(&self) -> bool {
        self.reset_offsets && !self.execute && !self.dry_run
    }

    fn has_groups(&self) -> bool {
        self.all_groups || !self.groups.is_empty()
    }

    /// Checks the flags that belong to one action alone.
    fn check_available(&self) -> Result<(), UsageError> {
        let unavailable = [
            (self.members && !self.describe, "members"),
            (self.verbose && !self.describe, "verbose"),
            (self.offsets && !self.describe, "offsets"),
            (
                self.state.is_some() && !self.describe && !self.list,
                "state",
            ),
            (self.kind.is_some() && !self.list, "type"),
        ];
        match named(&unavailable).first() {
            Some(flag) => usage(format!(
                "Option(s) [{flag}] are unavailable given other options on the command line"
            )),
            None => Ok(()),
        }
    }

    fn check_describe(&self) -> Result<(), UsageError> {
        if !self.describe {
            return Ok(());
        }
        if !self.has_groups() {
            return usage("Option [describe] takes one of these options: [all-groups], [group]");
        }
        let views = [self.members, self.offsets, self.state.is_some()];
        if views.into_iter().filter(|given| *given).count() > 1 {
            return usage(
                "Option [describe] takes at most one of these options: [members], [offsets], [state]",
            );
        }
        match &self.state {
            Some(value) if !value.is_empty() => {
                usage("Option [describe] does not take a value for [state]")
            }
            _ => Ok(()),
        }
    }

    fn check_delete(&self) -> Result<(), UsageError> {
        if self.delete && !self.has_groups() {
            return usage("Option [delete] takes one of these options: [all-groups], [group]");
        }
        if self.delete && !self.topics.is_empty() {
            return usage(
                "The consumer does not support topic-specific offset deletion from a consumer group.",
            );
        }
        if self.delete_offsets && (self.groups.is_empty() || self.topics.is_empty()) {
            return usage("Option [delete-offsets] takes the following options: [topic], [group]");
        }
        Ok(())
    }

    fn check_reset(&self) -> Result<(), UsageError> {
        if !self.reset_offsets {
            return Ok(());
        }
        if self.dry_run && self.execute {
            return usage("Option [reset-offsets] only accepts one of [execute] and [dry-run]");
        }
        if !self.has_groups() {
            return usage(
                "Option [reset-offsets] takes one of these options: [all-groups], [group]",
            );
        }
        let targets = self.target.given();
        if let [first, second, ..] = targets[..] {
            return usage(excluded(first, second));
        }
        if !self.all_topics && self.topics.is_empty() && self.target.from_file.is_none() {
            return usage("One of the reset scopes should be defined: --all-topics, --topic.");
        }
        if targets.is_empty() {
            return usage(
                "Option '[reset-offsets]' requires one of the following scenarios: [[to-offset], [to-current], \
                 [to-datetime], [from-file], [by-duration], [to-earliest], [to-latest], [shift-by]]",
            );
        }
        Ok(())
    }

    fn check_scope(&self) -> Result<(), UsageError> {
        if !self.groups.is_empty() && self.all_groups {
            return usage(excluded("group", "all-groups"));
        }
        if !self.groups.is_empty() && self.list {
            return usage(excluded("group", "list"));
        }
        let no_topics = [(self.list, "list"), (self.describe, "describe")];
        match named(&no_topics).first() {
            Some(action) if !self.topics.is_empty() => usage(excluded("topic", action)),
            _ => Ok(()),
        }
    }
}

/// Returns what is given.
fn named<T: Copy>(flags: &[(bool, T)]) -> Vec<T> {
    let given = flags.iter().filter(|(given, _)| *given);
    given.map(|(_, name)| *name).collect()
}

fn excluded(flag: &str, by: &str) -> String {
    format!("Option \"[{flag}]\" can't be used with option \"[{by}]\"")
}

fn usage<T>(message: impl Into<String>) -> Result<T, UsageError> {
    Err(UsageError(message.into()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        command: GroupsCommand,
    }

    fn action(flags: &str) -> Result<Action, String> {
        let arguments = ["troupe", "--bootstrap-server", "localhost:9092"];
        let cli = Cli::try_parse_from(arguments.into_iter().chain(flags.split_whitespace()));
        cli.unwrap().command.action().map_err(|error| error.0)
    }

    #[test]
    fn each_action_has_its_flags() {
        assert_eq!(action("--list --state --type Classic"), Ok(Action::List));
        assert_eq!(
            action("--describe --group a --group b --state"),
            Ok(Action::Describe)
        );
        assert_eq!(
            action("--describe --all-groups --members --verbose"),
            Ok(Action::Describe)
        );
        assert_eq!(action("--delete --all-groups"), Ok(Action::Delete));
        assert_eq!(
            action("--reset-offsets --group g --topic t:0,1 --shift-by -2 --execute"),
            Ok(Action::ResetOffsets)
        );
        assert_eq!(
            action("--reset-offsets --group g --from-file f --dry-run --export"),
            Ok(Action::ResetOffsets)
        );
        assert_eq!(
            action("--delete-offsets --group g --topic t"),
            Ok(Action::DeleteOffsets)
        );
    }

    /// Flags, and what Kafka's tool was seen to say to them: that of 3.9 where it is right, else that of 4.1.
    const REFUSED: &[(&str, &str)] = &[
        (
            "--list --delete-offsets --group g --topic t",
            "Option \"[group]\" can't be used with option \"[list]\"",
        ),
        (
            "--delete --describe --group g",
            "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets",
        ),
        (
            "",
            "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets",
        ),
        (
            "--describe",
            "Option [describe] takes one of these options: [all-groups], [group]",
        ),
        (
            "--describe --group g --all-groups",
            "Option \"[group]\" can't be used with option \"[all-groups]\"",
        ),
        (
            "--describe --group g --state x",
            "Option [describe] does not take a value for [state]",
        ),
        (
            "--describe --group g --state --members",
            "Option [describe] takes at most one of these options: [members], [offsets], [state]",
        ),
        (
            "--describe --group g --topic t",
            "Option \"[topic]\" can't be used with option \"[describe]\"",
        ),
        (
            "--delete",
            "Option [delete] takes one of these options: [all-groups], [group]",
        ),
        (
            "--delete --group g --topic t",
            "The consumer does not support topic-specific offset deletion from a consumer group.",
        ),
        (
            "--delete-offsets --group g",
            "Option [delete-offsets] takes the following options: [topic], [group]",
        ),
        (
            "--list --members",
            "Option(s) [members] are unavailable given other options on the command line",
        ),
        (
            "--list --topic t",
            "Option \"[topic]\" can't be used with option \"[list]\"",
        ),
        (
            "--reset-offsets --topic t",
            "Option [reset-offsets] takes one of these options: [all-groups], [group]",
        ),
        (
            "--reset-offsets --group g",
            "One of the reset scopes should be defined: --all-topics, --topic.",
        ),
        (
            "--reset-offsets --group g --to-earliest",
            "One of the reset scopes should be defined: --all-topics, --topic.",
        ),
        (
            "--reset-offsets --group g --topic t",
            "Option '[reset-offsets]' requires one of the following scenarios: [[to-offset], [to-current], [to-datetime], [from-file], [by-duration], [to-earliest], [to-latest], [shift-by]]",
        ),
        (
            "--reset-offsets --group g --topic t --to-latest --to-earliest",
            "Option \"[to-earliest]\" can't be used with option \"[to-latest]\"",
        ),
        (
            "--reset-offsets --group g --topic t --to-latest --execute --dry-run",
            "Option [reset-offsets] only accepts one of [execute] and [dry-run]",
        ),
    ];

    #[test]
    fn what_does_not_go_together_is_refused_with_kafkas_text() {
        for (flags, expected) in REFUSED {
            assert_eq!(action(flags), Err((*expected).to_owned()), "{flags}");
        }
    }
}
