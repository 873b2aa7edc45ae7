//! Clients that wait for each answer before they ask again, many on one thread.

use std::io;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use troupe_protocol::zookeeper::jute::Writer;
use troupe_protocol::zookeeper::requests::op;

use crate::support::zookeeper::{Client, Op, open_acl};

/// Bytes of data in every node.
const DATA: usize = 100;

/// What clients ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Set,
    Get,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Create, Kind::Set, Kind::Get];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Create => "create",
            Kind::Set => "set",
            Kind::Get => "get",
        }
    }
}

/// What a measure of throughput found.
pub(crate) struct Taken {
    pub(crate) answers: usize,
    /// Answers a second.
    pub(crate) rate: f64,
    /// Microseconds in which 99 of 100 answers came.
    pub(crate) p99_us: f64,
}

/// Lets this process have a socket for every session.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("up to the maximum everybody may");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn create(path: &str, flags: i32) -> Op {
    Op::Create {
        code: op::CREATE,
        path: path.to_owned(),
        data: Some(vec![b'x'; DATA]),
        acl: open_acl(),
        flags,
        ttl_ms: 0,
    }
}

/// Has so many clients ask for so long.
pub(crate) fn throughput(port: u16, kind: Kind, clients: usize, duration: Duration) -> Taken {
    // Below a new node each time: creates of one measure do not slow down those of the next.
    let base = format!("/bench-{:x}", rand::random::<u64>());
    let mut setup = Client::connect(port, 30_000);
    assert_eq!(setup.call(&create(&base, 0)).error, 0);
    for client in 0..clients {
        let node = format!("{base}/{client}");
        assert_eq!(setup.call(&create(&node, 0)).error, 0);
    }
    let (mut times, seconds) = runtime().block_on(async {
        let mut connections = Vec::new();
        for _ in 0..clients {
            connections.push(Connection::open(port).await.expect("a session"));
        }
        let started = Instant::now();
        let work = connections
            .into_iter()
            .enumerate()
            .map(|(client, mut connection)| {
                let node = format!("{base}/{client}");
                async move {
                    let mut times = Vec::new();
                    let op = match kind {
                        Kind::Create => create(&format!("{node}/n-"), 2),
                        Kind::Set => Op::SetData(node, Some(vec![b'y'; DATA]), -1),
                        Kind::Get => Op::GetData(node, false),
                    };
                    let mut request = connection.request(&op);
                    while started.elapsed() < duration {
                        let asked = Instant::now();
                        connection.call(&mut request).await.expect("an answer");
                        times.push(asked.elapsed());
                    }
                    times
                }
            });
        let times = futures_util::future::join_all(work).await.concat();
        (times, started.elapsed().as_secs_f64())
    });
    times.sort_unstable();
    Taken {
        answers: times.len(),
        rate: times.len() as f64 / seconds,
        p99_us: times[times.len() * 99 / 100].as_secs_f64() * 1e6,
    }
}

/// Milliseconds from a change until the last of so many watchers has heard of it; the median of so many changes.
pub(crate) fn fan_out(port: u16, watchers: usize, changes: usize) -> f64 {
    let node = format!("/watched-{:x}", rand::random::<u64>());
    let mut setup = Client::connect(port, 30_000);
    assert_eq!(setup.call(&create(&node, 0)).error, 0);
    let mut times = runtime().block_on(async {
        let mut connections = Vec::new();
        for _ in 0..watchers {
            let mut connection = Connection::open(port).await.expect("a session");
            let mut watch = connection.request(&Op::AddWatch(node.clone(), 0));
            connection.call(&mut watch).await.expect("an answer");
            connections.push(connection);
        }
        let mut writer = Connection::open(port).await.expect("a session");
        let mut change = writer.request(&Op::SetData(node, Some(vec![b'z'; DATA]), -1));
        let mut times = Vec::new();
        for _ in 0..changes {
            let started = Instant::now();
            let heard = connections.iter_mut().map(|connection| connection.read());
            let (changed, heard) = tokio::join!(
                writer.call(&mut change),
                futures_util::future::try_join_all(heard)
            );
            changed.expect("an answer");
            heard.expect("events");
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times
    });
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Creates so many nodes with data, a thousand below each of their parents.
pub(crate) fn create_nodes(port: u16, count: usize) {
    let mut client = Client::connect(port, 30_000);
    assert_eq!(client.call(&create("/many", 0)).error, 0);
    for parent in 0..count / 1_000 {
        let parent = format!("/many/{parent}");
        let mut multi = vec![create(&parent, 0)];
        multi.extend((1..1_000).map(|number| create(&format!("{parent}/{number}"), 0)));
        assert_eq!(client.call(&Op::Multi(multi)).error, 0);
    }
}

/// Checks that the nodes of [`create_nodes`] are there.
pub(crate) fn expect_nodes(port: u16, count: usize) {
    let mut client = Client::connect(port, 30_000);
    for parent in [0, count / 1_000 - 1] {
        let last = Op::GetData(format!("/many/{parent}/999"), false);
        assert_eq!(client.call(&last).error, 0);
    }
}

/// Opens so many sessions, which end with what is returned.
pub(crate) fn open_sessions(port: u16, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(port, 60_000)).collect()
}

struct Connection {
    stream: BufReader<TcpStream>,
    reply: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection {
            stream: BufReader::new(stream),
            reply: Vec::new(),
        };
        let mut handshake = BytesMut::new();
        handshake.put_i32(45);
        handshake.put_i32(0);
        handshake.put_i64(0);
        handshake.put_i32(60_000);
        handshake.put_i64(0);
        handshake.string(&[0; 16]);
        handshake.boolean(false);
        connection.stream.write_all(&handshake).await?;
        connection.read().await?;
        Ok(connection)
    }

    /// Encodes a request once, to be sent many times.
    fn request(&mut self, op: &Op) -> BytesMut {
        let mut request = BytesMut::new();
        request.put_i32(0);
        request.put_i32(1);
        request.put_i32(op.code());
        op.encode(&mut request, 0);
        let length = u32::try_from(request.len() - 4).expect("a short request");
        request[..4].copy_from_slice(&length.to_be_bytes());
        request
    }

    async fn call(&mut self, request: &mut BytesMut) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.read().await?;
        match self.reply.get(12..16) {
            Some([0, 0, 0, 0]) => Ok(()),
            other => Err(io::Error::other(format!("an error: {other:?}"))),
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let length = self.stream.read_u32().await?;
        self.reply.resize(length as usize, 0);
        self.stream.read_exact(&mut self.reply).await?;
        Ok(())
    }
}
