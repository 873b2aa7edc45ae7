//! Takes request frames off a socket: an int32 size, then that many bytes.

use std::io;

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use tokio::io::AsyncReadExt;
use troupe_protocol::kafka::frame::{self, SIZE_LEN};

use super::budget::{ByteBudget, Reservation};
use crate::network::ReadHalf;

/// Bytes read at once when nothing is known of what comes; adapts between these to the traffic.
const READ_AHEAD_MIN: usize = 4 * 1024;
const READ_AHEAD_MAX: usize = 64 * 1024;
/// A declared size alone makes the buffer grow by this much at most; what arrives doubles it.
const GROWTH: usize = 1024 * 1024;

/// A request as it came, without its size.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Header and body.
    pub(crate) bytes: BytesMut,
    /// The frame's share of the byte budget, to be kept as long as `bytes` or parts of it.
    pub(crate) reservation: Reservation,
}

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The size is none that a request can have.
    #[error(transparent)]
    Size(frame::FrameError),
    /// The connection ended within a frame.
    #[error("closed within a frame")]
    Truncated,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was read of a connection and not taken yet; goes with it to another thread.
#[derive(Debug, Default)]
pub(crate) struct Buffered {
    buffer: BytesMut,
    size: Option<usize>,
    reservation: Option<Reservation>,
}

/// Reads frames, holding no memory while a connection is idle.
///
/// The bytes of a frame are reserved before they are buffered, except for a read-ahead of at most 64 KiB per connection, which saves
/// system calls when requests are small.
pub(crate) struct FrameReader {
    socket: ReadHalf,
    buffer: BytesMut,
    read_ahead: usize,
    max_frame: usize,
    budget: ByteBudget,
    /// Size of the frame being read, once its first four bytes are there.
    size: Option<usize>,
    reservation: Option<Reservation>,
}

impl FrameReader {
    /// Reads frames of at most `max_frame` bytes, each paid for from `budget`.
    pub(crate) fn new(socket: ReadHalf, max_frame: usize, budget: ByteBudget) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            read_ahead: READ_AHEAD_MIN,
            max_frame,
            budget,
            size: None,
            reservation: None,
        }
    }

    /// Goes on where another reader of the same connection stopped.
    pub(crate) fn resume(mut self, buffered: Buffered) -> Self {
        self.buffer = buffered.buffer;
        self.size = buffered.size;
        self.reservation = buffered.reservation;
        self
    }

    /// Stops; another reader may go on.
    pub(crate) fn suspend(self) -> (ReadHalf, Buffered) {
        let buffered = Buffered {
            buffer: self.buffer,
            size: self.size,
            reservation: self.reservation,
        };
        (self.socket, buffered)
    }

    /// Returns the next frame, or `None` when the client has closed the connection between two frames.
    ///
    /// Cancel safe: a dropped call loses nothing that was read.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if self.size.is_none() {
                self.size =
                    frame::peek_size(&self.buffer, self.max_frame).map_err(FrameError::Size)?;
                if self.size.is_some() {
                    self.buffer.advance(SIZE_LEN);
                }
            }
            if let Some(size) = self.size {
                if self.reservation.is_none() {
                    self.reservation = Some(self.budget.reserve(size).await);
                }
                if self.buffer.len() >= size
                    && let Some(reservation) = self.reservation.take()
                {
                    self.size = None;
                    return Ok(Some(Frame {
                        bytes: self.buffer.split_to(size),
                        reservation,
                    }));
                }
            }
            if self.fill().await? == 0 {
                let clean = self.buffer.is_empty() && self.size.is_none();
                return if clean {
                    Ok(None)
                } else {
                    Err(FrameError::Truncated)
                };
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() && self.socket.readable().now_or_never().is_none() {
            self.buffer = BytesMut::new();
        }
        self.socket.readable().await?;
        let missing = self
            .size
            .unwrap_or(SIZE_LEN)
            .saturating_sub(self.buffer.len());
        let growth = missing.min(GROWTH.max(self.buffer.len()));
        self.buffer.reserve(if missing > self.read_ahead {
            growth
        } else {
            self.read_ahead.max(missing)
        });
        let room = self.buffer.capacity() - self.buffer.len();
        let read = self.socket.read_buf(&mut self.buffer).await?;
        self.read_ahead = adapt(self.read_ahead, read, room);
        Ok(read)
    }
}

/// Returns the next read-ahead: more after a read that filled its room, less after one that hardly used it.
fn adapt(read_ahead: usize, read: usize, room: usize) -> usize {
    if read == room {
        (read_ahead * 2).min(READ_AHEAD_MAX)
    } else if read < read_ahead / 4 {
        (read_ahead / 2).max(READ_AHEAD_MIN)
    } else {
        read_ahead
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn reader(max_frame: usize, budget: &ByteBudget) -> (TcpStream, FrameReader) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let client = TcpStream::connect(listener.local_addr().expect("address"))
            .await
            .expect("connects");
        let (server, _) = listener.accept().await.expect("accepts");
        let (read, write) = server.into_split();
        // The other half closes the connection when it goes.
        write.forget();
        let read = ReadHalf::System(read);
        (client, FrameReader::new(read, max_frame, budget.clone()))
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    #[actix_rt::test]
    async fn frames_come_whole_and_in_order_however_they_arrive() {
        let budget = ByteBudget::new(10_000_000);
        let (mut client, mut reader) = reader(8_000_000, &budget).await;
        let bodies = [
            vec![0; 8],
            vec![1; 13],
            vec![2; 3_000_000],
            vec![3; 70_000],
            vec![4; 15],
        ];
        let sent: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        let writing = actix_rt::spawn(async move {
            for piece in sent.chunks(65_537) {
                client.write_all(piece).await.expect("writes");
            }
            client
        });
        for body in &bodies {
            let frame = reader.next().await.expect("reads").expect("a frame");
            assert!(frame.bytes == body[..], "{} bytes", body.len());
        }
        let client = writing.await.expect("written");
        assert_eq!(budget.available(), 10_000_000);
        while reader.buffer.capacity() > 0 {
            assert!(reader.next().now_or_never().is_none());
            actix_rt::task::yield_now().await;
        }
        drop(client);
        assert!(reader.next().await.expect("reads").is_none());
    }

    #[actix_rt::test]
    async fn sizes_outside_of_the_limit_are_refused() {
        for size in [-1, i32::MIN, 7, 101, i32::MAX] {
            let (mut client, mut reader) = reader(100, &ByteBudget::new(1_000)).await;
            client.write_i32(size).await.expect("writes");
            let refused = reader.next().await;
            assert!(matches!(refused, Err(FrameError::Size(_))), "{size}");
        }
    }

    #[actix_rt::test]
    async fn a_connection_that_ends_within_a_frame_says_so() {
        for sent in [&[0_u8, 0][..], &[0, 0, 0, 9], &[0, 0, 0, 9, 1, 2]] {
            let (mut client, mut reader) = reader(100, &ByteBudget::new(1_000)).await;
            client.write_all(sent).await.expect("writes");
            drop(client);
            assert!(
                matches!(reader.next().await, Err(FrameError::Truncated)),
                "{sent:?}"
            );
        }
    }

    #[actix_rt::test]
    async fn a_declared_size_is_reserved_but_not_allocated() {
        let budget = ByteBudget::new(200_000_000);
        let (mut client, mut reader) = reader(100_000_000, &budget).await;
        client.write_i32(100_000_000).await.expect("writes");
        client.write_all(&[0; 10]).await.expect("writes");
        while reader.buffer.len() < 10 {
            assert!(reader.next().now_or_never().is_none());
            actix_rt::task::yield_now().await;
        }
        assert_eq!(budget.available(), 100_000_000);
        assert!(
            reader.buffer.capacity() <= 2 * GROWTH,
            "{}",
            reader.buffer.capacity()
        );
    }

    #[test]
    fn the_read_ahead_follows_the_traffic() {
        assert_eq!(adapt(4_096, 4_096, 4_096), 8_192);
        assert_eq!(adapt(READ_AHEAD_MAX, 65_536, 65_536), READ_AHEAD_MAX);
        assert_eq!(adapt(16_384, 100, 16_384), 8_192);
        assert_eq!(adapt(16_384, 8_000, 16_384), 16_384);
        assert_eq!(adapt(READ_AHEAD_MIN, 1, 4_096), READ_AHEAD_MIN);
    }
}
