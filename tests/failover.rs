//! Brokers that are killed or stopped: others take over long before a session expires, and only from those who are dead.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use rdkafka::producer::BaseRecord;
use rustix::process::Signal;
use support::clients::{Producer, read_whole, text_of};
use support::cluster::{
    Trio, controller, create_assigned, create_replicated, leaders, partitions, signal, trio, until,
    wait_for_isr,
};
use support::process::HANG_GUARD;
use support::server::Server;
use support::zookeeper::{Apache, Client, Op};

/// The longest that the coordination services here grant, in milliseconds.
const LONG_SESSION: (&str, &str) = ("zookeeper.session.timeout.ms", "60000");

/// What a failover may take here, where many tests share the machine: far less than a session.
const BOUND: Duration = Duration::from_secs(15);

/// Sends one record to the only partition and waits for its acknowledgement.
fn acknowledged(producer: &mut Producer, value: &str) {
    let number = producer.send(
        BaseRecord::to("t")
            .partition(0)
            .key(&b""[..])
            .payload(value.as_bytes()),
    );
    let deadline = Instant::now() + HANG_GUARD;
    while producer.delivered_count() <= number {
        assert!(Instant::now() < deadline, "no acknowledgement of {value}");
        producer.poll_for(Duration::from_millis(10));
    }
    let (_, delivery) = producer.delivered().pop().unwrap();
    delivery.expect("the record is taken");
}

/// Kills a broker that leads, with a record before and one after; returns how long the second one took.
fn kill_the_leader(brokers: &mut [Server], replicas: &[i32]) -> Duration {
    let leader = usize::try_from(replicas[0] - 1).unwrap();
    create_replicated(&brokers[0], "t", replicas);
    let survivor = usize::try_from(replicas[1] - 1).unwrap();
    // A record whose acknowledgement died with the leader is sent again.
    let mut producer = Producer::new(&brokers[survivor], &[("enable.idempotence", "true")]);
    acknowledged(&mut producer, "before");
    let killed = Instant::now();
    brokers[leader].kill();
    acknowledged(&mut producer, "after");
    let took = killed.elapsed();
    let values: Vec<String> = read_whole(&brokers[survivor], "t", 0, &[])
        .iter()
        .map(text_of)
        .collect();
    assert_eq!(values, ["before", "after"]);
    took
}

#[test]
fn a_leader_that_is_killed_is_replaced_before_its_session_expires() {
    let mut trio = Trio::start(&[LONG_SESSION]);
    let took = kill_the_leader(&mut trio.brokers, &[3, 2, 1]);
    assert!(took < BOUND, "{took:?}");
    wait_for_isr(&trio.brokers[0], "t", &[1, 2]);
    // It comes back under a new epoch, and into the in-sync set.
    trio.brokers[2].restart();
    wait_for_isr(&trio.brokers[0], "t", &[1, 2, 3]);
}

#[test]
fn a_follower_that_is_killed_holds_no_record_up() {
    let mut trio = Trio::start(&[LONG_SESSION, ("replica.lag.time.max.ms", "60000")]);
    create_replicated(&trio.brokers[0], "t", &[2, 3]);
    let mut producer = Producer::new(&trio.brokers[0], &[("acks", "all")]);
    acknowledged(&mut producer, "before");
    let killed = Instant::now();
    trio.brokers[2].kill();
    acknowledged(&mut producer, "after");
    let took = killed.elapsed();
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn a_controller_that_is_killed_is_replaced_before_its_session_expires() {
    let mut trio = Trio::start(&[LONG_SESSION]);
    let took = kill_the_leader(&mut trio.brokers, &[1, 2, 3]);
    assert!(took < BOUND, "{took:?}");
    until("another broker is the controller", || {
        [2, 3].contains(&controller(&trio.brokers[1]))
    });
    let next = controller(&trio.brokers[1]);
    trio.brokers[0].restart();
    wait_for_isr(&trio.brokers[1], "t", &[1, 2, 3]);
    assert_eq!(
        controller(&trio.brokers[0]),
        next,
        "nobody took it from them"
    );
}

#[test]
fn a_controller_is_replaced_around_an_apache_zookeeper_too() {
    let Some(apache) = Apache::start() else {
        return;
    };
    let connect = format!("127.0.0.1:{}/cluster", apache.port());
    let mut brokers = trio(&connect, &[LONG_SESSION]);
    let took = kill_the_leader(&mut brokers, &[1, 2, 3]);
    assert!(took < BOUND, "{took:?}");
    brokers[0].restart();
    wait_for_isr(&brokers[1], "t", &[1, 2, 3]);
}

#[test]
fn brokers_that_are_stopped_for_a_while_keep_their_offices() {
    let mut trio = Trio::start(&[
        ("zookeeper.session.timeout.ms", "18000"),
        ("replica.lag.time.max.ms", "60000"),
    ]);
    let brokers = &mut trio.brokers;
    create_replicated(&brokers[0], "t", &[3, 2, 1]);
    let mut producer = Producer::new(&brokers[1], &[("acks", "all")]);
    acknowledged(&mut producer, "before");
    let before = partitions(&brokers[1], "t");
    // The leader, then the controller.
    for stopped in [2, 0] {
        signal(&brokers[stopped], Signal::STOP);
        let sent = producer.send(
            BaseRecord::to("t")
                .partition(0)
                .key(&b""[..])
                .payload(b"between"),
        );
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            assert_eq!(leaders(&brokers[1], "t"), [3]);
            producer.poll_for(Duration::from_millis(100));
        }
        assert_eq!(
            producer.delivered_count(),
            sent,
            "a replica that is stopped takes nothing"
        );
        signal(&brokers[stopped], Signal::CONT);
        producer.flush_all_taken();
    }
    acknowledged(&mut producer, "after");
    assert_eq!(
        partitions(&brokers[1], "t"),
        before,
        "no leader and no epoch has changed"
    );
    assert_eq!(controller(&brokers[1]), 1);
}

#[test]
fn a_live_broker_whose_registration_is_removed_registers_again() {
    let trio = Trio::start(&[LONG_SESSION]);
    create_replicated(&trio.brokers[0], "t", &[3, 2, 1]);
    let mut producer = Producer::new(&trio.brokers[1], &[("acks", "all")]);
    acknowledged(&mut producer, "before");
    let mut client = Client::connect(trio.service.port, 10_000);
    let removed = client.call(&Op::Delete("/brokers/ids/3".to_owned(), -1));
    assert_eq!(removed.error, 0);
    trio.brokers[2].wait_until_said("joined again");
    let registered = client.call(&Op::Exists("/brokers/ids/3".to_owned(), false));
    assert_eq!(registered.error, 0);
    acknowledged(&mut producer, "after");
    wait_for_isr(&trio.brokers[0], "t", &[1, 2, 3]);
    until("everybody knows everybody again", || {
        trio.brokers
            .iter()
            .all(|broker| support::cluster::metadata(broker, None).brokers.len() == 3)
    });
}

/// Kills the leader of the first of three partitions under a producer that has been sending to all for a while; returns how
/// long that partition had no acknowledgement.
fn interrupt(brokers: &mut [Server], assignment: &[&[i32]], wait: Duration) -> Duration {
    let leader = usize::try_from(assignment[0][0] - 1).unwrap();
    create_assigned(&brokers[0], "t", assignment);
    let mut producer = Producer::new(&brokers[1], &[("acks", "all")]);
    let partitions = i32::try_from(assignment.len()).unwrap();
    let mut send_for = |wait: Duration, until_delivered: Option<usize>| {
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline {
            for partition in 0..partitions {
                producer.send(
                    BaseRecord::to("t")
                        .partition(partition)
                        .key(&b""[..])
                        .payload(b"value"),
                );
            }
            producer.poll_for(Duration::from_millis(5));
            if until_delivered.is_some_and(|seen| {
                let delivered = producer.delivered();
                delivered[seen..]
                    .iter()
                    .any(|(_, delivery)| delivery.as_ref().unwrap().0 == 0)
            }) {
                return 0;
            }
        }
        producer.flush_all_taken();
        producer.delivered_count()
    };
    let seen = send_for(wait, None);
    let killed = Instant::now();
    brokers[leader].kill();
    send_for(HANG_GUARD, Some(seen));
    killed.elapsed()
}

/// Tells how long it takes from kill -9 to the next acknowledgement, to be looked at by hand.
#[test]
#[ignore = "a measurement: --ignored --nocapture"]
fn how_long_a_failover_takes() {
    for (what, assignment) in [
        ("leader", [&[3, 2, 1][..], &[2, 1, 3], &[1, 2, 3]]),
        (
            "leader and controller",
            [&[1, 2, 3], &[2, 1, 3], &[3, 1, 2]],
        ),
    ] {
        let mut took: Vec<Duration> = (0..10)
            .map(|attempt| {
                let wait = Duration::from_millis(3_000 + 137 * attempt);
                interrupt(&mut Trio::start(&[LONG_SESSION]).brokers, &assignment, wait)
            })
            .collect();
        took.sort_unstable();
        eprintln!("{what}: median {:?} of {took:?}", took[took.len() / 2]);
    }
}
