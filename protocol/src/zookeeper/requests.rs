//! Requests: a header of xid and operation, then the operation's record.

use bytes::Bytes;

use super::jute::{JuteError, Reader};
use super::multi::{self, MultiRead, Write};
use super::records::Acl;

/// Operation numbers on the wire.
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
}

/// The xid of watch notifications.
pub const NOTIFICATION_XID: i32 = -1;
/// The xid of pings.
pub const PING_XID: i32 = -2;

/// One request of a connected client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client, given back in the reply.
    pub xid: i32,
    /// What it asks for.
    pub operation: Operation,
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum Operation {
    Write(Write),
    Multi(Vec<Write>),
    MultiRead(Vec<MultiRead>),
    Exists {
        path: Bytes,
        watch: bool,
    },
    GetData {
        path: Bytes,
        watch: bool,
    },
    GetChildren {
        path: Bytes,
        watch: bool,
    },
    GetChildren2 {
        path: Bytes,
        watch: bool,
    },
    GetAcl {
        path: Bytes,
    },
    GetEphemerals {
        prefix: Bytes,
    },
    GetAllChildrenNumber {
        path: Bytes,
    },
    Sync {
        path: Bytes,
    },
    Ping,
    CloseSession,
    Auth {
        scheme: Bytes,
        auth: Bytes,
    },
    SetWatches(SetWatches),
    AddWatch {
        path: Bytes,
        recursive: bool,
    },
    CheckWatches {
        path: Bytes,
        kind: WatcherType,
    },
    RemoveWatches {
        path: Bytes,
        kind: WatcherType,
    },
    WhoAmI,
    Reconfig,
    Sasl,
    /// Known to nobody here: answered with `Unimplemented`.
    Unknown(i32),
    /// Its record does not decode: answered with this error's code.
    Malformed(JuteError),
}

/// Which of its watches a client means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum WatcherType {
    Children,
    Data,
    Any,
    Persistent,
    PersistentRecursive,
}

impl WatcherType {
    fn decode(reader: &mut Reader) -> Result<Self, JuteError> {
        Ok(match reader.int()? {
            1 => Self::Children,
            2 => Self::Data,
            3 => Self::Any,
            4 => Self::Persistent,
            5 => Self::PersistentRecursive,
            unknown => return Err(JuteError::Mode(unknown)),
        })
    }
}

/// The watches that a client had before it reconnected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct SetWatches {
    /// The newest transaction that the client has seen: what changed after it is reported at once.
    pub relative_zxid: i64,
    pub data: Vec<Bytes>,
    pub exist: Vec<Bytes>,
    pub child: Vec<Bytes>,
    pub persistent: Vec<Bytes>,
    pub persistent_recursive: Vec<Bytes>,
}

impl Request {
    /// Reads a frame. Only a frame without a whole header is an error; a bad record becomes [`Operation::Malformed`],
    /// because its sender waits for the reply to that xid.
    pub fn decode(frame: Bytes) -> Result<Self, JuteError> {
        let mut reader = Reader::new(frame);
        let xid = reader.int()?;
        let code = reader.int()?;
        let operation = decode_operation(code, &mut reader).unwrap_or_else(Operation::Malformed);
        Ok(Self { xid, operation })
    }
}

fn decode_operation(code: i32, reader: &mut Reader) -> Result<Operation, JuteError> {
    if let Some(write) = Write::decode(code, reader)? {
        return Ok(Operation::Write(write));
    }
    Ok(match code {
        op::EXISTS => watching(reader, |path, watch| Operation::Exists { path, watch })?,
        op::GET_DATA => watching(reader, |path, watch| Operation::GetData { path, watch })?,
        op::GET_CHILDREN => watching(reader, |path, watch| Operation::GetChildren { path, watch })?,
        op::GET_CHILDREN2 => watching(reader, |path, watch| Operation::GetChildren2 {
            path,
            watch,
        })?,
        op::GET_ACL => Operation::GetAcl {
            path: reader.string()?,
        },
        op::SYNC => Operation::Sync {
            path: reader.string()?,
        },
        op::GET_EPHEMERALS => Operation::GetEphemerals {
            prefix: reader.buffer()?.unwrap_or_default(),
        },
        op::GET_ALL_CHILDREN_NUMBER => Operation::GetAllChildrenNumber {
            path: reader.string()?,
        },
        op::PING => Operation::Ping,
        op::CLOSE_SESSION => Operation::CloseSession,
        op::WHO_AM_I => Operation::WhoAmI,
        op::RECONFIG => Operation::Reconfig,
        op::SASL => Operation::Sasl,
        op::MULTI => Operation::Multi(multi::decode_writes(reader)?),
        op::MULTI_READ => Operation::MultiRead(multi::decode_reads(reader)?),
        op::AUTH => {
            reader.int()?;
            Operation::Auth {
                scheme: reader.string()?,
                auth: reader.buffer()?.unwrap_or_default(),
            }
        }
        op::SET_WATCHES => Operation::SetWatches(decode_set_watches(reader, false)?),
        op::SET_WATCHES2 => Operation::SetWatches(decode_set_watches(reader, true)?),
        op::ADD_WATCH => decode_add_watch(reader)?,
        op::CHECK_WATCHES => Operation::CheckWatches {
            path: reader.string()?,
            kind: WatcherType::decode(reader)?,
        },
        op::REMOVE_WATCHES => Operation::RemoveWatches {
            path: reader.string()?,
            kind: WatcherType::decode(reader)?,
        },
        unknown => Operation::Unknown(unknown),
    })
}

fn watching(
    reader: &mut Reader,
    operation: impl FnOnce(Bytes, bool) -> Operation,
) -> Result<Operation, JuteError> {
    Ok(operation(reader.string()?, reader.boolean()?))
}

fn decode_set_watches(reader: &mut Reader, persistent: bool) -> Result<SetWatches, JuteError> {
    let mut watches = SetWatches {
        relative_zxid: reader.long()?,
        data: reader.strings()?,
        exist: reader.strings()?,
        child: reader.strings()?,
        ..SetWatches::default()
    };
    if persistent {
        watches.persistent = reader.strings()?;
        watches.persistent_recursive = reader.strings()?;
    }
    Ok(watches)
}

fn decode_add_watch(reader: &mut Reader) -> Result<Operation, JuteError> {
    Ok(Operation::AddWatch {
        path: reader.string()?,
        recursive: match reader.int()? {
            0 => false,
            1 => true,
            unknown => return Err(JuteError::Mode(unknown)),
        },
    })
}

pub(super) fn decode_acls(reader: &mut Reader) -> Result<Vec<Acl>, JuteError> {
    Ok(reader.vector(Acl::decode)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &'static [u8]) -> Request {
        Request::decode(Bytes::from_static(bytes)).unwrap()
    }

    #[test]
    fn unknown_operations_and_bad_records_keep_their_xid() {
        let unknown = decode(b"\0\0\0\x05\0\0\x03\xe7anything");
        assert_eq!(
            (unknown.xid, unknown.operation),
            (5, Operation::Unknown(999))
        );
        let short = decode(b"\0\0\0\x06\0\0\0\x04\0\0\0\x09/a");
        assert_eq!(
            (short.xid, short.operation),
            (6, Operation::Malformed(JuteError::Truncated))
        );
        assert!(Request::decode(Bytes::from_static(b"\0\0\0\x01\0\0")).is_err());
    }

    #[test]
    fn a_path_need_not_be_utf8() {
        let read = decode(b"\0\0\0\x01\0\0\0\x04\0\0\0\x04/\xed\xa0\xbd\x01");
        assert_eq!(
            read.operation,
            Operation::GetData {
                path: Bytes::from_static(b"/\xed\xa0\xbd"),
                watch: true
            }
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(code in -12i32..110, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = vec![0, 0, 0, 1];
            frame.extend_from_slice(&code.to_be_bytes());
            frame.extend_from_slice(&body);
            prop_assert!(Request::decode(frame.into()).is_ok());
        }
    }
}
