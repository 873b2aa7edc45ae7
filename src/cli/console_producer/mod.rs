//! `troupe console-producer`: sends each line of standard input as a record, as kafka-console-producer does.
//!
//! Differs from Kafka 3.9: batches wait 5 ms and not a second (`--timeout` sets it), and `--sync` waits after each
//! line.

mod lines;

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::util::Timeout;

use super::librdkafka::{apply, pairs, read_properties};
use super::{output, zookeeper};
use lines::{LineFormat, LineRecord};

/// Send each line of standard input as a record.
#[derive(Debug, Args)]
pub(crate) struct ConsoleProducerCommand {
    /// The topic to send to.
    #[arg(long)]
    topic: String,
    /// The brokers to connect to: host:port,host:port.
    #[arg(long, value_name = "SERVERS", required_unless_present = "broker_list")]
    bootstrap_server: Option<String>,
    /// Of older Kafkas: the same as --bootstrap-server.
    #[arg(long, value_name = "SERVERS")]
    broker_list: Option<String>,
    /// How lines are read: parse.key, key.separator, parse.headers, headers.delimiter, headers.separator,
    /// headers.key.separator, ignore.error, null.marker; can be repeated.
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
    /// A file of such properties.
    #[arg(long, value_name = "FILE")]
    reader_config: Option<PathBuf>,
    /// Compress batches: none, gzip, snappy, lz4 or zstd; gzip without a value.
    #[arg(long, value_name = "CODEC", num_args = 0..=1, default_missing_value = "gzip")]
    compression_codec: Option<String>,
    /// Wait for each record to be acknowledged.
    #[arg(long)]
    sync: bool,
    /// The size of batches in bytes.
    #[arg(long, value_name = "BYTES")]
    batch_size: Option<u32>,
    /// How long records may wait for others to make a batch with, in milliseconds.
    #[arg(long, value_name = "MS")]
    timeout: Option<u32>,
    /// The acknowledgements to wait for: 0, 1, -1 or all.
    #[arg(
        long,
        value_name = "ACKS",
        default_value = "-1",
        allow_hyphen_values = true
    )]
    request_required_acks: String,
    /// How long a broker may take to acknowledge, in milliseconds.
    #[arg(long, value_name = "MS")]
    request_timeout_ms: Option<u32>,
    /// How often to send again.
    #[arg(long, value_name = "N")]
    message_send_max_retries: Option<u32>,
    /// How long to wait before sending again, in milliseconds.
    #[arg(long, value_name = "MS")]
    retry_backoff_ms: Option<u32>,
    /// How often to ask for the cluster's metadata unprompted, in milliseconds.
    #[arg(long, value_name = "MS")]
    metadata_expiry_ms: Option<u32>,
    /// The memory for records that wait, in bytes.
    #[arg(long, value_name = "BYTES")]
    max_memory_bytes: Option<u64>,
    /// The size of the send buffer of sockets, in bytes.
    #[arg(long, value_name = "BYTES")]
    socket_buffer_size: Option<u32>,
    /// A setting of the producer; can be repeated.
    #[arg(long = "producer-property", value_name = "NAME=VALUE")]
    producer_properties: Vec<String>,
    /// A file of settings of the producer.
    #[arg(
        long = "producer.config",
        alias = "producer-config",
        value_name = "FILE"
    )]
    producer_config: Option<PathBuf>,
    #[command(flatten)]
    older: OlderFlags,
}

/// Flags that tell Java what to load, or that went with the first producer. They are taken, and do nothing.
#[derive(Debug, Args)]
struct OlderFlags {
    #[arg(long, hide = true)]
    new_producer: bool,
    #[arg(long, hide = true)]
    line_reader: Option<String>,
    #[arg(long, hide = true)]
    key_serializer: Option<String>,
    #[arg(long, hide = true)]
    value_serializer: Option<String>,
    #[arg(long, hide = true)]
    queue_size: Option<u32>,
    #[arg(long, hide = true)]
    queue_enqueuetimeout_ms: Option<u32>,
    #[arg(long, hide = true)]
    metadata_fetch_timeout_ms: Option<u32>,
    #[arg(long, hide = true)]
    max_block_ms: Option<u64>,
    #[arg(long, hide = true)]
    max_partition_memory_bytes: Option<u64>,
}

/// Runs the command.
pub(crate) fn run(command: &ConsoleProducerCommand) -> ExitCode {
    match produce(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            output::error(message);
            ExitCode::FAILURE
        }
    }
}

fn produce(command: &ConsoleProducerCommand) -> Result<(), String> {
    let mut properties = command
        .reader_config
        .as_deref()
        .map_or(Ok(Default::default()), read_properties)?;
    properties.extend(pairs(&command.properties)?);
    let format = LineFormat::from_properties(&properties)?;
    if let (Some(servers), None) = (&command.broker_list, &command.bootstrap_server) {
        zookeeper::hint("--broker-list", &format!("--bootstrap-server {servers}"));
    }
    let config = command.client_config()?;
    let failed = |error: KafkaError| error.to_string();
    let producer: BaseProducer<DeliveryLog> =
        config.create_with_context(DeliveryLog).map_err(failed)?;
    // What came before a bad line is sent all the same.
    let sent = send_lines(&producer, command, &format);
    producer.flush(Timeout::Never).map_err(failed).and(sent)
}

impl ConsoleProducerCommand {
    fn client_config(&self) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        let servers = self.bootstrap_server.as_ref().or(self.broker_list.as_ref());
        config.set(
            "bootstrap.servers",
            servers.map(String::as_str).unwrap_or_default(),
        );
        config
            .set("client.id", "console-producer")
            .set("linger.ms", "5");
        config.set("acks", &self.request_required_acks);
        // Room for as much as the topic allows; the broker says where that ends.
        config
            .set("message.max.bytes", "1000000000")
            .set("queue.buffering.max.messages", "1000000");
        if let Some(path) = &self.producer_config {
            apply(&mut config, read_properties(path)?);
        }
        if let Some(codec) = &self.compression_codec {
            config.set("compression.codec", codec);
        }
        let settings = [
            ("batch.size", self.batch_size),
            ("linger.ms", self.timeout),
            ("request.timeout.ms", self.request_timeout_ms),
            ("message.send.max.retries", self.message_send_max_retries),
            ("retry.backoff.ms", self.retry_backoff_ms),
            (
                "topic.metadata.refresh.interval.ms",
                self.metadata_expiry_ms,
            ),
            ("socket.send.buffer.bytes", self.socket_buffer_size),
        ];
        for (name, value) in settings {
            if let Some(value) = value {
                config.set(name, value.to_string());
            }
        }
        if let Some(bytes) = self.max_memory_bytes {
            config.set(
                "queue.buffering.max.kbytes",
                (bytes / 1024).max(1).to_string(),
            );
        }
        apply(&mut config, pairs(&self.producer_properties)?);
        Ok(config)
    }
}

/// Reports records that could not be delivered, as Kafka's tool does, and goes on.
struct DeliveryLog;

impl ClientContext for DeliveryLog {}

impl ProducerContext for DeliveryLog {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let key = message
                .key()
                .map_or_else(|| "null".to_owned(), |key| format!("{} bytes", key.len()));
            let value = message.payload().map_or_else(
                || "null".to_owned(),
                |value| format!("{} bytes", value.len()),
            );
            let topic = message.topic();
            output::error(format_args!(
                "ERROR Error when sending message to topic {topic} with key: {key}, value: {value} with error: {error}"
            ));
        }
    }
}

fn send_lines(
    producer: &BaseProducer<DeliveryLog>,
    command: &ConsoleProducerCommand,
    format: &LineFormat,
) -> Result<(), String> {
    let mut input = io::stdin().lock();
    let prompts = input.is_terminal() && io::stdout().is_terminal();
    let mut line = Vec::new();
    for number in 1u64.. {
        if prompts {
            output::prompt(">");
        }
        line.clear();
        let read = input
            .read_until(b'\n', &mut line)
            .map_err(|error| format!("cannot read the input: {error}"))?;
        if read == 0 {
            break;
        }
        let record = format.parse(without_end(&line), number)?;
        send(producer, &command.topic, &record)?;
        if command.sync || prompts {
            producer
                .flush(Timeout::Never)
                .map_err(|error| error.to_string())?;
        } else if number % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    Ok(())
}

/// Cuts `\n` or `\r\n` off.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Hands a record to librdkafka, and waits for room where there is none.
fn send(
    producer: &BaseProducer<DeliveryLog>,
    topic: &str,
    record: &LineRecord<'_>,
) -> Result<(), String> {
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    message.key = record.key;
    message.payload = record.value;
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let insert = |headers: OwnedHeaders, (key, value): &(String, Option<&[u8]>)| {
            headers.insert(Header { key, value: *value })
        };
        message.headers = Some(record.headers.iter().fold(headers, insert));
    }
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                message = back;
                producer.poll(Duration::from_millis(100));
            }
            Err((error, _)) => return Err(error.to_string()),
        }
    }
}
