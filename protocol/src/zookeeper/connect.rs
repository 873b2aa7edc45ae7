//! The handshake: the first frame each way, without request and reply headers.

use bytes::{BufMut, Bytes};

use super::frame::build_frame;
use super::jute::{JuteError, Reader, Writer};

/// Length of a session password, in bytes.
pub const PASSWORD_LEN: usize = 16;

/// A client asks for a session, new or its earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Always 0.
    pub protocol_version: i32,
    /// The newest transaction that the client has seen.
    pub last_zxid_seen: i64,
    /// The wanted session time-out.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session_id: i64,
    /// What the server gave out with the session.
    pub password: Bytes,
    /// Whether a read-only server would do; `None` from clients older than 3.4, which do not send it.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Builds the frame.
    pub fn to_frame(&self) -> Bytes {
        build_frame(|out| {
            out.put_i32(self.protocol_version);
            out.put_i64(self.last_zxid_seen);
            out.put_i32(self.timeout_ms);
            out.put_i64(self.session_id);
            out.string(&self.password);
            if let Some(read_only) = self.read_only {
                out.boolean(read_only);
            }
        })
    }

    /// Reads the frame.
    pub fn decode(frame: Bytes) -> Result<Self, JuteError> {
        let mut reader = Reader::new(frame);
        Ok(Self {
            protocol_version: reader.int()?,
            last_zxid_seen: reader.long()?,
            timeout_ms: reader.int()?,
            session_id: reader.long()?,
            password: reader.buffer()?.unwrap_or_default(),
            read_only: match reader.remaining() {
                0 => None,
                _ => Some(reader.boolean()?),
            },
        })
    }
}

/// The server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The negotiated time-out; 0 tells the client that its session has expired.
    pub timeout_ms: i32,
    /// The session, 0 when refused.
    pub session_id: i64,
    /// Proves later that the session is the client's.
    pub password: [u8; PASSWORD_LEN],
}

impl ConnectResponse {
    /// Reads the record; a password of another length than 16 is none that could be sent back.
    pub fn decode(frame: Bytes) -> Result<Self, JuteError> {
        let mut reader = Reader::new(frame);
        reader.int()?;
        Ok(Self {
            timeout_ms: reader.int()?,
            session_id: reader.long()?,
            password: reader
                .buffer()?
                .and_then(|password| password.as_ref().try_into().ok())
                .unwrap_or_default(),
        })
    }

    /// The answer to a session that is not (or no longer) there.
    pub const EXPIRED: Self = Self {
        timeout_ms: 0,
        session_id: 0,
        password: [0; PASSWORD_LEN],
    };

    /// Builds the frame; the read-only byte is only for those who sent theirs.
    pub fn to_frame(&self, with_read_only: bool) -> Bytes {
        build_frame(|out| {
            out.put_i32(0);
            out.put_i32(self.timeout_ms);
            out.put_i64(self.session_id);
            out.string(&self.password);
            if with_read_only {
                out.boolean(false);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn the_read_only_byte_is_optional() {
        let mut bytes = BytesMut::new();
        bytes.put_i32(0);
        bytes.put_i64(7);
        bytes.put_i32(6000);
        bytes.put_i64(9);
        bytes.string(&[1; 16]);
        let old = ConnectRequest::decode(bytes.clone().freeze()).unwrap();
        assert_eq!((old.last_zxid_seen, old.read_only), (7, None));
        bytes.boolean(true);
        let new = ConnectRequest::decode(bytes.freeze()).unwrap();
        assert_eq!((new.session_id, new.read_only), (9, Some(true)));
        for request in [old, new] {
            assert_eq!(
                ConnectRequest::decode(request.to_frame().slice(4..)),
                Ok(request)
            );
        }
        let response = ConnectResponse {
            timeout_ms: 6000,
            session_id: 9,
            password: [1; 16],
        };
        assert_eq!(
            ConnectResponse::decode(response.to_frame(true).slice(4..)),
            Ok(response)
        );
        assert_eq!(ConnectResponse::EXPIRED.to_frame(false).len(), 4 + 36);
        assert_eq!(ConnectResponse::EXPIRED.to_frame(true).len(), 4 + 37);
    }
}
