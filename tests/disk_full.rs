//! A full disk: writes are refused, reads go on, and the broker starts on it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::clients::create_topic;
use support::records::{batch, records};
use support::requests::{FETCH, PRODUCE, create_topic_request, fetch, fetched, produce, produced};
use support::server::{Kind, Server};
use support::skip::skip;
use support::wire::Wire;

const CREATE_TOPICS: i16 = 5;
const KAFKA_STORAGE_ERROR: i16 = 56;

/// A file system in memory with a limit, unmounted when dropped.
struct SmallDisk {
    directory: PathBuf,
    _parent: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts a disk of some megabytes; none where this user may not mount.
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let parent = tempfile::Builder::new()
            .prefix("troupe-disk-")
            .tempdir()
            .unwrap();
        let directory = parent.path().join("disk");
        std::fs::create_dir(&directory).unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&directory)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk {
                directory,
                _parent: parent,
            }),
            _ => None,
        }
    }

    fn path(&self) -> &Path {
        &self.directory
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    /// Leaves no byte to anybody.
    fn fill(&self) {
        let mut ballast = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())
            .unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
        let free = rustix::fs::statvfs(&self.directory).unwrap().f_bfree;
        assert_eq!(free, 0);
    }

    fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(&self.directory)
            .output();
    }
}

fn value(number: usize) -> Vec<u8> {
    let mut value = format!("value {number} ").into_bytes();
    value.resize(50_000, b'.');
    value
}

/// Appends records until one is refused; returns how many were acknowledged.
fn fill(wire: &mut Wire, topic: &str) -> usize {
    fill_on(wire, topic, 0)
}

/// Appends records after the first `stored` until one is refused; returns how many there are then.
fn fill_on(wire: &mut Wire, topic: &str, stored: usize) -> usize {
    for number in stored..10_000 {
        let response = wire.call(PRODUCE, &produce(topic, 0, -1, batch(&[&value(number)])));
        let partition = produced(&response);
        if partition.error_code != 0 {
            assert_eq!(partition.error_code, KAFKA_STORAGE_ERROR);
            return number;
        }
        assert_eq!(partition.base_offset, i64::try_from(number).unwrap());
    }
    panic!("the disk is never full");
}

#[track_caller]
fn assert_stored(wire: &mut Wire, topic: &str, count: usize) {
    let mut offset = 0;
    while offset < count {
        let (error, bytes) =
            fetched(&wire.call(FETCH, &fetch(topic, 0, i64::try_from(offset).unwrap(), 0)));
        assert_eq!(error, 0, "reads go on");
        let read = records(bytes);
        assert!(!read.is_empty(), "{offset} of {count} records");
        for record in read {
            assert_eq!(record.offset, i64::try_from(offset).unwrap());
            assert!(
                record.value.as_deref() == Some(&value(offset)[..]),
                "record {offset}"
            );
            offset += 1;
        }
    }
    assert_eq!(offset, count, "nothing is there that was refused");
}

fn refused(wire: &mut Wire, topic: &str) -> bool {
    let response = wire.call(PRODUCE, &produce(topic, 0, -1, batch(&[&value(0)])));
    produced(&response).error_code == KAFKA_STORAGE_ERROR
}

#[test]
fn a_full_disk_stops_writes_alone() {
    if Kind::from_environment() == Kind::Kafka {
        skip("Apache Kafka halts when its only log directory fails");
        return;
    }
    let Some(disk) = SmallDisk::mount(16) else {
        skip("it mounts a small file system, which takes root and CAP_SYS_ADMIN");
        return;
    };
    std::fs::write(disk.ballast(), vec![1; 4_000_000]).unwrap();
    let mut server = Server::with()
        .set("log.dirs", disk.path().join("logs").display())
        .start();
    create_topic(&server, "full", 1, &[]);
    create_topic(&server, "other", 1, &[]);

    let mut wire = Wire::connect(&server);
    let stored = fill(&mut wire, "full");
    assert!(stored > 50, "{stored} records fit");
    assert_stored(&mut wire, "full", stored);
    assert!(
        refused(&mut wire, "full"),
        "a failed partition does not start to write again by itself"
    );
    assert!(
        refused(&mut wire, "other"),
        "the other partition shares the disk"
    );
    assert!(server.is_running());

    // Twice: after a crash, and after a clean shutdown for as far as a full disk allows one.
    server.kill();
    server.restart();
    let mut wire = Wire::connect(&server);
    assert_stored(&mut wire, "full", stored);
    assert!(refused(&mut wire, "full"));
    server.terminate();
    server.restart();
    assert_stored(&mut Wire::connect(&server), "full", stored);

    server.terminate();
    disk.empty();
    server.restart();
    let mut wire = Wire::connect(&server);
    assert_stored(&mut wire, "full", stored);
    let response = wire.call(PRODUCE, &produce("full", 0, -1, batch(&[&value(stored)])));
    let partition = produced(&response);
    assert_eq!(
        (partition.error_code, partition.base_offset),
        (0, i64::try_from(stored).unwrap())
    );
    assert_stored(&mut wire, "full", stored + 1);
}

/// Creates a topic over the wire; returns the error code.
fn create(wire: &mut Wire, topic: &str) -> i16 {
    let response = wire.call(CREATE_TOPICS, &create_topic_request(topic, 1));
    response.topics.first().unwrap().error_code
}

#[test]
fn a_broker_starts_and_goes_on_with_all_its_data_on_a_full_disk() {
    if Kind::from_environment() == Kind::Kafka {
        skip("Apache Kafka halts when its only log directory fails");
        return;
    }
    let Some(disk) = SmallDisk::mount(32) else {
        skip("it mounts a small file system, which takes root and CAP_SYS_ADMIN");
        return;
    };
    let mut server = Server::with().directory(&disk.path().join("data")).start();
    create_topic(&server, "full", 1, &[]);
    let mut wire = Wire::connect(&server);
    for number in 0..20 {
        let response = wire.call(PRODUCE, &produce("full", 0, -1, batch(&[&value(number)])));
        assert_eq!(produced(&response).error_code, 0);
    }
    disk.fill();
    let stored = fill_on(&mut wire, "full", 20);

    for round in 0..3 {
        server.kill();
        disk.fill();
        server.restart();
        let mut wire = Wire::connect(&server);
        assert_stored(&mut wire, "full", stored);
        assert!(refused(&mut wire, "full"), "round {round}");
        server.terminate();
        disk.fill();
        server.restart();
        let mut wire = Wire::connect(&server);
        assert_stored(&mut wire, "full", stored);
        assert!(refused(&mut wire, "full"), "round {round}");
    }
    let mut wire = Wire::connect(&server);
    assert_eq!(create(&mut wire, "new"), 0, "its znodes find room");
    let response = wire.call(PRODUCE, &produce("new", 0, -1, batch(&[&value(0)])));
    assert_ne!(produced(&response).error_code, 0, "its records do not");
    assert_stored(&mut wire, "full", stored);
    assert!(server.is_running());

    disk.empty();
    // What is new needs no restart; a partition that failed does.
    assert_eq!(create(&mut wire, "later"), 0);
    let response = wire.call(PRODUCE, &produce("later", 0, -1, batch(&[&value(0)])));
    assert_eq!(produced(&response).error_code, 0);
    server.terminate();
    server.restart();
    let mut wire = Wire::connect(&server);
    assert_stored(&mut wire, "later", 1);
    let response = wire.call(PRODUCE, &produce("new", 0, -1, batch(&[&value(0)])));
    assert_eq!(produced(&response).error_code, 0, "it has its log now");
    assert_stored(&mut wire, "new", 1);
    let response = wire.call(PRODUCE, &produce("full", 0, -1, batch(&[&value(stored)])));
    assert_eq!(produced(&response).error_code, 0);
    assert_stored(&mut wire, "full", stored + 1);
}
