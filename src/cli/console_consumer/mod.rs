//! `troupe console-consumer`: prints the records of a topic, as kafka-console-consumer does.
//!
//! Differs from Kafka 3.9: without `--group` all partitions are read by assignment, and not as a group of a name that
//! nobody knows.

mod flags;
mod format;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::librdkafka::{interruption, pairs, read_properties};
use super::output;
pub(crate) use flags::ConsoleConsumerCommand;
use flags::{Plan, Topics};
use format::RecordFormat;

/// How long one wait for a record lasts, so that interruptions and limits are noticed.
const POLL: Duration = Duration::from_millis(100);
/// How long a broker may take to tell its partitions.
const METADATA_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to look for a topic that is not there yet.
const TOPIC_RETRY: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) fn run(command: &ConsoleConsumerCommand) -> ExitCode {
    let mut count = 0;
    let result = consume(command, &mut count);
    if let Err(Failure::Usage(message)) = &result {
        output::error(message);
        return ExitCode::FAILURE;
    }
    output::error(format_args!("Processed a total of {count} messages"));
    match result {
        Err(Failure::Consumer(message)) => {
            output::error(format_args!(
                "ERROR Error processing message, terminating consumer process: {message}"
            ));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Tells why nothing, or nothing more, was read.
enum Failure {
    /// The flags make no sense; nothing was tried.
    Usage(String),
    /// The brokers are at fault.
    Consumer(String),
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        Self::Consumer(error.to_string())
    }
}

fn consume(command: &ConsoleConsumerCommand, count: &mut u64) -> Result<(), Failure> {
    let plan = command.plan().map_err(Failure::Usage)?;
    let file = command
        .formatter_config
        .as_deref()
        .map_or(Ok(BTreeMap::new()), read_properties);
    let mut properties = file.map_err(Failure::Usage)?;
    properties.extend(pairs(&command.properties).map_err(Failure::Usage)?);
    let format = RecordFormat::from_properties(&properties);
    let consumer: BaseConsumer = command.client_config().map_err(Failure::Usage)?.create()?;
    let interrupted = interruption();
    let stopped = || interrupted.load(Ordering::Relaxed);
    if command.group.is_some() {
        consumer.subscribe(&[plan.topics.subscription()])?;
    } else if !assign(&consumer, &plan, &stopped)? {
        return Ok(());
    }
    let read = print(command, &consumer, &format, &stopped, count);
    if command.group.is_some() {
        commit(&consumer);
    }
    read
}

/// Takes all the partitions there are, as soon as there are any; false when the user has enough of waiting.
fn assign(
    consumer: &BaseConsumer,
    plan: &Plan,
    stopped: &impl Fn() -> bool,
) -> Result<bool, Failure> {
    loop {
        let assignment = partitions(consumer, &plan.topics, plan.partition, plan.offset)?;
        if stopped() {
            return Ok(false);
        }
        if assignment.count() > 0 {
            consumer.assign(&assignment)?;
            return Ok(true);
        }
        std::thread::sleep(TOPIC_RETRY);
    }
}

/// Commits what was printed, unless the settings leave commits to nobody.
fn commit(consumer: &BaseConsumer) {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => tracing::warn!("the offsets could not be committed: {error}"),
    }
}

/// Prints records until there were enough, or nobody wants more.
fn print(
    command: &ConsoleConsumerCommand,
    consumer: &BaseConsumer,
    format: &RecordFormat,
    stopped: &impl Fn() -> bool,
    count: &mut u64,
) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut last = Instant::now();
    while command.max_messages.is_none_or(|max| *count < max) && !stopped() {
        // What is there is printed before waiting for more.
        let polled = match consumer.poll(Duration::ZERO) {
            Some(polled) => Some(polled),
            None => {
                if out.flush().is_err() {
                    return Ok(());
                }
                consumer.poll(POLL)
            }
        };
        match polled {
            Some(Ok(message)) => {
                // The reader of our output has gone away.
                if format.write(&message, &mut out).is_err() {
                    return Ok(());
                }
                if command.group.is_some()
                    && let Err(error) = consumer.store_offset_from_message(&message)
                {
                    // The partition went to another member meanwhile, which reads the record again.
                    tracing::debug!("{error}");
                }
                *count += 1;
                last = Instant::now();
            }
            Some(Err(error)) if is_passing(&error) => tracing::warn!("{error}"),
            Some(Err(error)) => return Err(error.into()),
            None => {
                if command
                    .timeout_ms
                    .is_some_and(|limit| last.elapsed() >= Duration::from_millis(limit))
                {
                    output::error(
                        "ERROR Error processing message, terminating consumer process: timed out",
                    );
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Returns whether librdkafka goes on by itself after an error.
fn is_passing(error: &KafkaError) -> bool {
    let KafkaError::MessageConsumption(code) = error else {
        return false;
    };
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::Resolve
    )
}

/// Lists the partitions to read, with where to start.
fn partitions(
    consumer: &BaseConsumer,
    topics: &Topics,
    partition: Option<i32>,
    offset: Offset,
) -> Result<TopicPartitionList, Failure> {
    let mut assignment = TopicPartitionList::new();
    if let (Topics::One(topic), Some(partition)) = (topics, partition) {
        assignment.add_partition_offset(topic, partition, offset)?;
        return Ok(assignment);
    }
    let one = match topics {
        Topics::One(topic) => Some(topic.as_str()),
        Topics::Matching(_) => None,
    };
    let metadata = consumer.fetch_metadata(one, METADATA_TIMEOUT)?;
    for topic in metadata
        .topics()
        .iter()
        .filter(|topic| topics.matches(topic.name()))
    {
        for partition in topic.partitions() {
            assignment.add_partition_offset(topic.name(), partition.id(), offset)?;
        }
    }
    Ok(assignment)
}
