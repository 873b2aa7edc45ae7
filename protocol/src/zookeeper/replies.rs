//! Replies: a header of xid, zxid and error, then the operation's record if there was no error.

use bytes::{BufMut, Bytes, BytesMut};

use super::errors::ErrorCode;
use super::frame::build_frame;
use super::jute::Writer;
use super::records::{Acl, EventType, Id, Stat};
use super::requests::{NOTIFICATION_XID, op};

/// The record of a successful reply.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum Reply {
    Empty,
    Path(Bytes),
    PathStat(Bytes, Stat),
    Stat(Stat),
    Data(Option<Bytes>, Stat),
    Children(Vec<Bytes>),
    ChildrenStat(Vec<Bytes>, Stat),
    Acl(Vec<Acl>, Stat),
    Number(i32),
    Ids(Vec<Id>),
    /// A token that is null: SASL is not configured.
    NullToken,
    /// What addWatch answers: an error record that says "none".
    NoError,
    Multi(Vec<MultiResult>),
}

/// The result of one item of a multi or multiRead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiResult {
    /// The item's operation and its record.
    Done(i32, Reply),
    /// Why the item was not done; `Ok` for those before the item that failed.
    Error(ErrorCode),
}

impl Reply {
    /// Builds the frame of a successful reply.
    pub fn to_frame(&self, xid: i32, zxid: i64) -> Bytes {
        build_frame(|out| {
            header(out, xid, zxid, ErrorCode::Ok);
            self.encode(out);
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Empty => {}
            Self::Path(path) => out.string(path),
            Self::PathStat(path, stat) => {
                out.string(path);
                stat.encode(out);
            }
            Self::Stat(stat) => stat.encode(out),
            Self::Data(data, stat) => {
                out.buffer(data.as_deref());
                stat.encode(out);
            }
            Self::Children(names) => vector(out, names, |out, name| out.string(name)),
            Self::ChildrenStat(names, stat) => {
                vector(out, names, |out, name| out.string(name));
                stat.encode(out);
            }
            Self::Acl(acl, stat) => {
                vector(out, acl, |out, entry| entry.encode(out));
                stat.encode(out);
            }
            Self::Number(number) => out.put_i32(*number),
            Self::Ids(ids) => vector(out, ids, |out, id| id.encode(out)),
            Self::NullToken => out.buffer(None),
            Self::NoError => out.put_i32(0),
            Self::Multi(results) => multi(out, results),
        }
    }
}

/// Builds the frame of a reply that is an error: a header and nothing else.
pub fn error_frame(xid: i32, zxid: i64, error: ErrorCode) -> Bytes {
    build_frame(|out| header(out, xid, zxid, error))
}

/// Builds the frame of a watch notification; `zxid` is the transaction that caused it, -1 if none did.
pub fn event_frame(event: EventType, path: &[u8], zxid: i64) -> Bytes {
    const SYNC_CONNECTED: i32 = 3;
    build_frame(|out| {
        header(out, NOTIFICATION_XID, zxid, ErrorCode::Ok);
        out.put_i32(event as i32);
        out.put_i32(SYNC_CONNECTED);
        out.string(path);
    })
}

fn header(out: &mut BytesMut, xid: i32, zxid: i64, error: ErrorCode) {
    out.put_i32(xid);
    out.put_i64(zxid);
    out.put_i32(error.code());
}

fn vector<T>(out: &mut BytesMut, elements: &[T], mut encode: impl FnMut(&mut BytesMut, &T)) {
    out.length(elements.len());
    for element in elements {
        encode(out, element);
    }
}

/// An error's operation number, also that of the terminator.
const ERROR_OP: i32 = -1;

fn multi(out: &mut BytesMut, results: &[MultiResult]) {
    for result in results {
        match result {
            MultiResult::Done(op, reply) => {
                multi_header(out, *op, false, 0);
                match (*op, reply) {
                    // Inside of a multi these two have no record.
                    (op::DELETE | op::CHECK, _) => {}
                    (_, reply) => reply.encode(out),
                }
            }
            MultiResult::Error(error) => {
                multi_header(out, ERROR_OP, false, error.code());
                out.put_i32(error.code());
            }
        }
    }
    multi_header(out, ERROR_OP, true, -1);
}

fn multi_header(out: &mut BytesMut, op: i32, done: bool, error: i32) {
    out.put_i32(op);
    out.boolean(done);
    out.put_i32(error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_multi_has_no_error_in_its_header_but_one_per_item() {
        let reply = Reply::Multi(vec![
            MultiResult::Error(ErrorCode::Ok),
            MultiResult::Error(ErrorCode::BadVersion),
        ]);
        let frame = reply.to_frame(4, 9);
        assert_eq!(frame[4..8], 4i32.to_be_bytes());
        assert_eq!(frame[16..20], 0i32.to_be_bytes());
        assert_eq!(&frame[20..33], b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0");
        assert_eq!(frame[38..42], (-103i32).to_be_bytes());
        assert_eq!(frame[42..46], (-103i32).to_be_bytes());
        assert_eq!(&frame[46..], b"\xff\xff\xff\xff\x01\xff\xff\xff\xff");
    }

    #[test]
    fn an_event_names_the_path() {
        let frame = event_frame(EventType::NodeDeleted, b"/a", -1);
        assert_eq!(
            &frame[4..],
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0\x02/a"
        );
    }
}
