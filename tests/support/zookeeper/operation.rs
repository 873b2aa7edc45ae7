//! What a client can send, with the encoding of its own that the server is tested by.

use bytes::{BufMut, BytesMut};
use troupe_protocol::zookeeper::jute::Writer;
use troupe_protocol::zookeeper::requests::op;
use troupe_protocol::zookeeper::{Acl, Id};

/// An operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// By any of the four create operations.
    Create {
        code: i32,
        path: String,
        data: Option<Vec<u8>>,
        acl: Vec<Acl>,
        flags: i32,
        ttl_ms: i64,
    },
    Delete(String, i32),
    DeleteContainer(String),
    Exists(String, bool),
    GetData(String, bool),
    SetData(String, Option<Vec<u8>>, i32),
    GetAcl(String),
    SetAcl(String, Vec<Acl>, i32),
    GetChildren(String, bool),
    GetChildren2(String, bool),
    Sync(String),
    Ping,
    Check(String, i32),
    Multi(Vec<Op>),
    MultiRead(Vec<Op>),
    CheckWatches(String, i32),
    RemoveWatches(String, i32),
    SetWatches(Since, WatchLists),
    SetWatches2(Since, WatchLists),
    AddWatch(String, i32),
    GetEphemerals(String),
    GetAllChildrenNumber(String),
    WhoAmI,
    Reconfig,
    Auth(Auth),
    Close,
    /// Anything, well-formed or not.
    Raw(i32, Vec<u8>),
}

/// A proof of somebody's name.
#[derive(Clone, Debug)]
pub struct Auth {
    pub scheme: &'static str,
    pub proof: &'static str,
}

/// Which changes a reconnected client wants to be told of.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// All.
    Ever,
    /// Those after the last reply that it got.
    LastReply,
}

/// The watches of a reconnected client.
#[derive(Clone, Debug, Default)]
pub struct WatchLists {
    pub data: Vec<String>,
    pub exist: Vec<String>,
    pub child: Vec<String>,
    pub persistent: Vec<String>,
    pub recursive: Vec<String>,
}

/// The list that lets anyone do everything.
pub fn open_acl() -> Vec<Acl> {
    vec![Acl {
        perms: 31,
        id: Id::new("world", "anyone"),
    }]
}

impl Op {
    /// The operation's number on the wire.
    pub fn code(&self) -> i32 {
        match self {
            Op::Create { code, .. } | Op::Raw(code, _) => *code,
            Op::Delete(..) => op::DELETE,
            Op::DeleteContainer(_) => 20,
            Op::Exists(..) => op::EXISTS,
            Op::GetData(..) => op::GET_DATA,
            Op::SetData(..) => op::SET_DATA,
            Op::GetAcl(_) => op::GET_ACL,
            Op::SetAcl(..) => op::SET_ACL,
            Op::GetChildren(..) => op::GET_CHILDREN,
            Op::GetChildren2(..) => op::GET_CHILDREN2,
            Op::Sync(_) => op::SYNC,
            Op::Ping => op::PING,
            Op::Check(..) => op::CHECK,
            Op::Multi(_) => op::MULTI,
            Op::MultiRead(_) => op::MULTI_READ,
            Op::CheckWatches(..) => op::CHECK_WATCHES,
            Op::RemoveWatches(..) => op::REMOVE_WATCHES,
            Op::SetWatches(..) => op::SET_WATCHES,
            Op::SetWatches2(..) => op::SET_WATCHES2,
            Op::AddWatch(..) => op::ADD_WATCH,
            Op::GetEphemerals(_) => op::GET_EPHEMERALS,
            Op::GetAllChildrenNumber(_) => op::GET_ALL_CHILDREN_NUMBER,
            Op::WhoAmI => op::WHO_AM_I,
            Op::Reconfig => op::RECONFIG,
            Op::Auth(_) => op::AUTH,
            Op::Close => op::CLOSE_SESSION,
        }
    }

    /// The xid that clients use for it, if it is a special one.
    pub fn special_xid(&self) -> Option<i32> {
        match self {
            Op::Ping => Some(-2),
            Op::Auth(_) => Some(-4),
            Op::SetWatches(..) | Op::SetWatches2(..) => Some(-8),
            _ => None,
        }
    }

    /// Appends the record; `last_zxid` is that of the last reply.
    pub fn encode(&self, out: &mut BytesMut, last_zxid: i64) {
        match self {
            Op::Create {
                code,
                path,
                data,
                acl,
                flags,
                ttl_ms,
            } => {
                out.string(path.as_bytes());
                out.buffer(data.as_deref());
                encode_acl(out, acl);
                out.put_i32(*flags);
                if *code == op::CREATE_TTL {
                    out.put_i64(*ttl_ms);
                }
            }
            Op::Delete(path, number)
            | Op::Check(path, number)
            | Op::CheckWatches(path, number)
            | Op::RemoveWatches(path, number)
            | Op::AddWatch(path, number) => {
                out.string(path.as_bytes());
                out.put_i32(*number);
            }
            Op::Exists(path, watch)
            | Op::GetData(path, watch)
            | Op::GetChildren(path, watch)
            | Op::GetChildren2(path, watch) => {
                out.string(path.as_bytes());
                out.boolean(*watch);
            }
            Op::DeleteContainer(path)
            | Op::GetAcl(path)
            | Op::Sync(path)
            | Op::GetEphemerals(path)
            | Op::GetAllChildrenNumber(path) => out.string(path.as_bytes()),
            Op::SetData(path, data, version) => {
                out.string(path.as_bytes());
                out.buffer(data.as_deref());
                out.put_i32(*version);
            }
            Op::SetAcl(path, acl, version) => {
                out.string(path.as_bytes());
                encode_acl(out, acl);
                out.put_i32(*version);
            }
            Op::Multi(items) | Op::MultiRead(items) => encode_items(out, items, last_zxid),
            Op::SetWatches(since, lists) => lists.encode(out, *since, last_zxid, false),
            Op::SetWatches2(since, lists) => lists.encode(out, *since, last_zxid, true),
            Op::Reconfig => {
                for _ in 0..3 {
                    out.buffer(None);
                }
                out.put_i64(-1);
            }
            Op::Auth(auth) => {
                out.put_i32(0);
                out.string(auth.scheme.as_bytes());
                out.string(auth.proof.as_bytes());
            }
            Op::Raw(_, body) => out.put_slice(body),
            Op::Ping | Op::WhoAmI | Op::Close => {}
        }
    }
}

impl WatchLists {
    fn encode(&self, out: &mut BytesMut, since: Since, last_zxid: i64, all: bool) {
        out.put_i64(match since {
            Since::Ever => 0,
            Since::LastReply => last_zxid,
        });
        let lists = [
            &self.data,
            &self.exist,
            &self.child,
            &self.persistent,
            &self.recursive,
        ];
        for list in lists.iter().take(if all { 5 } else { 3 }) {
            out.length(list.len());
            for path in *list {
                out.string(path.as_bytes());
            }
        }
    }
}

fn encode_items(out: &mut BytesMut, items: &[Op], last_zxid: i64) {
    for item in items {
        out.put_i32(item.code());
        out.boolean(false);
        out.put_i32(-1);
        item.encode(out, last_zxid);
    }
    out.put_i32(-1);
    out.boolean(true);
    out.put_i32(-1);
}

fn encode_acl(out: &mut BytesMut, acl: &[Acl]) {
    out.length(acl.len());
    for entry in acl {
        entry.encode(out);
    }
}
