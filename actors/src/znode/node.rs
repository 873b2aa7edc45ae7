//! One znode, and its form in the store.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use troupe_protocol::zookeeper::jute::{JuteError, Reader, Writer};
use troupe_protocol::zookeeper::{Acl, Stat};

use super::children::Children;

/// The owner of containers.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// The top byte of the owner of nodes with a time to live; the low five bytes are that time.
const TTL_OWNER: i64 = 0xff << 56;
/// The longest time to live, in milliseconds.
pub const MAX_TTL_MS: i64 = 0xff_ffff_ffff;

const FORMAT: u8 = 1;

/// What is kept of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name, and the data behind it: one allocation for both, because there are many nodes.
    text: Box<[u8]>,
    name_len: u32,
    /// Null is not the same as empty.
    has_data: bool,
    /// Shared, because nearly all nodes have the same one.
    pub acl: Arc<[Acl]>,
    /// Transaction that created the node.
    pub czxid: i64,
    /// Transaction that last set the data.
    pub mzxid: i64,
    /// Transaction that last changed the children.
    pub pzxid: i64,
    /// Creation, in milliseconds since the Unix epoch.
    pub ctime: i64,
    /// Last change of the data, in milliseconds since the Unix epoch.
    pub mtime: i64,
    /// Changes of the data.
    pub version: i32,
    /// Changes of the list.
    pub aversion: i32,
    /// Children that were ever created; names sequential nodes and must never go back.
    pub child_creates: i32,
    /// Session of an ephemeral node, 0 for a persistent one, else container or TTL.
    pub ephemeral_owner: i64,
    /// The nodes below; not stored with it.
    pub children: Children,
}

/// What a node's owner field says of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Until deleted.
    Persistent,
    /// As long as this session.
    Ephemeral(i64),
    /// Until the last child is gone.
    Container,
    /// Until unchanged and childless for so many milliseconds.
    Ttl(i64),
}

impl Node {
    /// Returns a node as a create makes it, without a name yet.
    pub fn new(data: Option<&[u8]>, acl: Arc<[Acl]>, owner: i64, zxid: i64, now_ms: i64) -> Self {
        Self {
            text: data.unwrap_or_default().into(),
            name_len: 0,
            has_data: data.is_some(),
            acl,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: now_ms,
            mtime: now_ms,
            version: 0,
            aversion: 0,
            child_creates: 0,
            ephemeral_owner: owner,
            children: Children::default(),
        }
    }

    /// Returns the last part of its path.
    pub fn name(&self) -> &[u8] {
        self.text.get(..self.name_len as usize).unwrap_or_default()
    }

    /// Returns its data; null is not the same as empty.
    pub fn data(&self) -> Option<&[u8]> {
        let data = self.text.get(self.name_len as usize..).unwrap_or_default();
        self.has_data.then_some(data)
    }

    /// Sets its name.
    pub fn set_name(&mut self, name: &[u8]) {
        self.text = [name, self.data().unwrap_or_default()].concat().into();
        // Names come in frames, which are shorter.
        self.name_len = u32::try_from(name.len()).unwrap_or(u32::MAX);
    }

    /// Sets its data.
    pub fn set_data(&mut self, data: Option<&[u8]>) {
        self.text = [self.name(), data.unwrap_or_default()].concat().into();
        self.has_data = data.is_some();
    }

    /// Returns how long the node lives.
    pub fn life(&self) -> Life {
        match self.ephemeral_owner {
            0 => Life::Persistent,
            CONTAINER_OWNER => Life::Container,
            owner if owner & TTL_OWNER == TTL_OWNER => Life::Ttl(owner & MAX_TTL_MS),
            session => Life::Ephemeral(session),
        }
    }

    /// Returns what clients are told of the node.
    pub fn stat(&self) -> Stat {
        let children = i32::try_from(self.children.len()).unwrap_or(i32::MAX);
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            // Creates and deletes together: twice the creates less those that are still there.
            cversion: self.child_creates.wrapping_mul(2).wrapping_sub(children),
            aversion: self.aversion,
            // Clients are told of sessions only, not what marks other lives.
            ephemeral_owner: match self.life() {
                Life::Ephemeral(session) => session,
                Life::Persistent | Life::Container | Life::Ttl(_) => 0,
            },
            data_length: i32::try_from(self.data_len()).unwrap_or(i32::MAX),
            num_children: children,
            pzxid: self.pzxid,
        }
    }

    /// Returns how many bytes of data there are.
    pub fn data_len(&self) -> usize {
        self.text.len() - self.name_len as usize
    }

    /// Returns the node as it is stored.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(96 + self.data_len());
        out.put_u8(FORMAT);
        for long in [
            self.czxid,
            self.mzxid,
            self.pzxid,
            self.ctime,
            self.mtime,
            self.ephemeral_owner,
        ] {
            out.put_i64(long);
        }
        for int in [self.version, self.aversion, self.child_creates] {
            out.put_i32(int);
        }
        out.buffer(self.data());
        out.length(self.acl.len());
        for acl in self.acl.iter() {
            acl.encode(&mut out);
        }
        out.freeze()
    }

    /// Reads a stored node, without its children; `None` for a format that this program does not know.
    pub fn decode(stored: &[u8]) -> Result<Option<Self>, JuteError> {
        let (&format, stored) = stored.split_first().ok_or(JuteError::Truncated)?;
        if format != FORMAT {
            return Ok(None);
        }
        let mut reader = Reader::new(Bytes::copy_from_slice(stored));
        let mut node = Self::new(None, Arc::new([]), 0, reader.long()?, 0);
        node.mzxid = reader.long()?;
        node.pzxid = reader.long()?;
        node.ctime = reader.long()?;
        node.mtime = reader.long()?;
        node.ephemeral_owner = reader.long()?;
        node.version = reader.int()?;
        node.aversion = reader.int()?;
        node.child_creates = reader.int()?;
        node.set_data(reader.buffer()?.as_deref());
        let acl = reader.vector(Acl::decode)?.unwrap_or_default();
        node.acl = acl
            .iter()
            .map(|acl| Acl {
                perms: acl.perms,
                id: troupe_protocol::zookeeper::Id {
                    scheme: Bytes::copy_from_slice(&acl.id.scheme),
                    id: Bytes::copy_from_slice(&acl.id.id),
                },
            })
            .collect();
        Ok(Some(node))
    }
}

/// Returns the owner field of a node with a time to live, or `None` if that time cannot be.
pub fn ttl_owner(ttl_ms: i64) -> Option<i64> {
    (1..=MAX_TTL_MS)
        .contains(&ttl_ms)
        .then_some(TTL_OWNER | ttl_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_node_comes_back() {
        for data in [None, Some(&b""[..]), Some(b"x")] {
            let mut node = Node::new(data, Arc::new([Acl::open()]), 7, 3, 99);
            (node.version, node.aversion, node.child_creates) = (1, 2, 3);
            (node.mzxid, node.pzxid, node.mtime) = (4, 5, 100);
            assert_eq!(node.data(), data);
            let decoded = Node::decode(&node.encode()).unwrap().unwrap();
            assert_eq!(decoded, node);
            node.set_name(b"name");
            assert_eq!((node.name(), node.data()), (&b"name"[..], data));
            node.set_data(Some(b"other"));
            assert_eq!(
                (node.name(), node.data()),
                (&b"name"[..], Some(&b"other"[..]))
            );
            node.set_data(data);
            assert_eq!((node.data(), node.data_len()), (data, decoded.data_len()));
        }
        assert_eq!(Node::decode(b""), Err(JuteError::Truncated));
        assert_eq!(Node::decode(b"\x01\0"), Err(JuteError::Truncated));
        assert_eq!(Node::decode(b"\x09\0"), Ok(None));
    }

    #[test]
    fn owners_tell_lives_apart() {
        let life = |owner| Node::new(None, Arc::new([]), owner, 1, 1).life();
        assert_eq!(life(0), Life::Persistent);
        assert_eq!(life(CONTAINER_OWNER), Life::Container);
        assert_eq!(life(ttl_owner(5000).unwrap()), Life::Ttl(5000));
        assert_eq!(
            life(0x0100_0000_0000_0001),
            Life::Ephemeral(0x0100_0000_0000_0001)
        );
        assert_eq!(ttl_owner(0), None);
        assert_eq!(ttl_owner(MAX_TTL_MS + 1), None);
    }
}
