//! A reply on its way to the client: pieces of memory and of files, sent without copying either together.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::network::{ReadHalf, Stream, WriteHalf};
use crate::storage::{FileSlice, StorageFile};

/// Bytes of a file sent before other connections of the thread get their turn.
const FILE_CHUNK: u64 = 512 * 1024;
/// Bytes read at once from a file that has no descriptor.
const READ_CHUNK: u64 = 64 * 1024;
/// Pieces of memory handed to the kernel in one call.
const MAX_SLICES: usize = 32;

/// A part of a reply.
#[derive(Debug, Clone)]
pub enum Piece {
    /// From memory.
    Bytes(Bytes),
    /// From a file, by `sendfile`.
    File(FileSlice),
}

/// A whole response frame: size, header and body.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The parts, in order.
    pub pieces: Vec<Piece>,
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self {
            pieces: vec![Piece::Bytes(bytes)],
        }
    }
}

/// Writes replies to a socket, in the order in which they are given.
pub(crate) struct ReplyWriter {
    socket: WriteHalf,
    queue: VecDeque<Piece>,
    stall_timeout: Duration,
}

impl ReplyWriter {
    /// Writes to `socket`; a client that takes nothing for `stall_timeout` is given up.
    pub(crate) fn new(socket: WriteHalf, stall_timeout: Duration) -> Self {
        Self {
            socket,
            queue: VecDeque::new(),
            stall_timeout,
        }
    }

    /// Joins the two halves of the connection again; nothing may be queued.
    pub(crate) fn reunite(self, read: ReadHalf) -> io::Result<Stream> {
        self.socket.reunite(read)
    }

    /// Puts a reply at the end of the queue.
    pub(crate) fn push(&mut self, reply: Reply) {
        self.queue.extend(reply.pieces);
    }

    /// Sends all that is queued and lets go of its memory.
    ///
    /// Fails with `TimedOut` when the client takes nothing, with `UnexpectedEof` when a file is shorter than its range.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while let Some(front) = self.queue.front_mut() {
            match front {
                Piece::Bytes(_) => self.send_bytes().await?,
                Piece::File(slice) if slice.len == 0 => {
                    self.queue.pop_front();
                }
                Piece::File(slice) => send_file(&self.socket, slice, self.stall_timeout)
                    .await
                    .map(|read| {
                        if let Some(read) = read {
                            self.queue.push_front(Piece::Bytes(read));
                        }
                    })?,
            }
        }
        if self.queue.capacity() > 2 * MAX_SLICES {
            self.queue = VecDeque::new();
        }
        Ok(())
    }

    /// Sends the pieces of memory at the front in one call, as far as the socket takes them.
    async fn send_bytes(&mut self) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        let pieces = self.queue.iter().map_while(|piece| match piece {
            Piece::Bytes(bytes) => Some(bytes),
            Piece::File(_) => None,
        });
        for (slice, bytes) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let sent = match &mut self.socket {
            WriteHalf::System(socket) => {
                // What follows from a file shall leave in the same packets.
                let mut flags = SendFlags::NOSIGNAL;
                flags.set(SendFlags::MORE, self.queue.len() > count);
                let socket = socket.as_ref();
                let mut control = SendAncillaryBuffer::default();
                let send = || sendmsg(socket, slices, &mut control, flags);
                writing(socket, self.stall_timeout, send).await?
            }
            simulated => tokio::time::timeout(self.stall_timeout, simulated.write_some(slices))
                .await
                .map_err(too_slow)??,
        };
        self.advance(sent);
        Ok(())
    }

    /// Drops `sent` bytes from the pieces of memory at the front.
    fn advance(&mut self, mut sent: usize) {
        while let Some(Piece::Bytes(bytes)) = self.queue.front_mut() {
            if sent < bytes.len() {
                bytes.advance(sent);
                return;
            }
            sent -= bytes.len();
            self.queue.pop_front();
        }
    }
}

fn too_slow(_: tokio::time::error::Elapsed) -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Sends the next chunk of a file; returns it, read, when there is no descriptor to send from, or none to send to.
async fn send_file(
    socket: &WriteHalf,
    slice: &mut FileSlice,
    stall_timeout: Duration,
) -> io::Result<Option<Bytes>> {
    let (Some(file), WriteHalf::System(socket)) = (slice.file.as_fd(), socket) else {
        let bytes = read_chunk(
            slice.file.as_ref(),
            slice.position,
            slice.len.min(READ_CHUNK),
        )?;
        slice.position += bytes.len() as u64;
        slice.len -= bytes.len() as u64;
        return Ok(Some(bytes));
    };
    let chunk = usize::try_from(slice.len.min(FILE_CHUNK)).unwrap_or(usize::MAX);
    let mut position = slice.position;
    let socket = socket.as_ref();
    let sent = writing(socket, stall_timeout, || {
        rustix::fs::sendfile(socket, file, Some(&mut position), chunk)
    })
    .await?;
    if sent == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    slice.position += sent as u64;
    slice.len = slice.len.saturating_sub(sent as u64);
    if sent == chunk {
        tokio::task::yield_now().await;
    }
    Ok(None)
}

fn read_chunk(file: &dyn StorageFile, position: u64, len: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?];
    crate::storage::read_exact_at(file, &mut bytes, position)?;
    Ok(bytes.into())
}

/// Calls `send` as often as it takes for the socket to accept something.
async fn writing(
    socket: &TcpStream,
    stall_timeout: Duration,
    mut send: impl FnMut() -> rustix::io::Result<usize>,
) -> io::Result<usize> {
    let sending = socket.async_io(Interest::WRITABLE, || {
        rustix::io::retry_on_intr(&mut send).map_err(io::Error::from)
    });
    tokio::time::timeout(stall_timeout, sending)
        .await
        .map_err(too_slow)?
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::storage::{Disk, Storage};

    /// A file that cannot be sent from the kernel.
    struct NoDescriptor(Arc<dyn StorageFile>);

    impl StorageFile for NoDescriptor {
        fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
            self.0.read_at(buffer, position)
        }
        fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
            self.0.write_all_at(bytes, position)
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn allocate(&self, len: u64) -> io::Result<()> {
            self.0.allocate(len)
        }
        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
        fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            None
        }
    }

    fn file(dir: &Path, contents: &[u8]) -> Arc<dyn StorageFile> {
        let file = Disk.open(&dir.join("file"), true).expect("opens");
        file.write_all_at(contents, 0).expect("writes");
        file
    }

    async fn writer() -> (TcpStream, ReplyWriter) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let client = TcpStream::connect(listener.local_addr().expect("address"))
            .await
            .expect("connects");
        let (server, _) = listener.accept().await.expect("accepts");
        (
            client,
            ReplyWriter::new(
                Stream::from(server).into_split().1,
                Duration::from_secs(600),
            ),
        )
    }

    #[actix_rt::test]
    async fn pieces_arrive_in_order_whatever_they_are_made_of() {
        let dir = tempfile::tempdir().expect("a directory");
        let contents: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let real = file(dir.path(), &contents);
        let read: Arc<dyn StorageFile> = Arc::new(NoDescriptor(Arc::clone(&real)));
        let slice = |file: &Arc<dyn StorageFile>, position, len| {
            Piece::File(FileSlice {
                file: Arc::clone(file),
                position,
                len,
            })
        };
        let mut pieces = vec![
            Piece::Bytes(Bytes::from_static(b"head")),
            slice(&real, 7, 2_000_000),
            slice(&real, 9, 0),
            Piece::Bytes(Bytes::new()),
            Piece::Bytes(Bytes::from_static(b"middle")),
            slice(&read, 11, 200_001),
        ];
        let mut expected = [
            b"head",
            &contents[7..2_000_007],
            b"middle",
            &contents[11..200_012],
        ]
        .concat();
        for i in 0..100_u8 {
            pieces.push(Piece::Bytes(Bytes::from(vec![i; 1_000])));
            expected.extend_from_slice(&[i; 1_000]);
        }
        let (mut client, mut writer) = writer().await;
        writer.push(Reply { pieces });
        let writing = actix_rt::spawn(async move { writer.flush().await });
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.expect("reads");
        writing.await.expect("no panic").expect("writes");
        assert!(
            received == expected,
            "{} of {} bytes",
            received.len(),
            expected.len()
        );
    }

    #[actix_rt::test]
    async fn a_file_shorter_than_its_range_fails_the_reply() {
        let dir = tempfile::tempdir().expect("a directory");
        let real = file(dir.path(), &[0; 100]);
        let read: Arc<dyn StorageFile> = Arc::new(NoDescriptor(Arc::clone(&real)));
        for file in [real, read] {
            let (_client, mut writer) = writer().await;
            writer.push(Reply {
                pieces: vec![Piece::File(FileSlice {
                    file,
                    position: 0,
                    len: 101,
                })],
            });
            let failed = writer.flush().await.expect_err("the file is short");
            assert_eq!(failed.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
