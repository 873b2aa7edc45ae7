//! librdkafka in this process: an independent producer and consumer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::process::HANG_GUARD;
use super::server::Server;

/// What became of one record: its partition and offset, or why it was not taken.
pub type Delivery = Result<(i32, i64), RDKafkaErrorCode>;

/// Collects deliveries under the number that each record was sent with.
#[derive(Clone, Default)]
pub struct Deliveries(Arc<Mutex<Vec<(usize, Delivery)>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let delivery = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error
                .rdkafka_error_code()
                .expect("a delivery fails with a code")),
        };
        self.0.lock().unwrap().push((*number, delivery));
    }
}

/// A producer that remembers the delivery of every record by the order of sending.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
    sent: usize,
}

impl Producer {
    pub fn new(server: &Server, settings: &[(&str, &str)]) -> Producer {
        Producer::of(&server.bootstrap(), settings)
    }

    /// A producer that finds its brokers at these addresses.
    pub fn of(bootstrap: &str, settings: &[(&str, &str)]) -> Producer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        // Bounds what a test waits for a record that the broker never acknowledges.
        config.set("message.timeout.ms", "120000");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let inner = config
            .create_with_context(Deliveries::default())
            .expect("a valid producer configuration");
        Producer { inner, sent: 0 }
    }

    /// Queues one record; waits for room where the queue is full. Returns its number.
    pub fn send<'a>(&mut self, record: BaseRecord<'a, [u8], [u8]>) -> usize {
        let number = self.sent;
        let mut record = BaseRecord::<'a, [u8], [u8], Box<usize>> {
            topic: record.topic,
            partition: record.partition,
            payload: record.payload,
            key: record.key,
            timestamp: record.timestamp,
            headers: record.headers,
            delivery_opaque: Box::new(number),
        };
        let deadline = Instant::now() + HANG_GUARD;
        while let Err((error, refused)) = self.inner.send(record) {
            assert_eq!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            );
            assert!(Instant::now() < deadline, "the queue stays full");
            self.inner.poll(Duration::from_millis(100));
            record = refused;
        }
        self.sent += 1;
        number
    }

    /// Serves deliveries that are there already.
    pub fn poll(&self) {
        self.inner.poll(Duration::ZERO);
    }

    /// Serves deliveries, those of the next while too.
    pub fn poll_for(&self, wait: Duration) {
        self.inner.poll(wait);
    }

    /// The deliveries so far, by number, in the order in which they came.
    pub fn delivered(&self) -> Vec<(usize, Delivery)> {
        self.inner.context().0.lock().unwrap().clone()
    }

    /// How many deliveries have come so far.
    pub fn delivered_count(&self) -> usize {
        self.inner.context().0.lock().unwrap().len()
    }

    /// Waits for every record's delivery and returns them in the order of sending.
    pub fn flush(&self) -> Vec<Delivery> {
        self.inner
            .flush(HANG_GUARD)
            .expect("every record is delivered or fails");
        let mut deliveries = self.delivered();
        assert_eq!(deliveries.len(), self.sent, "one delivery for each record");
        deliveries.sort_by_key(|(number, _)| *number);
        deliveries
            .into_iter()
            .map(|(_, delivery)| delivery)
            .collect()
    }

    /// As [`Producer::flush`], where every record must be taken.
    #[track_caller]
    pub fn flush_all_taken(&self) -> Vec<(i32, i64)> {
        self.flush()
            .into_iter()
            .map(|delivery| delivery.expect("the record is taken"))
            .collect()
    }
}

/// Sends records of the value `value` to the first `partitions` of a topic, so many each.
pub fn produce_values(server: &Server, topic: &str, partitions: i32, each: usize) {
    let mut producer = Producer::new(server, &[]);
    for partition in 0..partitions {
        for _ in 0..each {
            producer.send(BaseRecord::to(topic).partition(partition).payload(b"value"));
        }
    }
    producer.flush_all_taken();
}

/// A consumer of partitions that are named one by one, without a group.
pub fn consumer(server: &Server, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.bootstrap());
    // librdkafka assigns only what has a group, even where that group is never joined and commits nothing.
    config.set("group.id", "unused");
    config.set("enable.auto.commit", "false");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().expect("a valid consumer configuration")
}

/// Assigns whole partitions from their first record.
pub fn assign_from_beginning(consumer: &BaseConsumer, partitions: &[(&str, i32)]) {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
}

/// Reads until `count` records have come, and fails when they do not.
#[track_caller]
pub fn read(consumer: &BaseConsumer, count: usize) -> Vec<OwnedMessage> {
    let deadline = Instant::now() + HANG_GUARD;
    let mut messages = Vec::with_capacity(count);
    while messages.len() < count {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => messages.push(message.detach()),
            // Transient by librdkafka's own account: it goes on by itself.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            ))) => {}
            Some(Err(error)) => panic!("after {} of {count} records: {error}", messages.len()),
            None => {}
        }
        assert!(
            Instant::now() < deadline,
            "{} of {count} records came",
            messages.len()
        );
    }
    messages
}

/// Reads one partition from its first record to the end that it has now.
#[track_caller]
pub fn read_whole(
    server: &Server,
    topic: &str,
    partition: i32,
    settings: &[(&str, &str)],
) -> Vec<OwnedMessage> {
    let consumer = consumer(server, settings);
    let (low, high) = consumer
        .fetch_watermarks(topic, partition, HANG_GUARD)
        .expect("the partition has watermarks");
    assign_from_beginning(&consumer, &[(topic, partition)]);
    read(&consumer, usize::try_from(high - low).unwrap())
}

/// Reads one partition from its first record until the broker has no more for this consumer.
///
/// Unlike [`read_whole`] it needs no count, which the markers of transactions make unknowable.
#[track_caller]
pub fn read_to_end(
    server: &Server,
    topic: &str,
    partition: i32,
    settings: &[(&str, &str)],
) -> Vec<OwnedMessage> {
    let settings = [settings, &[("enable.partition.eof", "true")]].concat();
    let consumer = consumer(server, &settings);
    assign_from_beginning(&consumer, &[(topic, partition)]);
    let deadline = Instant::now() + HANG_GUARD;
    let mut messages = Vec::new();
    loop {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => messages.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => return messages,
            // Transient by librdkafka's own account: it goes on by itself.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            ))) => {}
            Some(Err(error)) => panic!("after {} records: {error}", messages.len()),
            None => {}
        }
        assert!(Instant::now() < deadline, "no end after {}", messages.len());
    }
}

/// The value of a message, as text.
pub fn text_of(message: &OwnedMessage) -> String {
    String::from_utf8(message.payload().expect("a value").to_vec()).unwrap()
}

/// Creates a topic with one replica and waits until its partitions have a leader.
#[track_caller]
pub fn create_topic(server: &Server, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    create_topics(server, &[name], partitions, settings);
}

/// Creates several topics alike in one request.
#[track_caller]
pub fn create_topics(server: &Server, names: &[&str], partitions: i32, settings: &[(&str, &str)]) {
    let admin = admin(server);
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| {
            let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
            settings
                .iter()
                .fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    let results = runtime()
        .block_on(admin.create_topics(&topics, &options))
        .expect("an answer to CreateTopics");
    for result in results {
        result.unwrap_or_else(|(name, error)| panic!("creating {name}: {error}"));
    }
}

/// Gives a topic more partitions, so that it has so many.
#[track_caller]
pub fn add_partitions(server: &Server, topic: &str, count: usize) {
    let admin = admin(server);
    let partitions = [NewPartitions::new(topic, count)];
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    let results = runtime()
        .block_on(admin.create_partitions(&partitions, &options))
        .expect("an answer to CreatePartitions");
    for result in results {
        result.unwrap_or_else(|(name, error)| panic!("more partitions for {name}: {error}"));
    }
}

fn admin(server: &Server) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", server.bootstrap())
        .create()
        .unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
