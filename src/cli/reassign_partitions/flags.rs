//! The flags of `troupe reassign-partitions`, and which of them go together.

use std::path::PathBuf;

use clap::Args;

use super::super::tool::{Brokers, ToolError};

/// Move the replicas of partitions to other brokers.
#[derive(Debug, Default, Args)]
pub(crate) struct ReassignPartitionsCommand {
    #[command(flatten)]
    pub(super) brokers: Brokers,
    /// Propose where the partitions of topics could go.
    #[arg(long)]
    generate: bool,
    /// Begin to move partitions as a file says.
    #[arg(long)]
    execute: bool,
    /// Tell how far the moves of a file are, and take their throttles back when all are done.
    #[arg(long)]
    verify: bool,
    /// End the moves of a file where they are.
    #[arg(long)]
    cancel: bool,
    /// List the moves under way.
    #[arg(long)]
    list: bool,
    /// Where partitions go: {"partitions": [{"topic": "foo", "partition": 1, "replicas": [1,2,3]}], "version": 1}.
    #[arg(long, value_name = "FILE")]
    pub(super) reassignment_json_file: Option<PathBuf>,
    /// The topics to propose for: {"topics": [{"topic": "foo"}], "version": 1}.
    #[arg(long, value_name = "FILE")]
    pub(super) topics_to_move_json_file: Option<PathBuf>,
    /// The brokers to propose: 0,1,2.
    #[arg(long, value_name = "IDS")]
    pub(super) broker_list: Option<String>,
    /// Propose without regard to racks, as is always done here.
    #[arg(long)]
    disable_rack_aware: bool,
    /// How many bytes a second may go between brokers.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(super) throttle: Option<i64>,
    /// How many bytes a second may go between directories of a broker.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    replica_alter_log_dirs_throttle: Option<i64>,
    /// How long to wait for moves between directories to begin, in milliseconds.
    #[arg(long, value_name = "MS")]
    timeout: Option<i64>,
    /// Begin also while other moves are under way.
    #[arg(long)]
    pub(super) additional: bool,
    /// Leave throttles as they are.
    #[arg(long)]
    pub(super) preserve_throttles: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Generate,
    Execute,
    Verify,
    Cancel,
    List,
}

impl Action {
    fn flag(self) -> &'static str {
        match self {
            Action::Generate => "generate",
            Action::Execute => "execute",
            Action::Verify => "verify",
            Action::Cancel => "cancel",
            Action::List => "list",
        }
    }
}

impl ReassignPartitionsCommand {
    /// Returns what is to be done, if the flags make sense. Errors are in the words of Kafka's tool.
    pub(super) fn action(&self) -> Result<Action, ToolError> {
        let given = [
            (self.generate, Action::Generate),
            (self.execute, Action::Execute),
            (self.verify, Action::Verify),
            (self.cancel, Action::Cancel),
            (self.list, Action::List),
        ];
        let mut actions = given
            .into_iter()
            .filter_map(|(given, action)| given.then_some(action));
        let (Some(action), None) = (actions.next(), actions.next()) else {
            return Err(ToolError::told(
                "Command must include exactly one action: --generate, --execute, --verify, --cancel, --list",
            ));
        };
        if self.brokers.check().is_err() {
            return Err(ToolError::told("Please specify --bootstrap-server"));
        }
        self.check_required(action)?;
        self.check_misplaced(action)?;
        Ok(action)
    }

    fn check_required(&self, action: Action) -> Result<(), ToolError> {
        let of_file = (
            self.reassignment_json_file.is_some(),
            "reassignment-json-file",
        );
        let required = match action {
            Action::Generate => vec![
                (
                    self.topics_to_move_json_file.is_some(),
                    "topics-to-move-json-file",
                ),
                (self.broker_list.is_some(), "broker-list"),
            ],
            Action::Execute | Action::Verify | Action::Cancel => vec![of_file],
            Action::List => Vec::new(),
        };
        match required.into_iter().find(|(given, _)| !given) {
            Some((_, flag)) => Err(ToolError::missing(flag)),
            None => Ok(()),
        }
    }

    fn check_misplaced(&self, action: Action) -> Result<(), ToolError> {
        use Action::{Cancel, Execute, Generate, Verify};
        let rules: [(bool, &str, &[Action]); 9] = [
            (
                self.reassignment_json_file.is_some(),
                "reassignment-json-file",
                &[Execute, Verify, Cancel],
            ),
            (
                self.topics_to_move_json_file.is_some(),
                "topics-to-move-json-file",
                &[Generate],
            ),
            (self.broker_list.is_some(), "broker-list", &[Generate]),
            (self.disable_rack_aware, "disable-rack-aware", &[Generate]),
            (self.throttle.is_some(), "throttle", &[Execute]),
            (
                self.replica_alter_log_dirs_throttle.is_some(),
                "replica-alter-log-dirs-throttle",
                &[Execute],
            ),
            (self.timeout.is_some(), "timeout", &[Execute, Cancel]),
            (self.additional, "additional", &[Execute]),
            (
                self.preserve_throttles,
                "preserve-throttles",
                &[Verify, Cancel],
            ),
        ];
        let mut rules = rules.into_iter();
        match rules.find(|(given, _, actions)| *given && !actions.contains(&action)) {
            Some((_, flag, _)) => Err(ToolError::told(format!(
                "Option \"[{flag}]\" can't be used with action \"[{}]\"",
                action.flag()
            ))),
            None => Ok(()),
        }
    }
}
