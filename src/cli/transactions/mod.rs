//! `troupe transactions`: lists, describes and aborts transactions and finds those that hang, as kafka-transactions does.
//!
//! Output is that of Kafka 3.9. Differs: rows and partitions are in order, and an unreachable broker or a missing
//! partition is reported at once.

mod abort;
mod find_hanging;
mod flags;
mod queries;
mod table;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use super::client::{AdminClient, ClientError};
use super::command_config::{self, CommandConfigError};
use super::output;
use flags::Action;
pub(crate) use flags::TransactionsCommand;
use flags::{DescribeFlags, ListFlags, ProducersFlags};
use queries::Partition;

/// Tells why a command failed, in the words of Kafka's tool.
#[derive(Debug, thiserror::Error)]
enum TransactionError {
    #[error("{0}: {1}. Enable debug logging for additional detail.")]
    Failed(String, String),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    CommandConfig(#[from] CommandConfigError),
    #[error(transparent)]
    Runtime(#[from] std::io::Error),
}

/// Says what was being done when an error came.
fn failed<E: ToString>(what: impl Into<String>) -> impl FnOnce(E) -> TransactionError {
    let what = what.into();
    move |error| TransactionError::Failed(what, error.to_string())
}

/// Runs the command. It leaves with 1 when it failed.
pub(crate) fn run(command: &TransactionsCommand) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(execute(command)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(error);
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: &TransactionsCommand) -> Result<(), TransactionError> {
    // What can be refused without a broker is refused first.
    match &command.action {
        Action::Abort(flags) => abort::check(flags)?,
        Action::FindHanging(flags) => find_hanging::check(flags)?,
        _ => {}
    }
    command_config::check(command.command_config.as_deref())?;
    let mut client = AdminClient::connect(&command.bootstrap_server).await?;
    match &command.action {
        Action::List(flags) => list(&mut client, flags).await,
        Action::Describe(flags) => describe(&mut client, flags).await,
        Action::DescribeProducers(flags) => describe_producers(&mut client, flags).await,
        Action::Abort(flags) => abort::abort(&mut client, flags).await,
        Action::FindHanging(flags) => find_hanging::find(&mut client, flags).await,
    }
}

async fn list(client: &mut AdminClient, flags: &ListFlags) -> Result<(), TransactionError> {
    let listed = queries::list(client, flags.duration_filter, &[]).await;
    let listed = listed.map_err(failed("Failed to list transactions"))?;
    let row = |one: &queries::Listing| {
        vec![
            one.transactional_id.clone(),
            one.coordinator.to_string(),
            one.producer_id.to_string(),
            one.state.clone(),
        ]
    };
    let rows: Vec<_> = listed.iter().map(row).collect();
    let headers = [
        "TransactionalId",
        "Coordinator",
        "ProducerId",
        "TransactionState",
    ];
    table::print(&headers, &rows);
    Ok(())
}

async fn describe(client: &mut AdminClient, flags: &DescribeFlags) -> Result<(), TransactionError> {
    let id = &flags.transactional_id;
    let described = queries::describe(client, id).await;
    let (coordinator, state) = described.map_err(failed(format!(
        "Failed to describe transaction state of transactional-id `{id}`"
    )))?;
    let started = state.transaction_start_time_ms;
    let since = |text: i64| match started {
        ..0 => "None".to_owned(),
        _ => text.to_string(),
    };
    let partitions = queries::partitions(&state);
    let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    let row = vec![
        coordinator.to_string(),
        id.clone(),
        state.producer_id.to_string(),
        state.producer_epoch.to_string(),
        state.transaction_state.to_string(),
        state.transaction_timeout_ms.to_string(),
        since(started),
        since(now_ms().saturating_sub(started)),
        partitions.join(","),
    ];
    let headers = [
        "CoordinatorId",
        "TransactionalId",
        "ProducerId",
        "ProducerEpoch",
        "TransactionState",
        "TransactionTimeoutMs",
        "CurrentTransactionStartTimeMs",
        "TransactionDurationMs",
        "TopicPartitions",
    ];
    table::print(&headers, &[row]);
    Ok(())
}

async fn describe_producers(
    client: &mut AdminClient,
    flags: &ProducersFlags,
) -> Result<(), TransactionError> {
    let partition = Partition::new(&flags.topic, flags.partition);
    let on = flags
        .broker_id
        .map_or("leader".to_owned(), |id| format!("broker {id}"));
    let what = format!("Failed to describe producers for partition {partition} on {on}");
    let described = queries::producers(client, &partition, flags.broker_id).await;
    let described = described.map_err(failed(what))?;
    let row = |one: &queries::ProducerState| {
        let start = one.current_txn_start_offset;
        vec![
            one.producer_id.to_string(),
            one.producer_epoch.to_string(),
            one.coordinator_epoch.to_string(),
            one.last_sequence.to_string(),
            one.last_timestamp.to_string(),
            match start {
                ..0 => "None".to_owned(),
                _ => start.to_string(),
            },
        ]
    };
    let rows: Vec<_> = described.iter().map(row).collect();
    let headers = [
        "ProducerId",
        "ProducerEpoch",
        "LatestCoordinatorEpoch",
        "LastSequence",
        "LastTimestamp",
        "CurrentTransactionStartOffset",
    ];
    table::print(&headers, &rows);
    Ok(())
}

/// Returns the time in milliseconds since the epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
