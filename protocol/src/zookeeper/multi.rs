//! Writes, alone and in a multi, and the reads of a multiRead.
//!
//! A multi is a sequence of items, each a header (operation, done, error) with its record, closed by (-1, true, -1).

use bytes::Bytes;

use super::jute::{JuteError, Reader};
use super::records::Acl;
use super::requests::{decode_acls, op};

/// How a node is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateMode {
    /// How long the node lives.
    pub kind: NodeKind,
    /// Whether the parent's counter is appended to the name.
    pub sequential: bool,
}

/// How long a node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Until it is deleted.
    Persistent,
    /// As long as the session that created it.
    Ephemeral,
    /// Until it has had children and the last one is gone.
    Container,
    /// Until it has had no child and no change for so long.
    Ttl {
        /// How long.
        ttl_ms: i64,
    },
}

impl CreateMode {
    /// Reads the flags of a create; `None` for a mode that does not exist.
    pub fn from_flags(flags: i32, ttl_ms: i64) -> Option<Self> {
        let (kind, sequential) = match flags {
            0 => (NodeKind::Persistent, false),
            1 => (NodeKind::Ephemeral, false),
            2 => (NodeKind::Persistent, true),
            3 => (NodeKind::Ephemeral, true),
            4 => (NodeKind::Container, false),
            5 => (NodeKind::Ttl { ttl_ms }, false),
            6 => (NodeKind::Ttl { ttl_ms }, true),
            _ => return None,
        };
        Some(Self { kind, sequential })
    }
}

/// One change of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Creates a node.
    Create(Create),
    /// Deletes a node without children; `version` -1 matches any.
    Delete {
        /// The node.
        path: Bytes,
        /// Its expected data version.
        version: i32,
    },
    /// Sets a node's data; `version` -1 matches any.
    SetData {
        /// The node.
        path: Bytes,
        /// The new data; null is not the same as empty.
        data: Option<Bytes>,
        /// Its expected data version.
        version: i32,
    },
    /// Sets a node's access control list; `version` -1 matches any.
    SetAcl {
        /// The node.
        path: Bytes,
        /// The new list.
        acl: Vec<Acl>,
        /// Its expected list version.
        version: i32,
    },
    /// Changes nothing, but fails when the version is not the expected one.
    Check {
        /// The node.
        path: Bytes,
        /// Its expected data version.
        version: i32,
    },
}

/// The record of the four create operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The operation by which it came, which decides about the reply: only [`op::CREATE`] gets no Stat.
    pub op: i32,
    /// The wanted path, or its front if sequential.
    pub path: Bytes,
    /// Null is not the same as empty.
    pub data: Option<Bytes>,
    /// Who may do what.
    pub acl: Vec<Acl>,
    /// `None` when the flags name no mode that exists.
    pub mode: Option<CreateMode>,
}

impl Write {
    /// Reads the record of operation `code`; `None` if that is no write.
    pub fn decode(code: i32, reader: &mut Reader) -> Result<Option<Self>, JuteError> {
        Ok(Some(match code {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                Self::Create(Create::decode(code, reader)?)
            }
            op::DELETE => Self::Delete {
                path: reader.string()?,
                version: reader.int()?,
            },
            op::SET_DATA => Self::SetData {
                path: reader.string()?,
                data: reader.buffer()?,
                version: reader.int()?,
            },
            op::SET_ACL => Self::SetAcl {
                path: reader.string()?,
                acl: decode_acls(reader)?,
                version: reader.int()?,
            },
            op::CHECK => Self::Check {
                path: reader.string()?,
                version: reader.int()?,
            },
            _ => return Ok(None),
        }))
    }
}

impl Create {
    fn decode(op: i32, reader: &mut Reader) -> Result<Self, JuteError> {
        let path = reader.string()?;
        let data = reader.buffer()?;
        let acl = decode_acls(reader)?;
        let flags = reader.int()?;
        let ttl_ms = match op {
            op::CREATE_TTL => reader.long()?,
            _ => 0,
        };
        Ok(Self {
            op,
            path,
            data,
            acl,
            mode: CreateMode::from_flags(flags, ttl_ms),
        })
    }
}

/// One item of a multiRead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiRead {
    /// Reads data and Stat.
    GetData(Bytes),
    /// Reads the names of the children.
    GetChildren(Bytes),
}

/// Reads the items of a multi.
pub fn decode_writes(reader: &mut Reader) -> Result<Vec<Write>, JuteError> {
    decode_items(reader, |code, reader| match code {
        op::SET_ACL => Err(JuteError::Operation(code)),
        _ => Write::decode(code, reader)?.ok_or(JuteError::Operation(code)),
    })
}

/// Reads the items of a multiRead; watches cannot be set by it.
pub fn decode_reads(reader: &mut Reader) -> Result<Vec<MultiRead>, JuteError> {
    decode_items(reader, |code, reader| {
        let path = reader.string()?;
        reader.boolean()?;
        match code {
            op::GET_DATA => Ok(MultiRead::GetData(path)),
            op::GET_CHILDREN => Ok(MultiRead::GetChildren(path)),
            _ => Err(JuteError::Operation(code)),
        }
    })
}

fn decode_items<T>(
    reader: &mut Reader,
    mut item: impl FnMut(i32, &mut Reader) -> Result<T, JuteError>,
) -> Result<Vec<T>, JuteError> {
    let mut items = Vec::new();
    loop {
        let code = reader.int()?;
        let done = reader.boolean()?;
        reader.int()?;
        if done {
            return Ok(items);
        }
        items.push(item(code, reader)?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multi_needs_its_terminator() {
        let item = b"\0\0\0\x0d\0\xff\xff\xff\xff\0\0\0\x02/a\0\0\0\x07";
        let end = b"\xff\xff\xff\xff\x01\xff\xff\xff\xff";
        let whole: Vec<u8> = [&item[..], end].concat();
        assert_eq!(
            decode_writes(&mut Reader::new(whole.into())),
            Ok(vec![Write::Check {
                path: Bytes::from_static(b"/a"),
                version: 7
            }])
        );
        assert_eq!(
            decode_writes(&mut Reader::new(item.to_vec().into())),
            Err(JuteError::Truncated)
        );
    }
}
