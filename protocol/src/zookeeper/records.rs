//! The records that several requests and replies share.

use bytes::{BufMut, Bytes, BytesMut};

use super::jute::{JuteError, Reader, Writer};

/// Permission bits of an access control list.
pub mod perms {
    /// May read data and children.
    pub const READ: i32 = 1;
    /// May set data.
    pub const WRITE: i32 = 2;
    /// May create children.
    pub const CREATE: i32 = 4;
    /// May delete children.
    pub const DELETE: i32 = 8;
    /// May set the access control list.
    pub const ADMIN: i32 = 16;
    /// Everything.
    pub const ALL: i32 = 31;
}

/// Someone, in the words of an authentication scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// `world`, `auth`, `digest`, `ip`, …
    pub scheme: Bytes,
    /// What the scheme calls them: `anyone`, `user:hash`, an address.
    pub id: Bytes,
}

impl Id {
    /// Names someone; both parts are copied.
    pub fn new(scheme: &str, id: impl AsRef<[u8]>) -> Self {
        Self {
            scheme: Bytes::copy_from_slice(scheme.as_bytes()),
            id: Bytes::copy_from_slice(id.as_ref()),
        }
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut BytesMut) {
        out.string(&self.scheme);
        out.string(&self.id);
    }
}

/// One entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// Bits of [`perms`].
    pub perms: i32,
    /// Who has them.
    pub id: Id,
}

impl Acl {
    /// Returns the entry that lets anyone do everything.
    pub fn open() -> Self {
        Self {
            perms: perms::ALL,
            id: Id {
                scheme: Bytes::from_static(b"world"),
                id: Bytes::from_static(b"anyone"),
            },
        }
    }

    /// Reads the record.
    pub fn decode(reader: &mut Reader) -> Result<Self, JuteError> {
        Ok(Self {
            perms: reader.int()?,
            id: Id {
                scheme: reader.string()?,
                id: reader.buffer()?.unwrap_or_default(),
            },
        })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_i32(self.perms);
        self.id.encode(out);
    }
}

/// What is known of a znode beside its data; 68 bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Transaction that created the node.
    pub czxid: i64,
    /// Transaction that last set its data.
    pub mzxid: i64,
    /// Creation, in milliseconds since the Unix epoch.
    pub ctime: i64,
    /// Last change of the data, in milliseconds since the Unix epoch.
    pub mtime: i64,
    /// Changes of the data.
    pub version: i32,
    /// Changes of the children.
    pub cversion: i32,
    /// Changes of the access control list.
    pub aversion: i32,
    /// Session that owns an ephemeral node; 0 for all others.
    pub ephemeral_owner: i64,
    /// Bytes of data, 0 for null.
    pub data_length: i32,
    /// Direct children.
    pub num_children: i32,
    /// Transaction that last changed the list of children.
    pub pzxid: i64,
}

impl Stat {
    /// Reads the record.
    pub fn decode(reader: &mut Reader) -> Result<Self, JuteError> {
        Ok(Self {
            czxid: reader.long()?,
            mzxid: reader.long()?,
            ctime: reader.long()?,
            mtime: reader.long()?,
            version: reader.int()?,
            cversion: reader.int()?,
            aversion: reader.int()?,
            ephemeral_owner: reader.long()?,
            data_length: reader.int()?,
            num_children: reader.int()?,
            pzxid: reader.long()?,
        })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_i64(self.czxid);
        out.put_i64(self.mzxid);
        out.put_i64(self.ctime);
        out.put_i64(self.mtime);
        out.put_i32(self.version);
        out.put_i32(self.cversion);
        out.put_i32(self.aversion);
        out.put_i64(self.ephemeral_owner);
        out.put_i32(self.data_length);
        out.put_i32(self.num_children);
        out.put_i64(self.pzxid);
    }
}

/// What happened to a node that somebody watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum EventType {
    /// The node is there now.
    NodeCreated = 1,
    /// The node is gone.
    NodeDeleted = 2,
    /// Its data was set.
    NodeDataChanged = 3,
    /// A child came or went.
    NodeChildrenChanged = 4,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_takes_68_bytes() {
        let mut out = BytesMut::new();
        Stat::default().encode(&mut out);
        assert_eq!(out.len(), 68);
    }

    #[test]
    fn an_acl_comes_back() {
        let mut out = BytesMut::new();
        Acl::open().encode(&mut out);
        assert_eq!(Acl::decode(&mut Reader::new(out.freeze())), Ok(Acl::open()));
    }
}
