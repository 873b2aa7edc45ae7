//! Several writes as one: all of them are done, or none.

use bytes::{BufMut, BytesMut};
use troupe_protocol::zookeeper::jute::{Reader, Writer};
use troupe_protocol::zookeeper::requests::op;
use troupe_protocol::zookeeper::{Acl, Stat};

use super::{Client, ClientError, CreateMode, acls};

/// One write.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// Fails all unless the node has this version.
    Check(&'a str, i32),
    /// Creates a node.
    Create(&'a str, &'a [u8], &'a [Acl], CreateMode),
    /// Sets data; version -1 is any.
    Set(&'a str, &'a [u8], i32),
    /// Deletes a node; version -1 is any.
    Delete(&'a str, i32),
}

/// What one write did.
#[derive(Clone, Debug)]
pub enum Done {
    /// The node has the version.
    Checked,
    /// The node has this name now.
    Created(String),
    /// The node has these statistics now.
    Set(Stat),
    /// The node is gone.
    Deleted,
}

/// Nothing was done, because of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number, from 0.
    pub index: usize,
    /// The server's code for it.
    pub error: i32,
}

/// The operation of a result that is an error, and of the end.
const NO_OP: i32 = -1;

impl Client {
    /// Does all of the writes or none.
    ///
    /// # Errors
    /// When there is no answer; that the server refuses is one.
    pub async fn multi(
        &self,
        items: &[Item<'_>],
    ) -> Result<Result<Vec<Done>, Refused>, ClientError> {
        let mut reply = self
            .call(op::MULTI, None, |out| {
                for item in items {
                    self.item(out, item);
                }
                header(out, NO_OP, true);
            })
            .await?;
        let (mut done, mut refused) = (Vec::with_capacity(items.len()), None);
        for index in 0..items.len() {
            let (code, _, _) = (reply.int()?, reply.boolean()?, reply.int()?);
            match code {
                NO_OP => {
                    let error = reply.int()?;
                    if error != 0 && refused.is_none() {
                        refused = Some(Refused { index, error });
                    }
                }
                code => done.push(self.done(code, &mut reply)?),
            }
        }
        Ok(refused.map_or(Ok(done), Err))
    }

    fn item(&self, out: &mut BytesMut, item: &Item<'_>) {
        let path = |out: &mut BytesMut, code, path: &str| {
            header(out, code, false);
            out.string(self.full(path).as_bytes());
        };
        match *item {
            Item::Check(node, version) => {
                path(out, op::CHECK, node);
                out.put_i32(version);
            }
            Item::Create(node, data, acl, mode) => {
                path(out, op::CREATE, node);
                out.buffer(Some(data));
                acls(out, acl);
                out.put_i32(mode as i32);
            }
            Item::Set(node, data, version) => {
                path(out, op::SET_DATA, node);
                out.buffer(Some(data));
                out.put_i32(version);
            }
            Item::Delete(node, version) => {
                path(out, op::DELETE, node);
                out.put_i32(version);
            }
        }
    }

    fn done(&self, code: i32, reply: &mut Reader) -> Result<Done, ClientError> {
        Ok(match code {
            op::CREATE => Done::Created(self.stripped(&reply.string()?)),
            op::SET_DATA => Done::Set(Stat::decode(reply)?),
            op::DELETE => Done::Deleted,
            _ => Done::Checked,
        })
    }
}

fn header(out: &mut BytesMut, code: i32, is_end: bool) {
    out.put_i32(code);
    out.boolean(is_end);
    out.put_i32(-1);
}
