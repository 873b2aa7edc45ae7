//! The coordination service byte by byte: what clients in other languages send, and what no client would.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::{Arc, mpsc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use troupe_actors::runtime::{Runtime, SystemClock};
use troupe_actors::znode::records::Batch;
use troupe_actors::znode::store::{Contents, MemoryStore, StoreError, ZnodeStore};
use troupe_actors::znode::{Coordination, ZnodeConfig};
use troupe_protocol::zookeeper::frame::build_frame;
use troupe_protocol::zookeeper::jute::{Reader, Writer};
use troupe_protocol::zookeeper::requests::op;
use troupe_protocol::zookeeper::{Acl, ErrorCode};

async fn start(change: impl FnOnce(&mut ZnodeConfig)) -> Coordination {
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
    let mut config = ZnodeConfig::new("/nowhere", 0);
    change(&mut config);
    let store = Box::new(MemoryStore::default());
    Coordination::start_with(config, &runtime, store)
        .await
        .unwrap()
}

/// Stores this many batches, and then the disk is full.
struct Full(usize);

impl ZnodeStore for Full {
    fn commit(&mut self, _: Batch) -> Result<(), StoreError> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| StoreError::Io {
            path: "/nowhere".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        })?;
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        Ok(Contents::new())
    }
}

struct Raw(TcpStream);

impl Raw {
    async fn open(service: &Coordination) -> Self {
        let address = ("127.0.0.1", service.port());
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Returns the next frame, `None` if the service closed the connection.
    async fn frame(&mut self) -> Option<Bytes> {
        let length = self.0.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut frame).await.unwrap();
        Some(frame.into())
    }

    /// Returns xid, error and record of the next reply.
    async fn reply(&mut self) -> (i32, i32, Bytes) {
        let mut frame = self.frame().await.unwrap();
        let xid = frame.get_i32();
        frame.get_i64();
        (xid, frame.get_i32(), frame)
    }

    async fn is_closed(&mut self) -> bool {
        self.0.read_u8().await.is_err()
    }

    /// Connects with a new session and returns its id and password.
    async fn session(&mut self) -> (i64, Bytes) {
        self.send(&handshake(0, 0, &[0; 16])).await;
        session_of(self.frame().await.unwrap())
    }
}

fn session_of(frame: Bytes) -> (i64, Bytes) {
    let mut reader = Reader::new(frame);
    assert_eq!(reader.int().unwrap(), 0);
    reader.int().unwrap();
    (reader.long().unwrap(), reader.string().unwrap())
}

fn handshake(last_zxid_seen: i64, session: i64, password: &[u8]) -> Bytes {
    build_frame(|out| {
        out.put_i32(0);
        out.put_i64(last_zxid_seen);
        out.put_i32(30_000);
        out.put_i64(session);
        out.string(password);
    })
}

fn request(xid: i32, op: i32, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    build_frame(|out| {
        out.put_i32(xid);
        out.put_i32(op);
        body(out);
    })
}

fn create(xid: i32, path: &[u8]) -> Bytes {
    request(xid, op::CREATE, |out| {
        out.string(path);
        out.buffer(None);
        out.put_i32(1);
        Acl::open().encode(out);
        out.put_i32(0);
    })
}

fn get_data(xid: i32, path: &[u8], watch: bool) -> Bytes {
    request(xid, op::GET_DATA, |out| {
        out.string(path);
        out.boolean(watch);
    })
}

fn set_data(xid: i32, path: &[u8], data: &[u8]) -> Bytes {
    request(xid, op::SET_DATA, |out| {
        out.string(path);
        out.buffer(Some(data));
        out.put_i32(-1);
    })
}

#[actix_rt::test]
async fn what_is_not_stored_is_not_acknowledged() {
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
    let config = ZnodeConfig::new("/nowhere", 0);
    // One batch for each of the two sessions.
    let store = Box::new(Full(2));
    let service = Coordination::start_with(config, &runtime, store)
        .await
        .unwrap();
    let (mut writer, mut reader) = (Raw::open(&service).await, Raw::open(&service).await);
    writer.session().await;
    reader.session().await;
    writer.send(&create(1, b"/lost")).await;
    assert!(writer.is_closed().await, "without a reply");
    assert!(reader.is_closed().await, "nor may anybody read it");
    let mut late = Raw::open(&service).await;
    late.send(&handshake(0, 0, &[0; 16])).await;
    assert!(late.is_closed().await);
    let mut monitor = Raw::open(&service).await;
    monitor.send(b"srvr").await;
    let mut text = String::new();
    monitor.0.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("not currently serving"), "{text}");
}

#[actix_rt::test]
async fn everything_sent_at_once_is_answered_in_order() {
    let service = start(|_| ()).await;
    let mut client = Raw::open(&service).await;
    let mut burst = BytesMut::from(&handshake(0, 0, &[0; 16])[..]);
    for xid in 1..=200 {
        match xid % 3 {
            0 => burst.extend_from_slice(&get_data(xid, b"/", false)),
            1 => burst.extend_from_slice(&create(xid, format!("/n{xid}").as_bytes())),
            _ => burst.extend_from_slice(&request(xid, 999, |_| ())),
        }
    }
    client.send(&burst).await;
    // 36 bytes: the client sent no read-only byte, so it gets none.
    assert_eq!(client.frame().await.unwrap().len(), 36);
    for xid in 1..=200 {
        let (answered, error, _) = client.reply().await;
        let wanted = match xid % 3 {
            2 => ErrorCode::Unimplemented,
            _ => ErrorCode::Ok,
        };
        assert_eq!((answered, error), (xid, wanted.code()));
    }
}

#[actix_rt::test]
async fn what_is_not_understood_gets_an_error_and_the_connection_stays() {
    let service = start(|_| ()).await;
    let mut client = Raw::open(&service).await;
    client.session().await;
    for (body, wanted) in [
        (
            request(1, op::GET_DATA, |_| ()),
            ErrorCode::MarshallingError,
        ),
        (
            request(1, op::CREATE, |out| out.put_i32(i32::MAX)),
            ErrorCode::MarshallingError,
        ),
        (
            request(1, op::CREATE, |out| out.put_i32(-7)),
            ErrorCode::MarshallingError,
        ),
        (
            request(1, op::MULTI, |out| out.put_i32(1)),
            ErrorCode::MarshallingError,
        ),
        (
            request(1, op::RECONFIG, |_| ()),
            ErrorCode::ReconfigDisabled,
        ),
        (request(1, -10, |_| ()), ErrorCode::Unimplemented),
        (request(1, i32::MIN, |_| ()), ErrorCode::Unimplemented),
        (get_data(1, b"/\xed\xa0\xbd\xed", false), ErrorCode::NoNode),
        (create(1, b"/\xed\xa0\xbd\xed"), ErrorCode::BadArguments),
        (create(1, b"/a/../b"), ErrorCode::NoNode),
        (create(1, b""), ErrorCode::BadArguments),
    ] {
        client.send(&body).await;
        let (xid, error, _) = client.reply().await;
        assert_eq!((xid, error), (1, wanted.code()), "{body:?}");
    }
    client.send(&request(-2, op::PING, |_| ())).await;
    assert_eq!(client.reply().await.0, -2);
}

#[actix_rt::test]
async fn frames_that_cannot_be_close_their_connection_and_no_other() {
    let service = start(|_| ()).await;
    let mut good = Raw::open(&service).await;
    good.session().await;
    for garbage in [
        &b"\xff\xff\xff\xff"[..],
        b"\x7f\xff\xff\xff",
        b"\0\x10\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x03abc",
    ] {
        let mut bad = Raw::open(&service).await;
        bad.send(garbage).await;
        assert!(bad.is_closed().await, "{garbage:?}");
        let mut late = Raw::open(&service).await;
        late.session().await;
        late.send(garbage).await;
        assert!(late.is_closed().await, "{garbage:?} after a handshake");
    }
    good.send(&get_data(1, b"/", false)).await;
    assert_eq!(good.reply().await.0, 1);
}

#[actix_rt::test]
async fn sessions_move_with_their_password_only() {
    let service = start(|_| ()).await;
    let mut first = Raw::open(&service).await;
    let (session, password) = first.session().await;

    let mut thief = Raw::open(&service).await;
    thief.send(&handshake(0, session, &[9; 16])).await;
    assert_eq!(session_of(thief.frame().await.unwrap()).0, 0, "refused");
    assert!(thief.is_closed().await);

    let mut ahead = Raw::open(&service).await;
    ahead.send(&handshake(i64::MAX, 0, &[0; 16])).await;
    assert!(ahead.is_closed().await, "it has seen a newer tree");

    let mut second = Raw::open(&service).await;
    second.send(&handshake(0, session, &password)).await;
    assert_eq!(
        session_of(second.frame().await.unwrap()),
        (session, password)
    );
    assert!(first.is_closed().await, "the session has moved");
}

#[actix_rt::test]
async fn an_event_comes_before_the_reply_that_shows_the_change() {
    let service = start(|_| ()).await;
    let mut client = Raw::open(&service).await;
    client.session().await;
    for frame in [
        create(1, b"/w"),
        get_data(2, b"/w", true),
        set_data(3, b"/w", b"new"),
    ] {
        client.send(&frame).await;
    }
    for xid in [1, 2, -1, 3] {
        assert_eq!(client.reply().await.0, xid);
    }
    // Null data came back as null, length -1, not as empty.
    client.send(&create(4, b"/null")).await;
    client.send(&get_data(5, b"/null", false)).await;
    client.reply().await;
    let (_, _, record) = client.reply().await;
    assert_eq!(Reader::new(record).buffer().unwrap(), None);
}

#[actix_rt::test]
async fn a_reconnected_client_hears_what_it_missed() {
    let service = start(|_| ()).await;
    let mut client = Raw::open(&service).await;
    client.session().await;
    client.send(&create(1, b"/here")).await;
    client.reply().await;
    let set_watches = request(-8, op::SET_WATCHES, |out| {
        out.put_i64(0);
        for paths in [
            &[&b"/here"[..], b"/gone"][..],
            &[b"/here", b"/later"],
            &[b"/"],
        ] {
            out.length(paths.len());
            for path in paths {
                out.string(path);
            }
        }
    });
    client.send(&set_watches).await;
    for (event, path) in [(3, "/here"), (2, "/gone"), (1, "/here"), (4, "/")] {
        let (xid, _, record) = client.reply().await;
        let mut record = Reader::new(record);
        assert_eq!(
            (xid, record.int().unwrap(), record.int().unwrap()),
            (-1, event, 3)
        );
        assert_eq!(record.string().unwrap(), path);
    }
    assert_eq!(client.reply().await.0, -8);
    client.send(&create(2, b"/later")).await;
    assert_eq!(client.reply().await.0, -1);
    assert_eq!(client.reply().await.0, 2);
}

#[actix_rt::test]
async fn a_session_that_is_closed_is_answered_first() {
    let service = start(|_| ()).await;
    let mut client = Raw::open(&service).await;
    client.session().await;
    client.send(&request(1, op::CLOSE_SESSION, |_| ())).await;
    assert_eq!(client.reply().await.0, 1);
    assert!(client.is_closed().await);
    let mut client = Raw::open(&service).await;
    client.session().await;
    let auth = request(-4, op::AUTH, |out| {
        out.put_i32(0);
        out.string(b"nonsense");
        out.string(b"");
    });
    client.send(&auth).await;
    let (xid, error, _) = client.reply().await;
    assert_eq!((xid, error), (-4, ErrorCode::AuthFailed.code()));
    assert!(client.is_closed().await);
}

#[actix_rt::test]
async fn connections_of_one_address_are_limited() {
    let service = start(|config| config.max_client_cnxns = 2).await;
    let (mut first, mut second) = (Raw::open(&service).await, Raw::open(&service).await);
    first.session().await;
    second.session().await;
    assert!(Raw::open(&service).await.is_closed().await);
    first.send(&request(1, op::CLOSE_SESSION, |_| ())).await;
    assert_eq!(first.reply().await.0, 1);
    assert!(first.is_closed().await);
}

/// Says how many transactions come together, and takes its time: each batch waits to be released.
struct Slow {
    batches: mpsc::Sender<u64>,
    released: mpsc::Receiver<()>,
}

impl ZnodeStore for Slow {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.batches.send(batch.transactions).unwrap();
        self.released.recv().unwrap();
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        Ok(Contents::new())
    }
}

#[actix_rt::test]
async fn no_more_requests_are_taken_than_may_be_outstanding() {
    const LIMIT: u64 = 10;
    let (batches, committed) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
    let mut config = ZnodeConfig::new("/nowhere", 0);
    config.global_outstanding_limit = usize::try_from(LIMIT).unwrap();
    let service = Coordination::start_with(config, &runtime, Box::new(Slow { batches, released }))
        .await
        .unwrap();
    // The session, and then every batch, goes through at once; none is larger than the limit.
    let releaser = std::thread::spawn(move || {
        let mut sizes = Vec::new();
        while let Ok(size) = committed.recv() {
            sizes.push(size);
            if release.send(()).is_err() {
                break;
            }
        }
        sizes
    });
    let mut raw = Raw::open(&service).await;
    raw.session().await;
    let requests: Vec<u8> = (0..200)
        .flat_map(|number| create(number, format!("/n{number}").as_bytes()))
        .collect();
    raw.send(&requests).await;
    for number in 0..200 {
        assert_eq!(raw.reply().await.0, number);
    }
    service.shutdown().await.unwrap();
    let sizes = releaser.join().unwrap();
    assert_eq!(sizes.iter().sum::<u64>(), 201);
    assert!(sizes.iter().all(|&size| size <= LIMIT), "{sizes:?}");
}

/// Asks for what the service has received so far: frames of clients.
async fn packets_received(service: &Coordination) -> u64 {
    let mut monitor = Raw::open(service).await;
    monitor.send(b"mntr").await;
    let mut text = String::new();
    monitor.0.read_to_string(&mut text).await.unwrap();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("zk_packets_received\t"));
    value.unwrap().parse().unwrap()
}

#[actix_rt::test]
async fn what_waits_for_a_commit_counts_as_waiting_for_its_client() {
    const READS: i32 = 200;
    let (batches, committed) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let runtime = Runtime::single_threaded(Arc::new(SystemClock::new()));
    let config = ZnodeConfig::new("/nowhere", 0);
    let service = Coordination::start_with(config, &runtime, Box::new(Slow { batches, released }))
        .await
        .unwrap();
    // The session, and the large node.
    for _ in 0..3 {
        release.send(()).unwrap();
    }
    let mut raw = Raw::open(&service).await;
    raw.session().await;
    raw.send(&create(-2, b"/large")).await;
    assert_eq!(raw.reply().await.1, 0);
    raw.send(&set_data(-1, b"/large", &[b'x'; 500_000])).await;
    assert_eq!(raw.reply().await.1, 0);
    let mut requests = create(0, b"/held").to_vec();
    requests.extend((1..=READS).flat_map(|number| get_data(number, b"/large", false)));
    raw.send(&requests).await;

    // Every question goes through the mailbox, as every batch of requests does.
    let mut received = 0;
    for _ in 0..READS {
        received = packets_received(&service).await;
    }
    assert!(
        (4..60).contains(&received),
        "{received} requests of a client whose replies have to wait"
    );
    release.send(()).unwrap();
    for number in 0..=READS {
        let (xid, error, _) = raw.reply().await;
        assert_eq!((xid, error), (number, 0));
    }
    drop(committed);
}

#[actix_rt::test]
async fn monitors_get_their_words() {
    let service = start(|_| ()).await;
    let mut client = Raw::open(&service).await;
    let (session, _) = client.session().await;
    client.send(&get_data(1, b"/", true)).await;
    client.reply().await;
    let session = format!("0x{session:x}");
    let port = format!("clientPort={}\n", service.port());
    for (word, wanted) in [
        ("ruok", "imok"),
        ("isro", "rw"),
        ("srvr", "Mode: standalone\nNode count: 4\n"),
        ("stat", "Clients:\n /127.0.0.1:"),
        ("mntr", "zk_watch_count\t1\n"),
        ("conf", &port),
        ("cons", &session),
        ("dump", &session),
        ("envi", "zookeeper.version="),
        ("wchs", "1 connections watching 1 paths\nTotal watches:1\n"),
        ("wchc", &session),
        ("wchp", &session),
        ("crst", "reset"),
        ("srst", "reset"),
    ] {
        let mut monitor = Raw::open(&service).await;
        monitor.send(word.as_bytes()).await;
        let mut text = String::new();
        monitor.0.read_to_string(&mut text).await.unwrap();
        assert!(text.contains(wanted), "{word}: {text}");
    }
}

#[actix_rt::test]
async fn a_client_that_never_reads_is_closed_and_others_go_on() {
    let service = start(|_| ()).await;
    let (mut deaf, mut writer) = (Raw::open(&service).await, Raw::open(&service).await);
    deaf.session().await;
    writer.session().await;
    deaf.send(&request(1, op::ADD_WATCH, |out| {
        out.string(b"/");
        out.put_i32(1);
    }))
    .await;
    deaf.reply().await;
    let path = [b"/".as_slice(), &[b'x'; 500_000]].concat();
    writer.send(&create(0, &path)).await;
    // Every event names the node: half a megabyte each, of which the deaf client takes none.
    for xid in 1..200 {
        writer.send(&set_data(xid, &path, b"")).await;
        assert_eq!(writer.reply().await.0, xid - 1);
    }
    writer.reply().await;
    let mut received = 0;
    while let Some(frame) = deaf.frame_or_end().await {
        received += frame;
    }
    assert!(received < 100_000_000, "{received} bytes were kept for it");
}

impl Raw {
    /// Returns how many bytes came with the next read, `None` at the end.
    async fn frame_or_end(&mut self) -> Option<usize> {
        let mut buffer = vec![0; 65_536];
        match self.0.read(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(count) => Some(count),
        }
    }
}
