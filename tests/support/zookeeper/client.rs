//! One connection, one thread, no hidden reconnects.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use troupe_protocol::zookeeper::jute::{Reader, Writer};

use super::operation::Op;
use super::reply::Message;
use crate::support::process::HANG_GUARD;

/// What a client needs to come back to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: i64,
    pub password: [u8; 16],
}

/// A connected client.
pub struct Client {
    stream: TcpStream,
    pub session: Session,
    /// As the server granted it.
    pub timeout_ms: i32,
    /// The greatest number of a transaction that a reply had.
    pub last_zxid: i64,
    next_xid: i32,
    sent: VecDeque<(i32, Op)>,
}

impl Client {
    /// Connects with a new session.
    #[track_caller]
    pub fn connect(port: u16, timeout_ms: i32) -> Client {
        Self::handshake(port, timeout_ms, None, 0)
            .expect("a server")
            .expect("a new session is granted")
    }

    /// Connects with a new session, if the server is ready for it.
    pub fn try_connect(port: u16, timeout_ms: i32) -> io::Result<Client> {
        Self::handshake(port, timeout_ms, None, 0)?
            .ok_or_else(|| io::Error::other("no session is granted"))
    }

    /// Connects with an earlier session; `None` if the server says that it has ended.
    pub fn reconnect(
        port: u16,
        timeout_ms: i32,
        session: Session,
        last_zxid: i64,
    ) -> io::Result<Option<Client>> {
        Self::handshake(port, timeout_ms, Some(session), last_zxid)
    }

    fn handshake(
        port: u16,
        timeout_ms: i32,
        session: Option<Session>,
        last_zxid: i64,
    ) -> io::Result<Option<Client>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANG_GUARD))?;
        let mut request = BytesMut::new();
        request.put_i32(0);
        request.put_i64(last_zxid);
        request.put_i32(timeout_ms);
        request.put_i64(session.map_or(0, |session| session.id));
        request.string(&session.map_or([0; 16], |session| session.password));
        request.boolean(false);
        write_frame(&mut stream, &request)?;
        let mut reply = Reader::new(read_frame(&mut stream)?);
        let mut field = || -> Result<_, troupe_protocol::zookeeper::jute::JuteError> {
            reply.int()?;
            Ok((
                reply.int()?,
                reply.long()?,
                reply.string()?,
                reply.boolean()?,
            ))
        };
        let (timeout_ms, id, password, read_only) = field().map_err(io::Error::other)?;
        assert!(!read_only, "a server that writes is not read-only");
        if timeout_ms == 0 {
            assert_eq!((id, password.as_ref()), (0, &[0; 16][..]));
            return Ok(None);
        }
        let password = password.as_ref().try_into().map_err(io::Error::other)?;
        Ok(Some(Client {
            stream,
            session: Session { id, password },
            timeout_ms,
            last_zxid,
            next_xid: 1,
            sent: VecDeque::new(),
        }))
    }

    /// Sends one request without waiting for its reply.
    pub fn send(&mut self, op: &Op) -> io::Result<()> {
        let xid = op.special_xid().unwrap_or_else(|| {
            self.next_xid += 1;
            self.next_xid - 1
        });
        let mut request = BytesMut::new();
        request.put_i32(xid);
        request.put_i32(op.code());
        op.encode(&mut request, self.last_zxid);
        self.sent.push_back((xid, op.clone()));
        write_frame(&mut self.stream, &request)
    }

    /// Reads the next reply or event, and checks what holds for every reply: it belongs to the oldest request, and no
    /// transaction number ever goes back.
    pub fn receive(&mut self) -> io::Result<Message> {
        let frame = read_frame(&mut self.stream)?;
        let mut reader = Reader::new(frame);
        let mut header = || -> Result<_, troupe_protocol::zookeeper::jute::JuteError> {
            Ok((reader.int()?, reader.long()?, reader.int()?))
        };
        let (xid, zxid, error) = header().map_err(io::Error::other)?;
        if xid == -1 {
            return Message::event(zxid, reader).map_err(io::Error::other);
        }
        let (expected, op) = self
            .sent
            .pop_front()
            .ok_or_else(|| io::Error::other("a reply that nobody asked for"))?;
        assert_eq!(xid, expected, "the reply to {op:?} has another xid");
        if !matches!(op, Op::Auth(_)) {
            assert!(zxid >= self.last_zxid, "zxid {zxid:x} after {self:?}");
            self.last_zxid = zxid;
        }
        Message::reply(&op, error, reader).map_err(io::Error::other)
    }

    /// Sends one request and returns its reply; what happened before it is lost.
    #[track_caller]
    pub fn call(&mut self, op: &Op) -> Message {
        self.send(op).expect("the server is there");
        loop {
            let message = self.receive().expect("the server answers");
            if !message.is_event() {
                return message;
            }
        }
    }

    /// Lets writes fail that the server does not take in time.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.stream
            .set_write_timeout(Some(timeout))
            .expect("a time");
    }

    /// Sends raw bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "session {:x} at zxid {:x}",
            self.session.id, self.last_zxid
        )
    }
}

fn write_frame(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let length = i32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], body].concat())
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(frame.into())
}
