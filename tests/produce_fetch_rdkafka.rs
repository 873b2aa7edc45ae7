//! Produces and fetches with librdkafka: what goes in comes out, in every shape that a record may have.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};
use support::clients::{
    Producer, assign_from_beginning, consumer, create_topic, create_topics, read, read_whole,
};
use support::process::HANG_GUARD;
use support::server::Server;

type Record<'a> = BaseRecord<'a, [u8], [u8]>;
type Pair<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn to(topic: &str) -> Record<'_> {
    BaseRecord::to(topic).partition(0)
}

fn values(messages: &[OwnedMessage]) -> Vec<Vec<u8>> {
    messages
        .iter()
        .map(|message| message.payload().unwrap_or_default().to_vec())
        .collect()
}

/// Bytes that no codec makes much smaller, and that differ from one `seed` to the next.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn keys_values_and_headers_come_back_as_they_were() {
    let server = Server::start();
    create_topic(&server, "shapes", 1, &[]);
    let mut producer = Producer::new(&server, &[]);
    producer.send(to("shapes").key(b"key").payload(b"value"));
    producer.send(to("shapes").payload(b"no key"));
    producer.send(to("shapes").key(b"no value"));
    producer.send(to("shapes").key(b"").payload(b""));
    producer.send(to("shapes"));
    producer.send(
        to("shapes")
            .key("ключ".as_bytes())
            .payload(&[0, 255, 10, 13]),
    );
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "name",
            value: Some("text"),
        })
        .insert(Header {
            key: "empty",
            value: Some(""),
        })
        .insert(Header::<&str> {
            key: "null",
            value: None,
        })
        .insert(Header {
            key: "name",
            value: Some("again"),
        });
    producer.send(to("shapes").key(b"headers").payload(b"h").headers(headers));
    let offsets: Vec<i64> = producer
        .flush_all_taken()
        .into_iter()
        .map(|(_, offset)| offset)
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 6]);

    let messages = read_whole(&server, "shapes", 0, &[("check.crcs", "true")]);
    let pairs: Vec<Pair<'_>> = messages
        .iter()
        .map(|message| (message.key(), message.payload()))
        .collect();
    let expected: [Pair<'_>; 7] = [
        (Some(b"key"), Some(b"value")),
        (None, Some(b"no key")),
        (Some(b"no value"), None),
        (Some(b""), Some(b"")),
        (None, None),
        (Some("ключ".as_bytes()), Some(&[0, 255, 10, 13])),
        (Some(b"headers"), Some(b"h")),
    ];
    assert_eq!(pairs, expected);
    let headers: Vec<(String, Option<Vec<u8>>)> = messages[6]
        .headers()
        .expect("the last record has headers")
        .iter()
        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
        .collect();
    let expected = [
        ("name".to_owned(), Some(b"text".to_vec())),
        ("empty".to_owned(), Some(Vec::new())),
        ("null".to_owned(), None),
        ("name".to_owned(), Some(b"again".to_vec())),
    ];
    assert_eq!(headers, expected);
    assert!(messages[0].headers().is_none());
}

#[test]
fn ten_megabyte_records_pass_where_the_limits_are_raised() {
    const SIZE: usize = 10 * 1024 * 1024;
    let server = Server::with()
        .set("message.max.bytes", 12 * 1024 * 1024)
        .start();
    create_topic(&server, "large", 1, &[]);
    let mut producer = Producer::new(
        &server,
        &[("message.max.bytes", "12582912"), ("linger.ms", "0")],
    );
    let sent: Vec<Vec<u8>> = (1..=3).map(|seed| noise(SIZE, seed)).collect();
    for value in &sent {
        producer.send(to("large").payload(value));
    }
    producer.flush_all_taken();
    let settings = [("fetch.message.max.bytes", "1000"), ("check.crcs", "true")];
    let messages = read_whole(&server, "large", 0, &settings);
    assert!(
        values(&messages) == sent,
        "the large records come back as they were"
    );
}

#[test]
fn records_above_the_limit_of_their_topic_are_refused() {
    use rdkafka::error::RDKafkaErrorCode::MessageSizeTooLarge;
    let server = Server::start();
    create_topic(&server, "narrow", 1, &[("max.message.bytes", "2000")]);
    create_topic(&server, "default", 1, &[]);
    let mut producer = Producer::new(
        &server,
        &[("message.max.bytes", "12582912"), ("linger.ms", "0")],
    );
    let (narrow, wide) = (noise(3_000, 1), noise(2_000_000, 2));
    producer.send(to("narrow").payload(&narrow));
    // Alone in its batch: the limit is on batches.
    producer.flush();
    producer.send(to("narrow").payload(b"fits"));
    producer.send(to("default").payload(&narrow));
    producer.send(to("default").payload(&wide));
    let deliveries = producer.flush();
    assert_eq!(
        deliveries,
        [
            Err(MessageSizeTooLarge),
            Ok((0, 0)),
            Ok((0, 0)),
            Err(MessageSizeTooLarge)
        ]
    );
}

#[test]
fn every_codec_comes_back_as_it_was() {
    let server = Server::start();
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    create_topics(
        &server,
        &codecs.map(|codec| &*format!("codec-{codec}").leak()),
        1,
        &[],
    );
    for codec in codecs {
        let topic = format!("codec-{codec}");
        let mut producer = Producer::new(
            &server,
            &[("compression.codec", codec), ("linger.ms", "50")],
        );
        let sent: Vec<Vec<u8>> = (0..500u64)
            .map(|number| {
                // Text that compresses and noise that does not, from nothing to several blocks of every codec.
                let mut value = format!("{codec} {number} ")
                    .repeat(usize::try_from(number % 40).unwrap())
                    .into_bytes();
                value.extend(noise(usize::try_from(number % 7 * number).unwrap(), number));
                value
            })
            .collect();
        for value in &sent {
            producer.send(to(&topic).payload(value));
        }
        producer.flush_all_taken();
        let messages = read_whole(&server, &topic, 0, &[("check.crcs", "true")]);
        assert!(values(&messages) == sent, "{codec}");
        let offsets: Vec<i64> = messages.iter().map(Message::offset).collect();
        assert_eq!(offsets, (0..500).collect::<Vec<i64>>(), "{codec}");
    }
}

#[test]
fn a_record_that_is_mostly_repetition_comes_back_from_every_codec() {
    let server = Server::start();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        create_topic(&server, codec, 1, &[]);
        let mut producer = Producer::new(
            &server,
            &[
                ("compression.codec", codec),
                ("message.max.bytes", "8000000"),
            ],
        );
        // Above the topic's limit as it is, far below it compressed: the limit is on what is stored.
        let value = vec![b'a'; 4_000_000];
        producer.send(to(codec).payload(&value));
        producer.flush_all_taken();
        assert!(
            values(&read_whole(&server, codec, 0, &[])) == [value],
            "{codec}"
        );
    }
}

#[test]
fn two_hundred_topics_hold_what_was_sent_to_each() {
    let server = Server::start();
    let names: Vec<String> = (0..200).map(|number| format!("topic-{number}")).collect();
    create_topics(
        &server,
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
        1,
        &[],
    );
    let mut producer = Producer::new(&server, &[]);
    for round in 0..5 {
        for name in &names {
            producer.send(to(name).payload(format!("{name} {round}").as_bytes()));
        }
    }
    producer.flush_all_taken();

    let consumer = consumer(&server, &[]);
    assign_from_beginning(
        &consumer,
        &names
            .iter()
            .map(|name| (name.as_str(), 0))
            .collect::<Vec<_>>(),
    );
    let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in read(&consumer, 1000) {
        let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
        received
            .entry(message.topic().to_owned())
            .or_default()
            .push(value);
    }
    let expected: BTreeMap<String, Vec<String>> = names
        .iter()
        .map(|name| {
            (
                name.clone(),
                (0..5).map(|round| format!("{name} {round}")).collect(),
            )
        })
        .collect();
    assert_eq!(received, expected);
    let metadata = consumer.fetch_metadata(None, HANG_GUARD).unwrap();
    let listed: BTreeSet<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
    assert!(
        names.iter().all(|name| listed.contains(name.as_str())),
        "all topics are in the metadata"
    );
}

#[test]
fn one_consumer_reads_a_hundred_partitions() {
    let server = Server::start();
    create_topic(&server, "wide", 100, &[]);
    let mut producer = Producer::new(&server, &[]);
    for number in 0..3000 {
        let record: Record<'_> = BaseRecord::to("wide");
        producer.send(
            record
                .partition(number % 100)
                .payload(number.to_string().as_bytes()),
        );
    }
    producer.flush_all_taken();

    let consumer = consumer(&server, &[]);
    let partitions: Vec<(&str, i32)> = (0..100).map(|partition| ("wide", partition)).collect();
    assign_from_beginning(&consumer, &partitions);
    let mut next = BTreeMap::new();
    for message in read(&consumer, 3000) {
        let number: i32 = std::str::from_utf8(message.payload().unwrap())
            .unwrap()
            .parse()
            .unwrap();
        let expected = next
            .entry(message.partition())
            .or_insert(message.partition());
        assert_eq!(
            number,
            *expected,
            "partition {} is in order",
            message.partition()
        );
        *expected += 100;
    }
    assert_eq!(next.len(), 100);
}

#[test]
fn offsets_are_found_by_time() {
    let server = Server::start();
    create_topic(&server, "times", 1, &[("segment.bytes", "2000")]);
    let mut producer = Producer::new(&server, &[("linger.ms", "0"), ("batch.num.messages", "3")]);
    const START: i64 = 1_700_000_000_000;
    let value = noise(100, 1);
    for number in 0..200 {
        producer.send(to("times").payload(&value).timestamp(START + number * 1000));
    }
    producer.flush_all_taken();

    let consumer = consumer(&server, &[]);
    let look_up = |time: i64| -> Offset {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("times", 0, Offset::Offset(time))
            .unwrap();
        let found = consumer.offsets_for_times(list, HANG_GUARD).unwrap();
        found.find_partition("times", 0).unwrap().offset()
    };
    assert_eq!(look_up(0), Offset::Offset(0));
    assert_eq!(look_up(START), Offset::Offset(0));
    assert_eq!(look_up(START + 1), Offset::Offset(1));
    for number in [1, 57, 100, 163, 199] {
        assert_eq!(
            look_up(START + number * 1000),
            Offset::Offset(number),
            "the very time of record {number}"
        );
        assert_eq!(
            look_up(START + number * 1000 - 500),
            Offset::Offset(number),
            "a time before record {number}"
        );
    }
    assert_eq!(
        look_up(START + 200_000),
        Offset::End,
        "a time after the last record"
    );
    let messages = read_whole(&server, "times", 0, &[]);
    let timestamps: Vec<i64> = messages
        .iter()
        .filter_map(|message| message.timestamp().to_millis())
        .collect();
    assert_eq!(
        timestamps,
        (0..200)
            .map(|number| START + number * 1000)
            .collect::<Vec<_>>()
    );
}

#[test]
fn log_append_time_replaces_what_the_producer_said() {
    let server = Server::start();
    create_topic(
        &server,
        "stamped",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    );
    let mut producer = Producer::new(&server, &[]);
    producer.send(to("stamped").payload(b"x").timestamp(1_000));
    producer.flush_all_taken();
    let messages = read_whole(&server, "stamped", 0, &[("check.crcs", "true")]);
    match messages[0].timestamp() {
        rdkafka::Timestamp::LogAppendTime(time) => {
            assert!(time > 1_600_000_000_000, "{time} is the broker's time")
        }
        other => panic!("{other:?} is not the time of the append"),
    }
}

#[test]
fn a_consumer_starts_at_any_offset() {
    let server = Server::start();
    create_topic(&server, "seek", 1, &[("segment.bytes", "3000")]);
    let mut producer = Producer::new(&server, &[("batch.num.messages", "7"), ("linger.ms", "5")]);
    for number in 0..300 {
        producer.send(to("seek").payload(format!("value {number}").as_bytes()));
    }
    producer.flush_all_taken();
    for start in [0, 1, 6, 7, 8, 149, 298, 299] {
        let consumer = consumer(&server, &[]);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("seek", 0, Offset::Offset(start))
            .unwrap();
        consumer.assign(&list).unwrap();
        let messages = read(&consumer, usize::try_from(300 - start).unwrap());
        let offsets: Vec<i64> = messages.iter().map(Message::offset).collect();
        assert_eq!(offsets, (start..300).collect::<Vec<_>>());
        assert_eq!(
            messages[0].payload().unwrap(),
            format!("value {start}").as_bytes()
        );
    }
}

#[test]
fn a_waiting_consumer_gets_records_that_come_later() {
    let server = Server::start();
    create_topic(&server, "later", 1, &[]);
    let consumer = consumer(
        &server,
        &[
            ("fetch.wait.max.ms", "60000"),
            ("socket.timeout.ms", "100000"),
        ],
    );
    assign_from_beginning(&consumer, &[("later", 0)]);
    // Sees the end of the empty partition only once its first fetch waits or has been answered.
    assert!(consumer.poll(Duration::from_millis(200)).is_none());
    let mut producer = Producer::new(&server, &[]);
    for number in 0..3 {
        producer.send(to("later").payload(format!("{number}").as_bytes()));
        producer.flush_all_taken();
        assert_eq!(
            values(&read(&consumer, 1)),
            [number.to_string().into_bytes()]
        );
    }
}

#[test]
fn an_idempotent_producer_is_served() {
    let server = Server::start();
    create_topic(&server, "once", 3, &[]);
    let mut producer = Producer::new(
        &server,
        &[("enable.idempotence", "true"), ("batch.num.messages", "10")],
    );
    for number in 0..3000 {
        let record: Record<'_> = BaseRecord::to("once");
        producer.send(
            record
                .partition(number % 3)
                .payload(number.to_string().as_bytes()),
        );
    }
    producer.flush_all_taken();
    for partition in 0..3 {
        let messages = read_whole(&server, "once", partition, &[]);
        let expected: Vec<Vec<u8>> = (0..1000)
            .map(|index| (index * 3 + partition).to_string().into_bytes())
            .collect();
        assert_eq!(values(&messages), expected);
    }
}

#[test]
fn a_topic_comes_into_being_by_its_first_record() {
    let server = Server::start();
    let mut producer = Producer::new(&server, &[]);
    producer.send(BaseRecord::to("made-by-use").payload(b"first"));
    assert_eq!(producer.flush_all_taken(), [(0, 0)]);
    assert_eq!(
        values(&read_whole(&server, "made-by-use", 0, &[])),
        [b"first".to_vec()]
    );
}
