//! One client's connection: frames in, frames out, no decisions.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use troupe_protocol::zookeeper::connect::ConnectRequest;
use troupe_protocol::zookeeper::four_letter::Word;
use troupe_protocol::zookeeper::frame::split_frame;
use troupe_protocol::zookeeper::requests::Request;

use super::actor::{Connect, Disconnect, FourLetterWord, Requests, Znode};
use super::outbox::{Gate, Waiting, outbox};
use super::sessions::ConnectionId;
use crate::network::{ReadHalf, Stream, WriteHalf};

/// How long a connection may be without a handshake, as in ZooKeeper.
const SESSIONLESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that are given to the actor at once.
const BATCH: usize = 16;
/// Frames that are written at once.
const GATHER: usize = 32;

/// Why a connection ended other than by its client or by the service.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] troupe_protocol::zookeeper::frame::FrameError),
    /// What came is no handshake or no request.
    #[error("not a request: {0}")]
    Decode(#[from] troupe_protocol::zookeeper::jute::JuteError),
    /// There was no handshake in time.
    #[error("no handshake within {} seconds", SESSIONLESS_TIMEOUT.as_secs())]
    Silent,
    /// The service is gone.
    #[error("the service has ended")]
    Service(#[from] actix::MailboxError),
}

/// What all connections share.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `jute.maxbuffer`: the longest request, in bytes.
    pub max_frame: usize,
    outstanding_limit: usize,
    outstanding: Arc<Semaphore>,
}

impl Limits {
    /// Allows frames of so many bytes, and so many requests of all connections together (`globalOutstandingLimit`, at
    /// least one) that are not answered yet.
    pub fn new(max_frame: usize, outstanding_limit: usize) -> Self {
        let outstanding_limit = outstanding_limit.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            max_frame,
            outstanding_limit,
            outstanding: Arc::new(Semaphore::new(outstanding_limit)),
        }
    }

    /// Waits until so many more requests, no more than the limit, may be taken.
    async fn share(&self, requests: usize) -> OwnedSemaphorePermit {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        let share = self.outstanding.clone().acquire_many_owned(requests).await;
        match share {
            Ok(share) => share,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Serves one client until either side has enough.
pub async fn serve(
    stream: Stream,
    peer: SocketAddr,
    connection: ConnectionId,
    znode: Addr<Znode>,
    limits: Limits,
) -> Result<(), ConnectionError> {
    let (read, mut write) = stream.into_split();
    let mut reader = Reader {
        read,
        buffer: BytesMut::new(),
        max_frame: limits.max_frame,
    };
    let first = actix_rt::time::timeout(SESSIONLESS_TIMEOUT, reader.first()).await;
    let handshake = match first.map_err(|_| ConnectionError::Silent)?? {
        First::Handshake(frame) => frame,
        First::Word(word) => {
            let answer = znode.send(FourLetterWord(word)).await?;
            write.write_all(answer.as_bytes()).await?;
            write.shutdown().await?;
            return Ok(());
        }
        First::End => return Ok(()),
    };
    let request = ConnectRequest::decode(handshake)?;
    let (outbox, waiting, gate) = outbox();
    znode
        .send(Connect {
            connection,
            peer,
            outbox,
            request,
        })
        .await?;
    let result = tokio::select! {
        result = take_requests(&mut reader, connection, &znode, gate, &limits) => result,
        result = write_frames(&mut write, waiting) => result.map_err(Into::into),
    };
    // An ended service has forgotten the connection already.
    let _ = znode.send(Disconnect { connection }).await;
    result
}

async fn take_requests(
    reader: &mut Reader,
    connection: ConnectionId,
    znode: &Addr<Znode>,
    gate: Gate,
    limits: &Limits,
) -> Result<(), ConnectionError> {
    let most = BATCH.min(limits.outstanding_limit);
    while let Some(frame) = reader.frame().await? {
        let mut requests = vec![Request::decode(frame)?];
        while requests.len() < most
            && let Some(frame) = reader.buffered_frame()?
        {
            requests.push(Request::decode(frame)?);
        }
        let share = limits.share(requests.len()).await;
        znode
            .send(Requests {
                connection,
                requests,
                share,
            })
            .await?;
        gate.open().await;
    }
    Ok(())
}

/// Writes what the actor sends until it closes the connection.
async fn write_frames(write: &mut WriteHalf, mut waiting: Waiting) -> io::Result<()> {
    let mut frames: Vec<Bytes> = Vec::with_capacity(GATHER);
    while let Some(frame) = waiting.next().await {
        frames.push(frame);
        while frames.len() < GATHER
            && let Some(frame) = waiting.try_next()
        {
            frames.push(frame);
        }
        write_all(write, &mut frames, &waiting).await?;
    }
    write.shutdown().await
}

async fn write_all(
    write: &mut WriteHalf,
    frames: &mut Vec<Bytes>,
    waiting: &Waiting,
) -> io::Result<()> {
    let mut first = 0;
    while first < frames.len() {
        let slices: Vec<_> = frames
            .iter()
            .skip(first)
            .map(|frame| IoSlice::new(frame))
            .collect();
        let mut written = write.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        waiting.written(written);
        for frame in frames.iter_mut().skip(first) {
            let part = written.min(frame.len());
            frame.advance(part);
            written -= part;
            if !frame.is_empty() {
                break;
            }
            first += 1;
        }
    }
    frames.clear();
    Ok(())
}

/// How a connection begins.
enum First {
    Handshake(Bytes),
    Word(Word),
    End,
}

struct Reader {
    read: ReadHalf,
    buffer: BytesMut,
    max_frame: usize,
}

impl Reader {
    /// Looks at the first four bytes: as a length, a word would be longer than any frame.
    async fn first(&mut self) -> Result<First, ConnectionError> {
        while self.buffer.len() < 4 {
            if !self.fill().await? {
                return Ok(First::End);
            }
        }
        let word = self
            .buffer
            .first_chunk()
            .and_then(|&first| Word::parse(first));
        Ok(match word {
            Some(word) => First::Word(word),
            None => self.frame().await?.map_or(First::End, First::Handshake),
        })
    }

    /// Returns the next frame; `None` at the end of the stream, also inside of a frame.
    async fn frame(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        loop {
            if let Some(frame) = self.buffered_frame()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    fn buffered_frame(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        Ok(split_frame(&mut self.buffer, self.max_frame)?)
    }

    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(4 * 1024);
        Ok(self.read.read_buf(&mut self.buffer).await? > 0)
    }
}
