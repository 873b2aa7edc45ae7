//! One client connection: requests in, replies out in the order of the requests.
//!
//! Produce requests are pipelined: each is handed to its partitions as soon as it is read, and answered when its turn
//! comes. Every other request starts when all earlier ones are answered, as in Kafka.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::budget::{ByteBudget, Reservation};
use super::frames::{Buffered, Frame, FrameError, FrameReader};
use super::reply::{Reply, ReplyWriter};
use crate::network::Detached;

/// Produce requests of one connection that wait for their answers at most; the next stays in the socket.
const MAX_IN_FLIGHT: usize = 32;
/// Stands for "never": a year.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The client gets this.
    Reply(Reply),
    /// The client expects nothing (acks=0).
    Silent,
    /// The only way to tell the client is to close the connection.
    Close(String),
}

/// A future on the thread of its connection.
pub(crate) type Pending = LocalBoxFuture<'static, Outcome>;

/// How a request wants to be run.
pub(crate) enum Work {
    /// When everything before it is answered.
    Alone(Pending),
    /// At once: the outer future hands the request on, in order; the inner one waits for what comes of it.
    Pipelined(LocalBoxFuture<'static, Pending>),
}

/// Why a request is not even begun.
#[derive(Debug, thiserror::Error)]
#[error("{api}: {reason}")]
pub(crate) struct Refused {
    /// Key and version, as far as they were understood.
    pub(crate) api: String,
    /// What is wrong.
    pub(crate) reason: String,
}

/// What a connection does with its requests.
pub(crate) trait Service {
    /// Decodes a request, header and body, and says how it is to be run.
    fn start(&self, request: BytesMut) -> Result<Work, Refused>;

    /// Returns the thread that the connection should move to.
    fn destination(&self) -> Option<usize> {
        None
    }
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    /// The client closed it between two requests.
    #[error("closed by the client")]
    ByClient,
    /// Nothing happened for `connections.max.idle.ms`.
    #[error("idle for too long")]
    Idle,
    /// The broker stops.
    #[error("the broker stops")]
    Stopping,
    /// A frame that is none.
    #[error("malformed: {0}")]
    Frame(FrameError),
    /// A request that cannot be decoded or is not served.
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    /// A request whose failure is told by closing.
    #[error("closed to report a failure: {0}")]
    Failed(String),
    /// The socket, or a file on its way to it, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<FrameError> for Closed {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Io(error),
            other => Self::Frame(other),
        }
    }
}

/// The bounds of a connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// `socket.request.max.bytes`.
    pub(crate) max_request_bytes: usize,
    /// `connections.max.idle.ms`; `None` for no limit.
    pub(crate) max_idle: Option<Duration>,
    /// The bytes of all connections.
    pub(crate) budget: ByteBudget,
}

/// A request that is handed on and not answered yet.
struct Slot {
    pending: Pending,
    _reservation: Reservation,
}

enum Event {
    Answer(Outcome),
    Frame(Option<Frame>),
    Stop,
    Timer,
}

/// A connection on its way to another thread: nothing is in flight, and nothing that was read is lost.
pub(crate) struct Parked {
    socket: Detached,
    buffered: Buffered,
    /// Where it goes.
    pub(crate) destination: usize,
}

impl Parked {
    /// Wraps a socket that was just accepted.
    pub(crate) fn new(socket: Detached, destination: usize) -> Self {
        Self {
            socket,
            buffered: Buffered::default(),
            destination,
        }
    }
}

/// One connection.
pub(crate) struct Connection<S> {
    service: S,
    reader: FrameReader,
    writer: ReplyWriter,
    in_flight: VecDeque<Slot>,
    max_idle: Duration,
}

impl<S: Service> Connection<S> {
    /// Serves the connection with `service`, on the current thread from now on.
    pub(crate) fn new(parked: Parked, service: S, limits: &ConnectionLimits) -> io::Result<Self> {
        let (read, write) = parked.socket.attach()?.into_split();
        let max_idle = limits.max_idle.unwrap_or(FOREVER);
        let reader = FrameReader::new(read, limits.max_request_bytes, limits.budget.clone());
        Ok(Self {
            service,
            reader: reader.resume(parked.buffered),
            writer: ReplyWriter::new(write, max_idle),
            in_flight: VecDeque::new(),
            max_idle,
        })
    }

    /// Serves until the connection ends, or is to move. After `stop` no request is read any more; those in flight are
    /// answered.
    pub(crate) async fn run(mut self, stop: &CancellationToken) -> Result<Parked, Closed> {
        let destination = self.serve(stop).await?;
        let (read, buffered) = self.reader.suspend();
        let socket = self.writer.reunite(read)?.detach()?;
        Ok(Parked {
            socket,
            buffered,
            destination,
        })
    }

    /// Serves until the connection is to move; returns where to.
    async fn serve(&mut self, stop: &CancellationToken) -> Result<usize, Closed> {
        let idle = tokio::time::sleep(self.max_idle);
        let stopped = stop.cancelled();
        tokio::pin!(idle, stopped);
        let mut last_active = Instant::now();
        loop {
            let event = tokio::select! {
                biased;
                outcome = next_answer(&mut self.in_flight), if !self.in_flight.is_empty() => Event::Answer(outcome),
                () = &mut stopped => Event::Stop,
                frame = self.reader.next(), if self.in_flight.len() < MAX_IN_FLIGHT => Event::Frame(frame?),
                () = &mut idle => Event::Timer,
            };
            match event {
                Event::Answer(outcome) => self.answer(outcome).await?,
                Event::Frame(Some(frame)) => self.begin(frame).await?,
                Event::Frame(None) => {
                    self.finish().await?;
                    return Err(Closed::ByClient);
                }
                Event::Stop => {
                    self.finish().await?;
                    return Err(Closed::Stopping);
                }
                Event::Timer => {
                    let deadline = last_active + self.max_idle;
                    if self.in_flight.is_empty() && deadline <= Instant::now() {
                        return Err(Closed::Idle);
                    }
                    idle.as_mut()
                        .reset(deadline.max(Instant::now() + self.max_idle / 8));
                    continue;
                }
            }
            last_active = Instant::now();
            if self.in_flight.is_empty()
                && let Some(destination) = self.service.destination()
            {
                return Ok(destination);
            }
        }
    }

    /// Begins a request; comes back when the next one may be read.
    async fn begin(&mut self, frame: Frame) -> Result<(), Closed> {
        let Frame { bytes, reservation } = frame;
        match self.service.start(bytes) {
            Ok(Work::Pipelined(dispatch)) => {
                let pending = dispatch.await;
                self.in_flight.push_back(Slot {
                    pending,
                    _reservation: reservation,
                });
                Ok(())
            }
            Ok(Work::Alone(pending)) => {
                self.finish().await?;
                let outcome = pending.await;
                drop(reservation);
                self.answer(outcome).await
            }
            Err(refused) => {
                self.finish().await?;
                Err(refused.into())
            }
        }
    }

    /// Answers everything in flight.
    async fn finish(&mut self) -> Result<(), Closed> {
        while !self.in_flight.is_empty() {
            let outcome = next_answer(&mut self.in_flight).await;
            self.answer(outcome).await?;
        }
        Ok(())
    }

    /// Sends an answer, together with those that are ready behind it.
    async fn answer(&mut self, outcome: Outcome) -> Result<(), Closed> {
        let mut next = Some(outcome);
        while let Some(outcome) = next {
            match outcome {
                Outcome::Reply(reply) => self.writer.push(reply),
                Outcome::Silent => {}
                Outcome::Close(reason) => {
                    self.writer.flush().await?;
                    return Err(Closed::Failed(reason));
                }
            }
            next = if self.in_flight.is_empty() {
                None
            } else {
                next_answer(&mut self.in_flight).now_or_never()
            };
        }
        Ok(self.writer.flush().await?)
    }
}

/// Waits for the oldest request in flight; cancel safe.
async fn next_answer(in_flight: &mut VecDeque<Slot>) -> Outcome {
    match in_flight.front_mut() {
        Some(slot) => {
            let outcome = (&mut slot.pending).await;
            in_flight.pop_front();
            outcome
        }
        None => Outcome::Silent,
    }
}
