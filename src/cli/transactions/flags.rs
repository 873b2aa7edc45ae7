//! The flags of `troupe transactions`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// List, describe and abort transactions, and find those that hang.
#[derive(Debug, Args)]
pub(crate) struct TransactionsCommand {
    /// The brokers to connect to: host:port,host:port.
    #[arg(long, value_name = "SERVERS")]
    pub(super) bootstrap_server: String,
    /// A file of settings for the connection.
    #[arg(long, value_name = "FILE")]
    pub(super) command_config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List transactions.
    List(ListFlags),
    /// Tell the state of a transactional id.
    Describe(DescribeFlags),
    /// Tell the states of the active producers of a partition.
    DescribeProducers(ProducersFlags),
    /// Abort a hanging transaction.
    Abort(AbortFlags),
    /// Find hanging transactions.
    FindHanging(HangingFlags),
}

#[derive(Debug, Args)]
pub(super) struct ListFlags {
    /// Only transactions that have been running for longer than this; all for less than 0.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pub(super) duration_filter: Option<i64>,
}

#[derive(Debug, Args)]
pub(super) struct DescribeFlags {
    /// The transactional id.
    #[arg(long, value_name = "ID")]
    pub(super) transactional_id: String,
}

#[derive(Debug, Args)]
pub(super) struct ProducersFlags {
    /// The broker to ask instead of the leader.
    #[arg(long, value_name = "ID")]
    pub(super) broker_id: Option<i32>,
    /// The topic.
    #[arg(long)]
    pub(super) topic: String,
    /// The partition.
    #[arg(long, value_name = "N")]
    pub(super) partition: i32,
}

#[derive(Debug, Args)]
pub(super) struct AbortFlags {
    /// The topic.
    #[arg(long)]
    pub(super) topic: String,
    /// The partition.
    #[arg(long, value_name = "N")]
    pub(super) partition: i32,
    /// Where the transaction starts; enough for brokers of Kafka 3.0 and later.
    #[arg(long, value_name = "OFFSET")]
    pub(super) start_offset: Option<i64>,
    /// For older brokers: the producer id.
    #[arg(long, value_name = "ID")]
    pub(super) producer_id: Option<i64>,
    /// For older brokers: the producer epoch.
    #[arg(long, value_name = "EPOCH")]
    pub(super) producer_epoch: Option<i16>,
    /// For older brokers: the coordinator epoch.
    #[arg(long, value_name = "EPOCH", allow_negative_numbers = true)]
    pub(super) coordinator_epoch: Option<i32>,
}

#[derive(Debug, Args)]
pub(super) struct HangingFlags {
    /// The broker whose partitions are looked at.
    #[arg(long, value_name = "ID")]
    pub(super) broker_id: Option<i32>,
    /// The longest transaction timeout in minutes: what is open for longer may hang.
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    pub(super) max_transaction_timeout: i32,
    /// The topic whose partitions are looked at.
    #[arg(long)]
    pub(super) topic: Option<String>,
    /// The partition of that topic.
    #[arg(long, value_name = "N")]
    pub(super) partition: Option<i32>,
}
