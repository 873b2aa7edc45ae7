//! Fetch, in its details: limits, many partitions, sessions, and what it says of what is not there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use support::clients::create_topic;
use support::records::{batch, batches, records};
use support::requests::{FETCH, PRODUCE, fetch, fetched, produce, produced, topic_name};
use support::server::Server;
use support::wire::Wire;

/// Produces batches of one record of `size` bytes each.
fn fill(wire: &mut Wire, topic: &str, partition: i32, count: usize, size: usize) {
    for number in 0..count {
        let value = vec![u8::try_from(number % 256).unwrap(); size];
        let response = wire.call(PRODUCE, &produce(topic, partition, 1, batch(&[&value])));
        assert_eq!(produced(&response).error_code, 0);
    }
}

/// A fetch of several partitions of one topic.
fn fetch_partitions(topic: &str, offsets: &[(i32, i64)]) -> FetchRequest {
    let mut request = fetch(topic, 0, 0, 0);
    let template = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = offsets
        .iter()
        .map(|(partition, offset)| {
            template
                .clone()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
        })
        .collect();
    request
}

#[test]
fn a_hundred_partitions_come_in_one_reply() {
    let server = Server::start();
    create_topic(&server, "wide", 100, &[]);
    let mut wire = Wire::connect(&server);
    for partition in 0..100 {
        fill(
            &mut wire,
            "wide",
            partition,
            1,
            100 + usize::try_from(partition).unwrap(),
        );
    }
    let asked: Vec<(i32, i64)> = (0..100).map(|partition| (partition, 0)).collect();
    let response = wire.call(FETCH, &fetch_partitions("wide", &asked));
    let partitions = &response.responses[0].partitions;
    assert_eq!(partitions.len(), 100);
    for partition in partitions {
        assert_eq!((partition.error_code, partition.high_watermark), (0, 1));
        let stored = records(partition.records.clone().unwrap());
        let size = 100 + usize::try_from(partition.partition_index).unwrap();
        assert_eq!(stored[0].value.as_ref().unwrap().len(), size);
    }
}

#[test]
fn limits_are_kept_but_for_the_first_batch() {
    let server = Server::start();
    create_topic(&server, "limits", 2, &[]);
    let mut wire = Wire::connect(&server);
    fill(&mut wire, "limits", 0, 10, 10_000);
    fill(&mut wire, "limits", 1, 10, 10_000);
    let sizes = |response: &FetchResponse| -> Vec<usize> {
        let partitions = &response.responses[0].partitions;
        partitions
            .iter()
            .map(|partition| batches(partition.records.clone().unwrap_or_default()).len())
            .collect()
    };

    let mut request = fetch_partitions("limits", &[(0, 0), (1, 0)]);
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = 35_000;
    }
    assert_eq!(
        sizes(&wire.call(FETCH, &request)),
        [3, 3],
        "each partition has its limit"
    );

    request.max_bytes = 25_000;
    assert_eq!(
        sizes(&wire.call(FETCH, &request)).iter().sum::<usize>(),
        2,
        "the whole reply has its limit"
    );

    request.max_bytes = 1;
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = 1;
    }
    let found = sizes(&wire.call(FETCH, &request));
    assert_eq!(
        found.iter().sum::<usize>(),
        1,
        "never empty where a record is larger than the limit: {found:?}"
    );
}

#[test]
fn what_is_not_there_is_said_for_each_partition() {
    let server = Server::start();
    create_topic(&server, "some", 2, &[]);
    let mut wire = Wire::connect(&server);
    fill(&mut wire, "some", 0, 3, 10);
    // OFFSET_OUT_OF_RANGE is 1, UNKNOWN_TOPIC_OR_PARTITION is 3; the end of the log is no error.
    for (partition, offset, code) in [
        (0, 0, 0),
        (0, 3, 0),
        (0, 4, 1),
        (0, -5, 1),
        (1, 0, 0),
        (1, 1, 1),
        (7, 0, 3),
    ] {
        let (error, _) = fetched(&wire.call(FETCH, &fetch("some", partition, offset, 0)));
        assert_eq!(error, code, "partition {partition} offset {offset}");
    }
    let response = wire.call(FETCH, &fetch_partitions("some", &[(0, 0), (1, 9), (7, 0)]));
    let codes: Vec<i16> = response.responses[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    assert_eq!(codes, [0, 1, 3], "one partition's error is not another's");
    assert_eq!(fetched(&wire.call(FETCH, &fetch("missing", 0, 0, 0))).0, 3);
    // FENCED_LEADER_EPOCH needs an older epoch than the leader's; this one is newer: UNKNOWN_LEADER_EPOCH.
    let mut request = fetch("some", 0, 0, 0);
    request.topics[0].partitions[0].current_leader_epoch = 1000;
    assert_eq!(fetched(&wire.call(FETCH, &request)).0, 75);
}

#[test]
fn a_session_answers_with_what_has_changed() {
    let server = Server::start();
    create_topic(&server, "session", 3, &[]);
    let (mut wire, mut writer) = (Wire::connect(&server), Wire::connect(&server));
    fill(&mut writer, "session", 0, 1, 10);

    // A full fetch with epoch 0 asks for a session (KIP-227).
    let mut request = fetch_partitions("session", &[(0, 0), (1, 0), (2, 0)]);
    (request.session_id, request.session_epoch) = (0, 0);
    let response = wire.call(FETCH, &request);
    assert_eq!(response.error_code, 0);
    let session = response.session_id;
    assert_ne!(session, 0, "a session was made");
    assert_eq!(
        response.responses[0].partitions.len(),
        3,
        "the first reply has all partitions"
    );

    // Nothing named: partition 0 goes on from the same offset and so comes again; the others have nothing.
    let mut incremental = fetch_partitions("session", &[(0, 1)]);
    (incremental.session_id, incremental.session_epoch) = (session, 1);
    assert!(
        wire.call(FETCH, &incremental).responses.is_empty(),
        "nothing is new"
    );

    fill(&mut writer, "session", 2, 2, 10);
    let mut nothing_new = fetch_partitions("session", &[]);
    nothing_new.topics.clear();
    (nothing_new.session_id, nothing_new.session_epoch) = (session, 2);
    let response = wire.call(FETCH, &nothing_new);
    let partitions = &response.responses[0].partitions;
    assert_eq!(partitions.len(), 1, "only what has records");
    assert_eq!(partitions[0].partition_index, 2);
    assert_eq!(records(partitions[0].records.clone().unwrap()).len(), 2);

    nothing_new.session_epoch = 9;
    assert_eq!(
        wire.call(FETCH, &nothing_new).error_code,
        71,
        "INVALID_FETCH_SESSION_EPOCH"
    );
    nothing_new.session_id = session.wrapping_add(1);
    assert_eq!(
        wire.call(FETCH, &nothing_new).error_code,
        70,
        "FETCH_SESSION_ID_NOT_FOUND"
    );

    // What is forgotten does not come any more.
    let forgotten = kafka_protocol::messages::fetch_request::ForgottenTopic::default()
        .with_topic(topic_name("session"))
        .with_partitions(vec![2]);
    let mut request = nothing_new
        .clone()
        .with_forgotten_topics_data(vec![forgotten]);
    (request.session_id, request.session_epoch) = (session, 3);
    let response = wire.call(FETCH, &request);
    assert_eq!(response.error_code, 0);
    assert!(response.responses.is_empty(), "{:?}", response.responses);
}

#[test]
fn many_topics_come_in_the_order_of_the_request() {
    let server = Server::start();
    let mut wire = Wire::connect(&server);
    let names: Vec<String> = (0..5).map(|number| format!("many-{number}")).collect();
    let mut request = fetch("many-0", 0, 0, 0);
    request.topics.clear();
    for name in &names {
        create_topic(&server, name, 1, &[]);
        fill(&mut wire, name, 0, 2, 10);
        let partition = FetchPartition::default()
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(1000);
        request.topics.push(
            FetchTopic::default()
                .with_topic(topic_name(name))
                .with_partitions(vec![partition]),
        );
    }
    let response = wire.call(FETCH, &request);
    let mut found: Vec<&str> = response
        .responses
        .iter()
        .map(|topic| topic.topic.as_str())
        .collect();
    found.sort_unstable();
    assert_eq!(found, names);
    assert!(
        response
            .responses
            .iter()
            .all(|topic| topic.partitions[0].high_watermark == 2)
    );
}
