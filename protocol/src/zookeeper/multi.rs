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
    /// Reads the flags of a create by operation `op`; `None` for a mode that does not exist, or not with that operation.
    ///
    /// As in ZooKeeper it is the operation that makes a container: with the flags of one, any other makes a persistent
    /// node.
    pub fn from_flags(op: i32, flags: i32, ttl_ms: i64) -> Option<Self> {
        let sequential = matches!(flags, 2 | 3 | 6);
        let kind = match (op, flags) {
            (op::CREATE_TTL, 5 | 6) => NodeKind::Ttl { ttl_ms },
            (op::CREATE_TTL, _) => return None,
            (op::CREATE_CONTAINER, 0..=4) => NodeKind::Container,
            (_, 0 | 2 | 4) => NodeKind::Persistent,
            (_, 1 | 3) => NodeKind::Ephemeral,
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
    /// Deletes a container without children, or any other node that is not ephemeral.
    DeleteContainer {
        /// The node.
        path: Bytes,
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
            op::DELETE_CONTAINER => Self::DeleteContainer {
                path: reader.string()?,
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
        let (mut create, flags, ttl_ms) = Self::decode_record(op, reader)?;
        create.mode = CreateMode::from_flags(op, flags, ttl_ms);
        Ok(create)
    }

    /// Reads a create in a multi, where ZooKeeper goes by the flags rather than by the operation, and where flags that
    /// do not go with the record spoil the whole multi.
    fn decode_item(op: i32, reader: &mut Reader) -> Result<Self, JuteError> {
        let (mut create, flags, ttl_ms) = Self::decode_record(op, reader)?;
        create.op = match (op, flags) {
            (op::CREATE_TTL, 5 | 6) => op::CREATE_TTL,
            (_, 4) => op::CREATE_CONTAINER,
            (op::CREATE_TTL, _) => op::CREATE,
            (_, 0..=3) => op,
            _ => return Err(JuteError::Mode(flags)),
        };
        create.mode = CreateMode::from_flags(create.op, flags, ttl_ms);
        Ok(create)
    }

    /// Reads the record, with its flags and its time to live.
    fn decode_record(op: i32, reader: &mut Reader) -> Result<(Self, i32, i64), JuteError> {
        let create = Self {
            op,
            path: reader.string()?,
            data: reader.buffer()?,
            acl: decode_acls(reader)?,
            mode: None,
        };
        let flags = reader.int()?;
        let ttl_ms = match op {
            op::CREATE_TTL => reader.long()?,
            _ => 0,
        };
        Ok((create, flags, ttl_ms))
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
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            Create::decode_item(code, reader).map(Write::Create)
        }
        op::DELETE | op::SET_DATA | op::CHECK => {
            Write::decode(code, reader)?.ok_or(JuteError::Operation(code))
        }
        _ => Err(JuteError::Operation(code)),
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
