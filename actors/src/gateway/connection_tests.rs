//! Connections over loopback sockets, with a service that answers when the test says so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::budget::ByteBudget;
use super::connection::{
    Closed, Connection, ConnectionLimits, Outcome, Parked, Refused, Service, Work,
};

/// First byte of a request: how it is to be treated. Its second byte is its number.
const PIPELINED: u8 = b'p';
const ALONE: u8 = b'a';
const REFUSED: u8 = b'r';

type Answers = Rc<RefCell<BTreeMap<u8, oneshot::Sender<Outcome>>>>;

#[derive(Clone)]
struct Scripted {
    events: mpsc::UnboundedSender<String>,
    answers: Answers,
    /// Where the connection is to move next.
    destination: Rc<Cell<Option<usize>>>,
}

impl Service for Scripted {
    #[expect(
        clippy::async_yields_async,
        reason = "the two phases of a pipelined request"
    )]
    fn start(&self, request: BytesMut) -> Result<Work, Refused> {
        let (kind, number) = (request[0], request[1]);
        let (answer, answered) = oneshot::channel();
        self.answers.borrow_mut().insert(number, answer);
        let pending = Box::pin(async move {
            answered
                .await
                .unwrap_or(Outcome::Close("no answer".to_owned()))
        });
        let events = self.events.clone();
        match kind {
            PIPELINED => Ok(Work::Pipelined(Box::pin(async move {
                events
                    .send(format!("begin {number}"))
                    .expect("the test listens");
                pending as super::connection::Pending
            }))),
            ALONE => Ok(Work::Alone(Box::pin(async move {
                events
                    .send(format!("begin {number}"))
                    .expect("the test listens");
                pending.await
            }))),
            _ => Err(Refused {
                api: "Test".to_owned(),
                reason: "asked for".to_owned(),
            }),
        }
    }

    fn destination(&self) -> Option<usize> {
        self.destination.take()
    }
}

struct Rig {
    client: TcpStream,
    events: mpsc::UnboundedReceiver<String>,
    answers: Answers,
    destination: Rc<Cell<Option<usize>>>,
    stop: CancellationToken,
    ended: JoinHandle<Closed>,
}

const MAX_IDLE: Duration = Duration::from_secs(600);

fn limits(budget: ByteBudget) -> ConnectionLimits {
    ConnectionLimits {
        max_request_bytes: 1_000,
        max_idle: Some(MAX_IDLE),
        budget,
    }
}

impl Rig {
    async fn new(budget: &ByteBudget) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let client = TcpStream::connect(listener.local_addr().expect("address"))
            .await
            .expect("connects");
        let (server, _) = listener.accept().await.expect("accepts");
        let (events, listening) = mpsc::unbounded_channel();
        let answers = Answers::default();
        let stop = CancellationToken::new();
        let destination = Rc::new(Cell::new(None));
        let service = Scripted {
            events,
            answers: Rc::clone(&answers),
            destination: Rc::clone(&destination),
        };
        let limits = limits(budget.clone());
        let stopped = stop.clone();
        let mut parked = Parked::new(
            crate::network::Stream::from(server)
                .detach()
                .expect("a socket"),
            0,
        );
        let ended = actix_rt::spawn(async move {
            loop {
                let connection = Connection::new(parked, service.clone(), &limits);
                match connection.expect("a socket").run(&stopped).await {
                    Ok(moving) => parked = moving,
                    Err(closed) => return closed,
                }
                let moved = format!("moved to {}", parked.destination);
                service.events.send(moved).expect("the test listens");
            }
        });
        Self {
            client,
            events: listening,
            answers,
            destination,
            stop,
            ended,
        }
    }

    async fn send(&mut self, kind: u8, number: u8) {
        self.send_padded(kind, number, 8).await;
    }

    async fn send_padded(&mut self, kind: u8, number: u8, len: usize) {
        let mut frame = (len as u32).to_be_bytes().to_vec();
        frame.resize(4 + len, 0);
        frame[4] = kind;
        frame[5] = number;
        self.client.write_all(&frame).await.expect("sends");
    }

    fn answer(&self, number: u8, outcome: Outcome) {
        let answer = self
            .answers
            .borrow_mut()
            .remove(&number)
            .expect("the request was begun");
        answer.send(outcome).expect("the connection waits");
    }

    fn reply(&self, number: u8) {
        self.answer(number, Outcome::Reply(Bytes::from(vec![number]).into()));
    }

    async fn begun(&mut self) -> String {
        self.events.recv().await.expect("the connection lives")
    }

    /// Reads one-byte replies.
    async fn replies<const N: usize>(&mut self) -> [u8; N] {
        let mut replies = [0; N];
        self.client.read_exact(&mut replies).await.expect("replies");
        replies
    }

    /// Lets the connection do all that it can do now.
    async fn settle(&self) {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    async fn ended(self) -> Closed {
        self.ended.await.expect("no panic")
    }
}

#[actix_rt::test]
async fn replies_leave_in_the_order_of_their_requests() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    for number in 1..=3 {
        rig.send(PIPELINED, number).await;
        assert_eq!(rig.begun().await, format!("begin {number}"));
    }
    rig.reply(3);
    rig.reply(2);
    rig.settle().await;
    let mut early = [0; 1];
    assert!(
        rig.client.try_read(&mut early).is_err(),
        "a reply left before its turn"
    );
    rig.reply(1);
    assert_eq!(rig.replies::<3>().await, [1, 2, 3]);
}

#[actix_rt::test]
async fn all_but_produce_waits_for_its_turn() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    rig.send(PIPELINED, 1).await;
    rig.send(ALONE, 2).await;
    rig.send(PIPELINED, 3).await;
    assert_eq!(rig.begun().await, "begin 1");
    rig.settle().await;
    assert!(
        rig.events.try_recv().is_err(),
        "began before its predecessor was answered"
    );
    rig.reply(1);
    assert_eq!(rig.begun().await, "begin 2");
    rig.settle().await;
    assert!(
        rig.events.try_recv().is_err(),
        "began before its predecessor was answered"
    );
    rig.reply(2);
    assert_eq!(rig.begun().await, "begin 3");
    rig.reply(3);
    assert_eq!(rig.replies::<3>().await, [1, 2, 3]);
}

#[actix_rt::test]
async fn silence_is_an_answer_too() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    rig.send(PIPELINED, 1).await;
    rig.send(PIPELINED, 2).await;
    rig.begun().await;
    rig.begun().await;
    rig.answer(1, Outcome::Silent);
    rig.reply(2);
    assert_eq!(rig.replies::<1>().await, [2]);
}

#[actix_rt::test]
async fn a_failure_without_a_reply_closes_after_the_earlier_replies() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    for number in 1..=3 {
        rig.send(PIPELINED, number).await;
        rig.begun().await;
    }
    rig.answer(2, Outcome::Close("acks=0".to_owned()));
    rig.reply(3);
    rig.reply(1);
    let mut received = Vec::new();
    rig.client
        .read_to_end(&mut received)
        .await
        .expect("closed in order");
    assert_eq!(received, [1]);
    assert!(matches!(rig.ended().await, Closed::Failed(reason) if reason == "acks=0"));
}

#[actix_rt::test]
async fn a_refused_request_closes_after_the_earlier_replies() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    rig.send(PIPELINED, 1).await;
    rig.begun().await;
    rig.send(REFUSED, 2).await;
    rig.settle().await;
    rig.reply(1);
    assert_eq!(rig.replies::<1>().await, [1]);
    assert!(matches!(rig.ended().await, Closed::Refused(_)));
}

#[actix_rt::test]
async fn malformed_frames_close_and_give_their_bytes_back() {
    for malformed in [
        &(-5_i32).to_be_bytes()[..],
        &1_001_i32.to_be_bytes(),
        &i32::MAX.to_be_bytes(),
        &0_i32.to_be_bytes(),
    ] {
        let budget = ByteBudget::new(1_000);
        let mut rig = Rig::new(&budget).await;
        rig.client.write_all(malformed).await.expect("sends");
        assert!(
            matches!(rig.ended().await, Closed::Frame(_)),
            "{malformed:?}"
        );
        assert_eq!(budget.available(), 1_000);
    }
}

#[actix_rt::test]
async fn a_request_waits_until_its_bytes_fit() {
    let budget = ByteBudget::new(100);
    let mut first = Rig::new(&budget).await;
    let mut second = Rig::new(&budget).await;
    first.send_padded(PIPELINED, 1, 80).await;
    first.begun().await;
    second.send_padded(PIPELINED, 2, 80).await;
    second.settle().await;
    assert!(second.events.try_recv().is_err(), "began beyond the budget");
    first.reply(1);
    assert_eq!(second.begun().await, "begin 2");
    second.reply(2);
    assert_eq!(second.replies::<1>().await, [2]);
    // A frame above the whole budget, but within the limit of a frame, goes alone.
    first.send_padded(PIPELINED, 3, 900).await;
    assert_eq!(first.begun().await, "begin 3");
}

#[actix_rt::test]
async fn only_so_many_requests_are_in_flight() {
    let mut rig = Rig::new(&ByteBudget::new(10_000)).await;
    for number in 0..40 {
        rig.send(PIPELINED, number).await;
    }
    for number in 0..32 {
        assert_eq!(rig.begun().await, format!("begin {number}"));
    }
    rig.settle().await;
    assert!(rig.events.try_recv().is_err(), "too many in flight");
    rig.reply(0);
    assert_eq!(rig.begun().await, "begin 32");
}

#[actix_rt::test]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    rig.send(PIPELINED, 1).await;
    rig.begun().await;
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    tokio::time::sleep(3 * MAX_IDLE).await;
    rig.reply(1);
    assert_eq!(rig.replies::<1>().await, [1]);
    assert!(matches!(rig.ended().await, Closed::Idle));
    assert!(started.elapsed() >= 4 * MAX_IDLE, "{:?}", started.elapsed());
}

#[actix_rt::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    rig.send(ALONE, 1).await;
    rig.begun().await;
    tokio::time::pause();
    rig.answer(
        1,
        Outcome::Reply(Bytes::from(vec![0; 64 * 1024 * 1024]).into()),
    );
    let ended = rig.ended.await.expect("no panic");
    assert!(matches!(ended, Closed::Io(error) if error.kind() == std::io::ErrorKind::TimedOut));
}

#[actix_rt::test]
async fn stopping_answers_what_is_in_flight() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    rig.send(PIPELINED, 1).await;
    rig.begun().await;
    rig.stop.cancel();
    rig.send(PIPELINED, 2).await;
    rig.settle().await;
    assert!(rig.events.try_recv().is_err(), "began after the stop");
    rig.reply(1);
    assert_eq!(rig.replies::<1>().await, [1]);
    assert!(matches!(rig.ended().await, Closed::Stopping));
}

#[actix_rt::test]
async fn a_client_that_is_done_sending_gets_its_replies() {
    let mut rig = Rig::new(&ByteBudget::new(1_000)).await;
    rig.send(PIPELINED, 1).await;
    rig.client.shutdown().await.expect("half closes");
    rig.begun().await;
    rig.settle().await;
    rig.reply(1);
    assert_eq!(rig.replies::<1>().await, [1]);
    assert!(matches!(rig.ended().await, Closed::ByClient));
}

#[actix_rt::test]
async fn a_connection_that_moves_loses_nothing_that_was_read() {
    let budget = ByteBudget::new(1_000);
    let mut rig = Rig::new(&budget).await;
    rig.send(PIPELINED, 1).await;
    assert_eq!(rig.begun().await, "begin 1");
    // The second request is there by half when the connection is told to move.
    rig.client
        .write_all(&[0, 0, 0, 8, PIPELINED, 2])
        .await
        .expect("sends");
    rig.settle().await;
    rig.destination.set(Some(3));
    rig.settle().await;
    rig.reply(1);
    assert_eq!(rig.replies::<1>().await, [1]);
    assert_eq!(rig.begun().await, "moved to 3");
    rig.client.write_all(&[0; 6]).await.expect("sends");
    assert_eq!(rig.begun().await, "begin 2");
    rig.reply(2);
    assert_eq!(rig.replies::<1>().await, [2]);
    assert_eq!(budget.available(), 1_000);
}
