//! The network of a process: the system's, or one that a simulation makes.
//!
//! The streams of the system stay what they are, for a file goes to a socket by `sendfile`; those of a simulation are
//! anything that reads and writes.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, lookup_host};

/// Where connections are made and accepted.
#[derive(Clone, Default)]
pub enum Network {
    /// The system's sockets.
    #[default]
    System,
    /// What a simulation has instead.
    Simulated(Arc<dyn SimulatedNetwork>),
}

/// Makes and accepts connections in a simulation.
pub trait SimulatedNetwork: Send + Sync {
    /// Listens on an address of the current host.
    ///
    /// # Errors
    /// When somebody listens there.
    fn listen(&self, addr: SocketAddr) -> io::Result<Box<dyn SimulatedListener>>;

    /// Connects to a port of a host, which is named or has an address.
    ///
    /// # Errors
    /// When nobody listens there, or the host can't be reached.
    fn connect(
        &self,
        host: String,
        port: u16,
    ) -> BoxFuture<'static, io::Result<Box<dyn SimulatedStream>>>;
}

/// Accepts connections in a simulation.
pub trait SimulatedListener: Send + Sync {
    /// Returns the address that is listened on.
    ///
    /// # Errors
    /// When there is none any more.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for the next connection and returns it with the address of its other end.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn SimulatedStream>, SocketAddr)>>;
}

/// A connection in a simulation.
pub trait SimulatedStream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns the address of this end.
    ///
    /// # Errors
    /// When there is none any more.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Network {
    /// Listens on an address.
    ///
    /// # Errors
    /// What the system, or the simulation, says.
    pub async fn listen(&self, addr: SocketAddr) -> io::Result<Listener> {
        match self {
            Self::System => TcpListener::bind(addr).await.map(Listener::System),
            Self::Simulated(network) => network.listen(addr).map(Listener::Simulated),
        }
    }

    /// Lists the addresses of a host; a simulation knows it by name alone.
    ///
    /// # Errors
    /// What the system's resolver says.
    pub async fn resolve(&self, host: &str) -> io::Result<Vec<String>> {
        match self {
            Self::System => {
                let found = lookup_host((host, 0)).await?;
                Ok(found.map(|address| address.ip().to_string()).collect())
            }
            Self::Simulated(_) => Ok(vec![host.to_owned()]),
        }
    }

    /// Connects to a port of a host; on the system's network without Nagle's algorithm.
    ///
    /// # Errors
    /// What the system, or the simulation, says.
    pub async fn connect(&self, (host, port): (&str, u16)) -> io::Result<Stream> {
        match self {
            Self::System => {
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::System(stream))
            }
            Self::Simulated(network) => {
                let connecting = network.connect(host.to_owned(), port);
                Ok(Stream::Simulated(connecting.await?))
            }
        }
    }
}

/// A socket that listens, on no thread yet.
pub enum BoundSocket {
    /// The system's.
    System(StdListener),
    /// A simulation's.
    Simulated(Box<dyn SimulatedListener>),
}

impl BoundSocket {
    /// Returns the address, with the port that was really taken.
    ///
    /// # Errors
    /// What the system, or the simulation, says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(socket) => socket.local_addr(),
            Self::Simulated(socket) => socket.local_addr(),
        }
    }

    /// Accepts on the current thread from now on.
    pub(crate) fn attach(self) -> io::Result<Listener> {
        Ok(match self {
            Self::System(socket) => {
                socket.set_nonblocking(true)?;
                Listener::System(TcpListener::from_std(socket)?)
            }
            Self::Simulated(socket) => Listener::Simulated(socket),
        })
    }
}

/// Accepts connections on the thread where it was made.
pub enum Listener {
    /// The system's.
    System(TcpListener),
    /// A simulation's.
    Simulated(Box<dyn SimulatedListener>),
}

impl Listener {
    /// Returns the address, with the port that was really taken.
    ///
    /// # Errors
    /// What the system, or the simulation, says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(listener) => listener.local_addr(),
            Self::Simulated(listener) => listener.local_addr(),
        }
    }

    /// Waits for the next connection, which may go to any thread, and returns it with the address of its other end.
    pub(crate) async fn accept(&self) -> io::Result<(Detached, SocketAddr)> {
        match self {
            Self::System(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Detached::System(stream.into_std()?), peer))
            }
            Self::Simulated(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Detached::Simulated(stream), peer))
            }
        }
    }
}

/// A connection on its way to another thread: a socket belongs to the thread that polls it.
pub(crate) enum Detached {
    System(StdStream),
    Simulated(Box<dyn SimulatedStream>),
}

impl Detached {
    /// Sends what is written at once, without Nagle's algorithm.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::System(stream) => stream.set_nodelay(true),
            Self::Simulated(_) => Ok(()),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(stream) => stream.local_addr(),
            Self::Simulated(stream) => stream.local_addr(),
        }
    }

    /// Makes it one of the current thread's.
    pub(crate) fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Self::System(stream) => Stream::System(TcpStream::from_std(stream)?),
            Self::Simulated(stream) => Stream::Simulated(stream),
        })
    }
}

/// An open connection.
pub enum Stream {
    /// The system's.
    System(TcpStream),
    /// A simulation's.
    Simulated(Box<dyn SimulatedStream>),
}

impl Stream {
    /// Takes it off its thread.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::System(stream) => Detached::System(stream.into_std()?),
            Self::Simulated(stream) => Detached::Simulated(stream),
        })
    }

    /// Splits it into a half that reads and one that writes.
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::System(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::System(read), WriteHalf::System(write))
            }
            Self::Simulated(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::Simulated(read), WriteHalf::Simulated(write))
            }
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::System(stream)
    }
}

/// The half of a connection that reads.
pub(crate) enum ReadHalf {
    System(OwnedReadHalf),
    Simulated(tokio::io::ReadHalf<Box<dyn SimulatedStream>>),
}

impl ReadHalf {
    /// Waits until there may be something to read, before room for it is made.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::System(half) => half.readable().await,
            Self::Simulated(_) => Ok(()),
        }
    }
}

/// The half of a connection that writes.
pub(crate) enum WriteHalf {
    System(OwnedWriteHalf),
    Simulated(tokio::io::WriteHalf<Box<dyn SimulatedStream>>),
}

impl WriteHalf {
    /// Joins it with its other half again.
    pub(crate) fn reunite(self, read: ReadHalf) -> io::Result<Stream> {
        match (self, read) {
            (Self::System(write), ReadHalf::System(read)) => {
                let stream = read.reunite(write).map_err(io::Error::other)?;
                Ok(Stream::System(stream))
            }
            (Self::Simulated(write), ReadHalf::Simulated(read)) if read.is_pair_of(&write) => {
                Ok(Stream::Simulated(read.unsplit(write)))
            }
            _ => Err(io::Error::other("halves of different connections")),
        }
    }

    /// Writes some of the bytes, in their order, and returns how many.
    pub(crate) async fn write_some(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        poll_fn(|context| Pin::new(&mut *self).poll_write_vectored(context, slices)).await
    }
}

/// Passes reads on to whatever there is.
macro_rules! read_through {
    ($name:ident) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::System(inner) => Pin::new(inner).poll_read(context, buffer),
                    Self::Simulated(inner) => Pin::new(inner).poll_read(context, buffer),
                }
            }
        }
    };
}

/// Passes writes on to whatever there is.
macro_rules! write_through {
    ($name:ident) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::System(inner) => Pin::new(inner).poll_write(context, bytes),
                    Self::Simulated(inner) => Pin::new(inner).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::System(inner) => Pin::new(inner).poll_write_vectored(context, slices),
                    Self::Simulated(inner) => Pin::new(inner).poll_write_vectored(context, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::System(inner) => inner.is_write_vectored(),
                    Self::Simulated(inner) => inner.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::System(inner) => Pin::new(inner).poll_flush(context),
                    Self::Simulated(inner) => Pin::new(inner).poll_flush(context),
                }
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::System(inner) => Pin::new(inner).poll_shutdown(context),
                    Self::Simulated(inner) => Pin::new(inner).poll_shutdown(context),
                }
            }
        }
    };
}

read_through!(Stream);
read_through!(ReadHalf);
write_through!(Stream);
write_through!(WriteHalf);
