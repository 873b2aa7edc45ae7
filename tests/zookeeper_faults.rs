//! What goes wrong around the embedded ZooKeeper service: kills, torn files, pauses, and clients that do not behave.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process};
use support::process::HANG_GUARD;
use support::random::random;
use support::server::{Kind, Server};
use support::zookeeper::{Client, Op, Session, open_acl};
use troupe_protocol::zookeeper::requests::op;

const TIMEOUT_MS: i32 = 60_000;

fn troupe() -> Server {
    Server::with().kind(Kind::Troupe).start()
}

fn create(path: &str, data: &[u8], flags: i32) -> Op {
    Op::Create {
        code: op::CREATE,
        path: path.to_owned(),
        data: Some(data.to_vec()),
        acl: open_acl(),
        flags,
        ttl_ms: 0,
    }
}

fn set(path: &str, data: &str) -> Op {
    Op::SetData(path.to_owned(), Some(data.as_bytes().to_vec()), -1)
}

fn get(path: &str) -> Op {
    Op::GetData(path.to_owned(), false)
}

/// Returns what a node holds.
#[track_caller]
fn data(client: &mut Client, path: &str) -> String {
    let reply = client.call(&get(path));
    assert_eq!(reply.error, 0, "{path}");
    let text = reply.text();
    let (_, rest) = text.split_once('"').expect("data in quotes");
    rest.split('"').next().expect("quoted").to_owned()
}

#[test]
fn what_was_acknowledged_survives_kills() {
    survive_kills(5);
}

#[test]
#[ignore = "long"]
fn what_was_acknowledged_survives_a_hundred_kills() {
    survive_kills(100);
}

/// One of those who write while the server is killed: each write sets two nodes and adds a third, in one multi.
struct Writer {
    number: usize,
    session: Session,
    /// The last write that was acknowledged.
    acknowledged: usize,
    /// The last one that was sent.
    sent: usize,
}

impl Writer {
    fn new(number: usize, port: u16) -> Writer {
        let mut client = Client::connect(port, TIMEOUT_MS);
        let base = format!("/writer{number}");
        let setup = ["", "/a", "/b", "/c"].map(|name| create(&format!("{base}{name}"), b"0", 0));
        let alive = create(&format!("{base}/mine"), b"", 1);
        assert_eq!(client.call(&Op::Multi(setup.to_vec())).error, 0);
        assert_eq!(client.call(&alive).error, 0);
        Writer {
            number,
            session: client.session,
            acknowledged: 0,
            sent: 0,
        }
    }

    fn write(&self, value: usize) -> Op {
        let base = format!("/writer{}", self.number);
        Op::Multi(vec![
            set(&format!("{base}/a"), &value.to_string()),
            create(&format!("{base}/c/n-"), b"x", 2),
            set(&format!("{base}/b"), &value.to_string()),
        ])
    }

    /// Writes until the server is gone.
    fn write_until_killed(&mut self, port: u16, acknowledged: &dyn Fn()) {
        let mut client = self.reconnect(port);
        loop {
            self.sent = self.acknowledged + 1;
            let write = self.write(self.sent);
            if client.send(&write).is_err() {
                return;
            }
            match client.receive() {
                Ok(reply) => assert_eq!(reply.error, 0),
                Err(_) => return,
            }
            self.acknowledged = self.sent;
            acknowledged();
        }
    }

    /// The session is the same after every start.
    fn reconnect(&self, port: u16) -> Client {
        Client::reconnect(port, TIMEOUT_MS, self.session, 0)
            .expect("the server is there")
            .expect("the session has survived")
    }

    /// Sees that what was acknowledged is there, and that the last write is there as a whole or not at all.
    fn check(&mut self, port: u16) {
        let mut client = self.reconnect(port);
        let base = format!("/writer{}", self.number);
        let a: usize = data(&mut client, &format!("{base}/a")).parse().unwrap();
        let b: usize = data(&mut client, &format!("{base}/b")).parse().unwrap();
        let count = client.call(&Op::GetAllChildrenNumber(format!("{base}/c")));
        assert_eq!(a, b, "half of a multi");
        assert_eq!(count.text(), format!("error 0 {a}"), "half of a multi");
        assert!(
            (self.acknowledged..=self.sent).contains(&a),
            "{a} is there, {} acknowledged, {} sent",
            self.acknowledged,
            self.sent
        );
        assert_eq!(client.call(&get(&format!("{base}/mine"))).error, 0);
        self.acknowledged = a;
    }
}

fn survive_kills(rounds: usize) {
    let mut random = random();
    let mut server = troupe();
    let mut writers: Vec<_> = (0..4)
        .map(|number| Writer::new(number, server.zookeeper_port()))
        .collect();
    for _ in 0..rounds {
        let port = server.zookeeper_port();
        let enough = random.random_range(1..400);
        let count = std::sync::Mutex::new(0);
        let counted = std::sync::Condvar::new();
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| {
                    writer.write_until_killed(port, &|| {
                        *count.lock().unwrap() += 1;
                        counted.notify_one();
                    });
                });
            }
            let guard = count.lock().unwrap();
            let (guard, timed_out) = counted
                .wait_timeout_while(guard, HANG_GUARD, |count| *count < enough)
                .unwrap();
            assert!(!timed_out.timed_out(), "nothing is acknowledged");
            drop(guard);
            server.kill();
        });
        server.restart();
        for writer in &mut writers {
            writer.check(server.zookeeper_port());
        }
    }
}

/// The directory of the embedded service's store.
fn store_directory(server: &Server) -> PathBuf {
    fn find(directory: &Path) -> Option<PathBuf> {
        let entries = std::fs::read_dir(directory).ok()?.flatten();
        let mut directories: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        directories.sort();
        if directory.join("db").is_dir() && directory.join("snapshot").is_file() {
            return Some(directory.to_owned());
        }
        directories.iter().find_map(|path| find(path))
    }
    find(server.directory()).expect("a store")
}

/// Overwrites the middle of every file of the database with nonsense and cuts its end off.
fn tear(directory: &Path, random: &mut StdRng) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            tear(&path, random);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes.truncate(half + random.random_range(0..=half));
        for byte in bytes.iter_mut().take(64 * 1024) {
            *byte = random.random();
        }
        std::fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_torn_database_is_rebuilt_from_the_snapshot_of_the_last_stop() {
    let mut random = random();
    let mut server = troupe();
    let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    assert_eq!(client.call(&create("/kept", b"data", 0)).error, 0);
    let session = client.session;
    drop(client);
    server.terminate();
    tear(&store_directory(&server).join("db"), &mut random);
    server.restart();
    server.wait_until_said("snapshot");
    let mut client = Client::reconnect(server.zookeeper_port(), TIMEOUT_MS, session, 0)
        .unwrap()
        .expect("sessions are in the snapshot too");
    assert_eq!(data(&mut client, "/kept"), "data");
    assert_eq!(client.call(&create("/new", b"", 0)).error, 0);
}

#[test]
fn a_torn_snapshot_alone_does_no_harm() {
    let mut server = troupe();
    let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    assert_eq!(client.call(&create("/kept", b"data", 0)).error, 0);
    server.terminate();
    let snapshot = store_directory(&server).join("snapshot");
    let bytes = std::fs::read(&snapshot).unwrap();
    std::fs::write(&snapshot, &bytes[..bytes.len() / 2]).unwrap();
    server.restart();
    let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    assert_eq!(data(&mut client, "/kept"), "data");
}

#[test]
fn a_start_with_everything_torn_is_refused_with_a_clear_line() {
    let mut random = random();
    let mut server = troupe();
    server.terminate();
    let store = store_directory(&server);
    tear(&store, &mut random);
    let directory = server.directory().to_owned();
    let said = Server::with()
        .kind(Kind::Troupe)
        .directory(&directory)
        .try_start()
        .err()
        .expect("nothing is there to start from");
    assert!(
        said.contains("no whole snapshot to rebuild it from"),
        "{said}"
    );
}

#[test]
fn a_pause_longer_than_the_time_out_ends_no_session() {
    let server = troupe();
    let mut client = Client::connect(server.zookeeper_port(), 6_000);
    assert_eq!(client.timeout_ms, 6_000);
    assert_eq!(client.call(&create("/mine", b"", 1)).error, 0);
    let pid = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    // What is tested is a time: longer than the time-out and the two seconds that a pause may count.
    std::thread::sleep(Duration::from_secs(9));
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(client.call(&get("/mine")).error, 0);
}

#[test]
fn a_session_whose_client_is_silent_expires_with_its_nodes() {
    let server = troupe();
    let mut silent = Client::connect(server.zookeeper_port(), 6_000);
    assert_eq!(silent.call(&create("/silent", b"", 1)).error, 0);
    let mut watcher = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    assert_eq!(
        watcher.call(&Op::Exists("/silent".to_owned(), true)).error,
        0
    );
    let event = watcher.receive().expect("an event");
    assert!(event.is_event() && event.text().contains("/silent"));
    let session = silent.session;
    let back = Client::reconnect(server.zookeeper_port(), 6_000, session, 0).unwrap();
    assert!(back.is_none(), "an expired session stays so");
}

#[test]
fn a_client_that_never_reads_costs_bounded_memory_and_harms_nobody() {
    let server = troupe();
    let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    assert_eq!(client.call(&create("/large", &[b'x'; 500_000], 0)).error, 0);
    let before_kb = server.memory_kb("VmRSS");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut deaf = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
                deaf.set_write_timeout(Duration::from_millis(200));
                // Until its requests are not taken any more, which a write notices.
                loop {
                    let taken = deaf.send(&get("/large")).is_ok();
                    if !taken || done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for number in 0..300 {
            assert_eq!(client.call(&set("/small", "x")).error, -101);
            assert_eq!(
                client.call(&create(&format!("/n{number}"), b"", 0)).error,
                0
            );
        }
        done.store(true, Ordering::Relaxed);
    });
    let grown_kb = server.memory_kb("VmHWM") - before_kb;
    // 16 replies are made at once before a client has to wait, and a buffer may have grown to twice its reply; the rest
    // is what the allocator keeps. Without a bound it is gigabytes.
    assert!(
        grown_kb < 150_000,
        "{grown_kb} kB for four clients that do not read"
    );
}

#[test]
fn a_watcher_that_never_reads_is_disconnected() {
    let server = troupe();
    let mut deaf = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    let long = format!("/{}", "d".repeat(3_000));
    let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    assert_eq!(client.call(&create(&long, b"", 0)).error, 0);
    assert_eq!(deaf.call(&Op::AddWatch(long.clone(), 0)).error, 0);
    let before_kb = server.memory_kb("VmRSS");
    let deadline = Instant::now() + HANG_GUARD;
    while !server.said().contains("that does not read") {
        assert!(Instant::now() < deadline, "it is still there");
        for _ in 0..1_000 {
            client.send(&set(&long, "x")).unwrap();
        }
        for _ in 0..1_000 {
            assert_eq!(client.receive().unwrap().error, 0);
        }
    }
    let grown_kb = server.memory_kb("VmHWM").saturating_sub(before_kb);
    assert!(
        grown_kb < 150_000,
        "{grown_kb} kB for one that does not read"
    );
}

#[test]
fn a_million_watches_take_bounded_memory() {
    const CLIENTS: usize = 4;
    const WATCHES: usize = 250_000;
    let server = troupe();
    let before_kb = server.memory_kb("VmRSS");
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::connect(server.zookeeper_port(), TIMEOUT_MS))
        .collect();
    std::thread::scope(|scope| {
        for (who, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                for from in (0..WATCHES).step_by(1_000) {
                    for number in from..from + 1_000 {
                        let path = format!("/watched/by/{who}/{number}");
                        client.send(&Op::Exists(path, true)).unwrap();
                    }
                    for _ in 0..1_000 {
                        assert_eq!(client.receive().unwrap().error, -101);
                    }
                }
            });
        }
    });
    let said = support::zookeeper::four_letter_word(server.zookeeper_port(), "mntr").unwrap();
    let watches = CLIENTS * WATCHES;
    let count = said
        .lines()
        .find_map(|line| line.strip_prefix("zk_watch_count\t"))
        .map(|count| count.parse::<usize>().unwrap());
    assert!(count >= Some(watches), "{said}");
    let each = (server.memory_kb("VmRSS") - before_kb) * 1024 / watches as u64;
    eprintln!("{each} bytes for a watch");
    assert!(each < 400, "{each} bytes for a watch");
    drop(clients);
    let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    assert_eq!(client.call(&create("/after", b"", 0)).error, 0);
}

#[test]
fn frames_that_are_none_end_their_connection_alone() {
    let server = troupe();
    let mut neighbour = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    for length in [-1, i32::MIN, i32::MAX, 0x10_0000] {
        let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
        client.write(&length.to_be_bytes()).unwrap();
        assert!(client.receive().is_err(), "a frame of {length} bytes");
        let mut stream = TcpStream::connect(("127.0.0.1", server.zookeeper_port())).unwrap();
        stream.set_read_timeout(Some(HANG_GUARD)).unwrap();
        std::io::Write::write_all(&mut stream, &length.to_be_bytes()).unwrap();
        assert_eq!(
            stream.read(&mut [0; 16]).unwrap_or(0),
            0,
            "a handshake of {length} bytes"
        );
    }
    // Cut off in the middle, and gone.
    for bytes in [
        &b"\0\0\0\x2c\0\0"[..],
        b"\0\0",
        b"\0\0\0\0",
        b"\0\0\0\x04\0\0\0\0",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.zookeeper_port())).unwrap();
        std::io::Write::write_all(&mut stream, bytes).unwrap();
    }
    let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    client.write(b"\0\0\0\x20\0\0\0\x01\0\0").unwrap();
    drop(client);
    assert_eq!(neighbour.call(&create("/neighbour", b"", 0)).error, 0);
}

#[test]
fn sessions_come_back_after_a_restart_and_only_with_their_password() {
    let mut server = troupe();
    let mut client = Client::connect(server.zookeeper_port(), TIMEOUT_MS);
    assert_eq!(client.call(&create("/mine", b"", 1)).error, 0);
    let (session, last_zxid) = (client.session, client.last_zxid);
    server.terminate();
    server.restart();
    let port = server.zookeeper_port();
    let wrong = Session {
        password: [7; 16],
        ..session
    };
    let stranger = Client::reconnect(port, TIMEOUT_MS, wrong, last_zxid).unwrap();
    assert!(stranger.is_none(), "the password is another");
    // Who has seen what this server has not must not take it for the same: no answer at all.
    assert!(Client::reconnect(port, TIMEOUT_MS, session, last_zxid + (1 << 40)).is_err());
    let mut back = Client::reconnect(port, TIMEOUT_MS, session, last_zxid)
        .unwrap()
        .expect("the session lives");
    assert_eq!(back.session, session);
    assert_eq!(back.call(&get("/mine")).error, 0);
    assert_eq!(back.call(&Op::Close).error, 0);
    let mut other = Client::connect(port, TIMEOUT_MS);
    assert_eq!(other.call(&get("/mine")).error, -101);
    assert!(
        Client::reconnect(port, TIMEOUT_MS, session, 0)
            .unwrap()
            .is_none()
    );
}
