//! turmoil's network, as brokers and clients see it, and the trace of all that is sent.

use std::io::{self, ErrorKind::ConnectionRefused};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};
use troupe_actors::network::{Network, SimulatedListener, SimulatedNetwork, SimulatedStream};
use turmoil::net::{TcpListener, TcpStream};

/// How long Linux tries to connect.
const SYN_TIMEOUT: Duration = Duration::from_secs(127);

/// A number that two runs share when the same bytes were sent at the same times between the same ends.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<(u64, u64)>>);

impl Trace {
    /// Takes note of something that was sent.
    fn note(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let sent = format!("{from} {to} {:?}", turmoil::sim_elapsed());
        let sum = crc32c::crc32c_append(crc32c::crc32c(sent.as_bytes()), bytes);
        self.add(sum);
    }

    /// Takes note of something else that happened.
    pub fn say(&self, what: &str) {
        self.add(crc32c::crc32c(what.as_bytes()));
    }

    fn add(&self, sum: u32) {
        let mut trace = self.0.lock().unwrap();
        let mixed = (trace.0 ^ u64::from(sum)).wrapping_mul(0x0000_0100_0000_01B3);
        *trace = (mixed ^ (mixed >> 29), trace.1 + 1);
    }

    /// Returns the number, and how much was noted.
    pub fn sum(&self) -> (u64, u64) {
        *self.0.lock().unwrap()
    }
}

/// The network of a run.
pub fn network(trace: &Trace) -> Network {
    Network::Simulated(Arc::new(Turmoil(trace.clone())))
}

struct Turmoil(Trace);

impl SimulatedNetwork for Turmoil {
    fn listen(&self, addr: SocketAddr) -> io::Result<Box<dyn SimulatedListener>> {
        if addr.is_ipv6() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let bound = TcpListener::bind(addr).now_or_never();
        let listener = bound.expect("turmoil binds at once")?;
        Ok(Box::new(Listener(listener, self.0.clone())))
    }

    fn connect(
        &self,
        host: String,
        port: u16,
    ) -> BoxFuture<'static, io::Result<Box<dyn SimulatedStream>>> {
        let trace = self.0.clone();
        let connect = async move {
            let began = Instant::now();
            match TcpStream::connect((host, port)).await {
                // turmoil refuses at once what it loses on the way; a system goes on trying and says nothing.
                Err(error) if error.kind() == ConnectionRefused && began.elapsed().is_zero() => {
                    sleep(SYN_TIMEOUT).await;
                    Err(io::ErrorKind::TimedOut.into())
                }
                connected => Stream::new(connected?, trace),
            }
        };
        connect.boxed()
    }
}

struct Listener(TcpListener, Trace);

impl SimulatedListener for Listener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn SimulatedStream>, SocketAddr)>> {
        let accept = async {
            let (stream, peer) = self.0.accept().await?;
            Ok((Stream::new(stream, self.1.clone())?, peer))
        };
        accept.boxed()
    }
}

struct Stream {
    stream: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    trace: Trace,
}

impl Stream {
    #[expect(clippy::new_ret_no_self, reason = "nobody needs to know which it is")]
    fn new(stream: TcpStream, trace: Trace) -> io::Result<Box<dyn SimulatedStream>> {
        Ok(Box::new(Self {
            local: stream.local_addr()?,
            peer: stream.peer_addr()?,
            stream,
            trace,
        }))
    }
}

impl SimulatedStream for Stream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.trace.note(self.local, self.peer, &bytes[..*count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
