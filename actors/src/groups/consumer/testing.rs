//! Drives a consumer group in tests: keeps time, topics and the log of what is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::group::{ConsumerConfig, ConsumerGroup, Refusal, Step};
use super::heartbeat::{Beat, Heartbeat};
use super::member::Partitions;
use super::records::Record;
use super::stored::Stored;
use super::topics::{Topic, Topics};
use crate::groups::group::Now;
use crate::groups::join::JoinRequest;
use crate::groups::testing::{config as group_config, request};

pub(crate) fn config() -> ConsumerConfig {
    group_config().consumer
}

/// Makes topics `t0`, `t1`, … with so many partitions each; none for 0.
pub(crate) fn topics(version: u64, sizes: &[i32]) -> Topics {
    let existing = sizes.iter().enumerate().filter(|&(_, &size)| size > 0);
    let topic = |(number, &partitions): (usize, &i32)| {
        let id = topic_id(number);
        (format!("t{number}").into(), Topic { id, partitions })
    };
    Topics::new(version, existing.map(topic).collect())
}

pub(crate) fn topic_id(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}

/// Partitions of `t0`.
pub(crate) fn partitions(numbers: &[i32]) -> Partitions {
    numbers.iter().map(|&n| (topic_id(0), n)).collect()
}

/// A heartbeat that joins.
pub(crate) fn joining(id: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat {
        member_id: id.into(),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: Some(60_000),
        topics: Some(topics.iter().map(|&topic| topic.into()).collect()),
        owned: Some(Partitions::new()),
        ..Heartbeat::default()
    }
}

/// A heartbeat in an epoch that says what is owned.
pub(crate) fn beating(id: &str, member_epoch: i32, owned: Option<&Partitions>) -> Heartbeat {
    Heartbeat {
        member_id: id.into(),
        member_epoch,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        owned: owned.cloned(),
        ..Heartbeat::default()
    }
}

/// A JoinGroup of a classic consumer of `t0` that owns partitions.
pub(crate) fn classic_join(id: &str, owned: &[i32]) -> JoinRequest {
    let mut subscription = BytesMut::new();
    subscription.put_slice(b"\0\x01\0\0\0\x01\0\x02t0\xff\xff\xff\xff");
    subscription.put_slice(b"\0\0\0\x01\0\x02t0");
    subscription.put_i32(i32::try_from(owned.len()).unwrap());
    for &number in owned {
        subscription.put_i32(number);
    }
    let mut join = request(id, &["range"]);
    join.protocols[0].metadata = subscription.freeze();
    join
}

/// Reads the partitions of `t0` out of an assignment of the classic protocol.
pub(crate) fn read_assignment(bytes: &Bytes, topics: &Topics) -> Partitions {
    super::embedded::assigned(bytes, topics).unwrap()
}

pub(crate) struct Driver {
    pub(crate) config: ConsumerConfig,
    pub(crate) topics: Topics,
    pub(crate) now_ms: i64,
    pub(crate) group: ConsumerGroup,
    /// The last record of each key, as the log has it.
    pub(crate) log: BTreeMap<Bytes, Bytes>,
    pub(crate) downgrade: bool,
}

impl Driver {
    pub(crate) fn new(sizes: &[i32]) -> Self {
        Self {
            config: config(),
            topics: topics(1, sizes),
            now_ms: 0,
            group: ConsumerGroup::new("g".into()),
            log: BTreeMap::new(),
            downgrade: false,
        }
    }

    pub(crate) fn run<T>(&mut self, act: impl FnOnce(&mut ConsumerGroup, &mut Step<'_>) -> T) -> T {
        let now = Now {
            wall_ms: self.now_ms,
            monotonic_ms: self.now_ms,
        };
        let mut step = Step::new(&self.config, now, &self.topics);
        let mut records = self.group.unsaved_records();
        let result = act(&mut self.group, &mut step);
        records.append(&mut step.records);
        self.downgrade = step.downgrade;
        self.store(&records);
        result
    }

    pub(crate) fn store(&mut self, records: &[Record]) {
        for record in records {
            let (key, value) = record.encode("g").unwrap();
            match value {
                Some(value) => drop(self.log.insert(key, value)),
                None => drop(self.log.remove(&key)),
            }
        }
    }

    /// Takes a heartbeat, after the check that every one goes through.
    pub(crate) fn beat(&mut self, beat: &Heartbeat) -> Result<Beat, Refusal> {
        beat.check(&self.config)?;
        self.run(|group, step| group.heartbeat(beat, step))
    }

    pub(crate) fn advance(&mut self, ms: i64) {
        self.now_ms += ms;
        self.run(|group, step| group.tick(step));
    }

    /// Starts again from what is in the log.
    pub(crate) fn restart(&mut self) {
        let mut stored = Stored::default();
        for (key, value) in &self.log {
            let (_, record) = Record::decode(key, Some(value)).unwrap();
            stored.replay(record);
        }
        let now = Now {
            wall_ms: self.now_ms,
            monotonic_ms: self.now_ms,
        };
        let step = Step::new(&self.config, now, &self.topics);
        let id: Arc<str> = "g".into();
        self.group = stored.finish(id, &step);
    }

    /// Brings members `m0`, `m1`, … of `t0` to their targets.
    pub(crate) fn stable(count: usize, size: i32) -> Self {
        let mut driver = Self::new(&[size]);
        for number in 0..count {
            driver
                .beat(&joining(&format!("m{number}"), &["t0"]))
                .unwrap();
        }
        for _ in 0..2 {
            driver.all_acknowledge();
        }
        assert_eq!(driver.group.state_name(), "Stable");
        driver
    }

    /// Everyone says that it owns just what it may.
    pub(crate) fn all_acknowledge(&mut self) {
        let members: Vec<_> = self
            .group
            .members()
            .map(|(id, member)| (Arc::clone(id), member.current.clone()))
            .collect();
        for (id, current) in members {
            self.beat(&beating(&id, current.epoch, Some(&current.assigned)))
                .unwrap();
        }
    }

    pub(crate) fn assigned(&self, id: &str) -> Partitions {
        let member = self.group.members().find(|(known, _)| ***known == *id);
        member.expect("a member").1.current.assigned.clone()
    }

    pub(crate) fn epoch(&self, id: &str) -> i32 {
        let member = self.group.members().find(|(known, _)| ***known == *id);
        member.expect("a member").1.current.epoch
    }
}
