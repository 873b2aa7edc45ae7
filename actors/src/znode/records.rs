//! What the store keeps: nodes, sessions and the last transaction, as keys and values.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use troupe_protocol::zookeeper::connect::PASSWORD_LEN;

use super::sessions::Session;
use super::tree::Tree;

/// Key of the last transaction's number.
pub const ZXID: &[u8] = b"zxid";
/// Key of the number of the last frame of the journal that the database, or a snapshot, has.
pub const FRAME: &[u8] = b"frame";
/// First byte of the keys of nodes; their paths follow.
pub const NODE: u8 = b'n';
/// First byte of the keys of sessions; their ids follow.
pub const SESSION: u8 = b's';

/// One or more whole transactions, to be stored together: new values, or `None` for what is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// By key; of several values the last one counts.
    pub entries: BTreeMap<Bytes, Option<Bytes>>,
    /// How many transactions there are in it.
    pub transactions: u64,
}

impl Batch {
    /// Starts the batch of one transaction.
    pub fn new(zxid: i64) -> Self {
        let zxid_entry = (
            Bytes::from_static(ZXID),
            Some(Bytes::copy_from_slice(&zxid.to_be_bytes())),
        );
        Self {
            entries: BTreeMap::from([zxid_entry]),
            transactions: 1,
        }
    }

    /// Adds nodes as they are in the tree now.
    pub fn nodes<'a>(&mut self, tree: &Tree, paths: impl Iterator<Item = &'a Bytes>) {
        for path in paths {
            let mut key = BytesMut::with_capacity(1 + path.len());
            key.put_u8(NODE);
            key.put_slice(path);
            let value = tree.node(path).map(super::node::Node::encode);
            self.entries.insert(key.freeze(), value);
        }
    }

    /// Adds a session, `None` for one that has ended.
    pub fn session(&mut self, id: i64, session: Option<&Session>) {
        let mut key = BytesMut::with_capacity(9);
        key.put_u8(SESSION);
        key.put_i64(id);
        let value = session.map(|session| {
            let mut out = BytesMut::with_capacity(4 + PASSWORD_LEN);
            out.put_i32(session.timeout_ms);
            out.put_slice(&session.password);
            out.freeze()
        });
        self.entries.insert(key.freeze(), value);
    }

    /// Appends a later batch.
    pub fn merge(&mut self, later: Self) {
        self.entries.extend(later.entries);
        self.transactions += later.transactions;
    }

    /// Tells whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Reads the last transaction's number.
pub fn decode_zxid(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_be_bytes)
}

/// Reads the number of a frame.
pub fn decode_frame(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// Reads a session: id, time-out in milliseconds, password.
pub fn decode_session(id: &[u8], value: &[u8]) -> Option<(i64, i32, [u8; PASSWORD_LEN])> {
    let (timeout_ms, password) = value.split_first_chunk::<4>()?;
    Some((
        i64::from_be_bytes(id.try_into().ok()?),
        i32::from_be_bytes(*timeout_ms),
        password.try_into().ok()?,
    ))
}
