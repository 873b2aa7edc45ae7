//! Changes of the tree: one write or a multi, whole or not at all.
//!
//! Pure: takes the tree, who asks, the transaction's number and the time; gives the reply, the nodes that changed and
//! what those who watch have to be told.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::zookeeper::multi::{Create, CreateMode, NodeKind, Write};
use troupe_protocol::zookeeper::records::{EventType, perms};
use troupe_protocol::zookeeper::replies::{MultiResult, Reply};
use troupe_protocol::zookeeper::requests::op;
use troupe_protocol::zookeeper::{Acl, ErrorCode, Id};

use super::node::{CONTAINER_OWNER, Life, Node, ttl_owner};
use super::tree::Tree;
use super::{acl, paths};

/// Who changes the tree, and when.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// Owner of ephemeral nodes that are created.
    pub session: i64,
    /// Everybody that the connection has proved to be.
    pub ids: &'a [Id],
    /// Number of the transaction.
    pub zxid: i64,
    /// Milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// What a transaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Paths whose nodes are to be stored anew, or removed if no longer in the tree.
    pub changed: BTreeSet<Bytes>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Something that those who watch a node, and may read it, are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventType,
    /// The node.
    pub path: Bytes,
    /// Who may read the node, as it was then.
    pub acl: Arc<[Acl]>,
}

/// How to take back one step.
enum Undo {
    Create {
        path: Bytes,
        parent_pzxid: i64,
    },
    Delete {
        path: Bytes,
        node: Box<Node>,
        parent_pzxid: i64,
    },
    SetData {
        path: Bytes,
        data: Option<Bytes>,
        mzxid: i64,
        mtime: i64,
    },
    SetAcl {
        path: Bytes,
        acl: Arc<[Acl]>,
    },
}

/// A transaction under way.
struct Transaction<'a> {
    tree: &'a mut Tree,
    author: Author<'a>,
    effects: Effects,
    undo: Vec<Undo>,
}

/// Performs one write.
pub fn apply(
    tree: &mut Tree,
    write: &Write,
    author: Author<'_>,
) -> Result<(Reply, Effects), ErrorCode> {
    let mut transaction = Transaction::new(tree, author);
    // A single write checks everything before it changes anything, so there is nothing to take back.
    let reply = transaction.perform(write)?;
    Ok((reply, transaction.effects))
}

/// Performs all of a multi or nothing; the results are one per item either way.
pub fn apply_multi(
    tree: &mut Tree,
    writes: &[Write],
    author: Author<'_>,
) -> (Vec<MultiResult>, Option<Effects>) {
    let mut transaction = Transaction::new(tree, author);
    let mut results = Vec::new();
    for (index, write) in writes.iter().enumerate() {
        match transaction.perform(write) {
            Ok(reply) => results.push(MultiResult::Done(operation(write), reply)),
            Err(error) => {
                transaction.roll_back();
                return (failed(writes.len(), index, error), None);
            }
        }
    }
    (results, Some(transaction.effects))
}

/// Before the item that failed `Ok`, after it `RuntimeInconsistency`: clients look for the first that is not `Ok`.
fn failed(items: usize, at: usize, error: ErrorCode) -> Vec<MultiResult> {
    (0..items)
        .map(|index| match index.cmp(&at) {
            std::cmp::Ordering::Less => ErrorCode::Ok,
            std::cmp::Ordering::Equal => error,
            std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency,
        })
        .map(MultiResult::Error)
        .collect()
}

/// Deletes every ephemeral node of a session.
pub fn end_session(tree: &mut Tree, session: i64, zxid: i64) -> Effects {
    let paths = tree.get_ephemerals(session, b"");
    remove(tree, &paths, zxid)
}

/// Returns the containers that are empty again, and the nodes whose time to live is over.
pub fn dead_nodes(tree: &Tree, now_ms: i64) -> Vec<Bytes> {
    let is_dead = |node: &Node| {
        node.children.is_empty()
            && match node.life() {
                Life::Container => node.child_creates > 0,
                Life::Ttl(ttl_ms) => now_ms.saturating_sub(node.mtime) > ttl_ms,
                Life::Persistent | Life::Ephemeral(_) => false,
            }
    };
    tree.mortal()
        .iter()
        .filter(|path| tree.node(path).is_some_and(is_dead))
        .cloned()
        .collect()
}

/// Deletes nodes that have no children, whatever their versions and lists.
pub fn remove(tree: &mut Tree, paths: &[Bytes], zxid: i64) -> Effects {
    let author = Author {
        session: 0,
        ids: &[],
        zxid,
        now_ms: 0,
    };
    let mut transaction = Transaction::new(tree, author);
    for path in paths {
        transaction.take_out(path);
    }
    transaction.effects
}

/// Returns the operation that an item of a multi names in its result: only two are told apart for creates.
fn operation(write: &Write) -> i32 {
    match write {
        Write::Create(create) => match create.op {
            op::CREATE => op::CREATE,
            _ => op::CREATE2,
        },
        Write::Delete { .. } => op::DELETE,
        Write::DeleteContainer { .. } => op::DELETE_CONTAINER,
        Write::SetData { .. } => op::SET_DATA,
        Write::SetAcl { .. } => op::SET_ACL,
        Write::Check { .. } => op::CHECK,
    }
}

impl<'a> Transaction<'a> {
    fn new(tree: &'a mut Tree, author: Author<'a>) -> Self {
        Self {
            tree,
            author,
            effects: Effects::default(),
            undo: Vec::new(),
        }
    }

    fn perform(&mut self, write: &Write) -> Result<Reply, ErrorCode> {
        match write {
            Write::Create(create) => self.create(create),
            Write::Delete { path, version } => self.delete(path, *version),
            Write::DeleteContainer { path } => self.delete_container(path),
            Write::SetData {
                path,
                data,
                version,
            } => self.set_data(path, data.as_deref(), *version),
            Write::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
            Write::Check { path, version } => self.check(path, *version),
        }
    }

    fn permitted(&self, path: &[u8], wanted: i32) -> Result<&Node, ErrorCode> {
        let node = self.tree.node(path).ok_or(ErrorCode::NoNode)?;
        if acl::allows(&node.acl, wanted, self.author.ids) {
            Ok(node)
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    fn changed(&mut self, path: &Bytes) {
        self.effects.changed.insert(path.clone());
    }

    fn event(&mut self, kind: EventType, path: &Bytes, acl: Arc<[Acl]>) {
        self.effects.events.push(Event {
            kind,
            path: path.clone(),
            acl,
        });
    }

    /// The order of the checks is ZooKeeper's: it decides which error a client sees.
    fn create(&mut self, create: &Create) -> Result<Reply, ErrorCode> {
        let mode = create.mode.ok_or(ErrorCode::BadArguments)?;
        let owner = owner(mode, self.author.session)?;
        if !paths::is_plausible(&create.path) {
            return Err(ErrorCode::BadArguments);
        }
        let list = acl::fix(&create.acl, self.author.ids)?;
        let (parent_path, _) = paths::split(&create.path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.permitted(parent_path, perms::CREATE)?;
        let path = if mode.sequential {
            let counter = format!("{:010}", parent.child_creates);
            Bytes::from([&create.path, counter.as_bytes()].concat())
        } else {
            // A copy, so that the node does not keep the frame it came in.
            Bytes::copy_from_slice(&create.path)
        };
        if !paths::is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        if self.tree.node(&path).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(parent.life(), Life::Ephemeral(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let Author { zxid, now_ms, .. } = self.author;
        let data = create.data.as_deref();
        self.put_in(&path, Node::new(data, list.into(), owner, zxid, now_ms));
        let stat = self.tree.node(&path).map(Node::stat).unwrap_or_default();
        Ok(match create.op {
            op::CREATE => Reply::Path(path),
            _ => Reply::PathStat(path, stat),
        })
    }

    fn deletable(&self, path: &[u8]) -> Result<&Node, ErrorCode> {
        let reserved = *path == *paths::ROOT || paths::RESERVED.iter().any(|name| *name == path);
        if reserved || !paths::is_plausible(path) {
            return Err(ErrorCode::BadArguments);
        }
        let (parent, _) = paths::split(path).ok_or(ErrorCode::BadArguments)?;
        self.permitted(parent, perms::DELETE)?;
        self.tree.node(path).ok_or(ErrorCode::NoNode)
    }

    /// ZooKeeper's own way to remove containers, which clients can send as well; there it asks for no permission.
    fn delete_container(&mut self, path: &[u8]) -> Result<Reply, ErrorCode> {
        let node = self.deletable(path)?;
        if !node.children.is_empty() {
            return Err(ErrorCode::NotEmpty);
        }
        if matches!(node.life(), Life::Ephemeral(_)) {
            return Err(ErrorCode::BadVersion);
        }
        self.take_out(&Bytes::copy_from_slice(path));
        Ok(Reply::Empty)
    }

    fn delete(&mut self, path: &[u8], version: i32) -> Result<Reply, ErrorCode> {
        let node = self.deletable(path)?;
        expect_version(node.version, version)?;
        if !node.children.is_empty() {
            return Err(ErrorCode::NotEmpty);
        }
        self.take_out(&Bytes::copy_from_slice(path));
        Ok(Reply::Empty)
    }

    fn set_data(
        &mut self,
        path: &[u8],
        data: Option<&[u8]>,
        version: i32,
    ) -> Result<Reply, ErrorCode> {
        if !paths::is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.permitted(path, perms::WRITE)?;
        expect_version(node.version, version)?;
        let path = Bytes::copy_from_slice(path);
        let old = self.tree.replace_data(&path, data);
        let node = self.tree.node_mut(&path).ok_or(ErrorCode::NoNode)?;
        self.undo.push(Undo::SetData {
            path: path.clone(),
            data: old.flatten(),
            mzxid: node.mzxid,
            mtime: node.mtime,
        });
        node.version = node.version.wrapping_add(1);
        node.mzxid = self.author.zxid;
        node.mtime = self.author.now_ms;
        let (stat, acl) = (node.stat(), node.acl.clone());
        self.changed(&path);
        self.event(EventType::NodeDataChanged, &path, acl);
        Ok(Reply::Stat(stat))
    }

    fn set_acl(&mut self, path: &[u8], list: &[Acl], version: i32) -> Result<Reply, ErrorCode> {
        if !paths::is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let list = acl::fix(list, self.author.ids)?;
        let node = self.permitted(path, perms::ADMIN)?;
        expect_version(node.aversion, version)?;
        let path = Bytes::copy_from_slice(path);
        let node = self.tree.node_mut(&path).ok_or(ErrorCode::NoNode)?;
        let old = std::mem::replace(&mut node.acl, list.into());
        node.aversion = node.aversion.wrapping_add(1);
        let stat = node.stat();
        self.undo.push(Undo::SetAcl {
            path: path.clone(),
            acl: old,
        });
        self.changed(&path);
        Ok(Reply::Stat(stat))
    }

    fn check(&mut self, path: &[u8], version: i32) -> Result<Reply, ErrorCode> {
        if !paths::is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.permitted(path, perms::READ)?;
        expect_version(node.version, version)?;
        Ok(Reply::Stat(node.stat()))
    }

    fn put_in(&mut self, path: &Bytes, node: Node) {
        let Some((parent_path, _)) = paths::split(path) else {
            return;
        };
        let parent_path = Bytes::copy_from_slice(parent_path);
        let Some(parent) = self.tree.node_mut(&parent_path) else {
            return;
        };
        self.undo.push(Undo::Create {
            path: path.clone(),
            parent_pzxid: parent.pzxid,
        });
        parent.child_creates = parent.child_creates.wrapping_add(1);
        parent.pzxid = self.author.zxid;
        let (acl, parent_acl) = (node.acl.clone(), parent.acl.clone());
        self.tree.put(path, node);
        self.changed(path);
        self.changed(&parent_path);
        self.event(EventType::NodeCreated, path, acl);
        self.event(EventType::NodeChildrenChanged, &parent_path, parent_acl);
    }

    fn take_out(&mut self, path: &Bytes) {
        let Some((parent_path, _)) = paths::split(path) else {
            return;
        };
        let parent_path = Bytes::copy_from_slice(parent_path);
        let Some(node) = self.tree.discard(path) else {
            return;
        };
        self.changed(path);
        self.event(EventType::NodeDeleted, path, node.acl.clone());
        if let Some(parent) = self.tree.node_mut(&parent_path) {
            self.undo.push(Undo::Delete {
                path: path.clone(),
                node: Box::new(node),
                parent_pzxid: parent.pzxid,
            });
            parent.pzxid = self.author.zxid;
            let acl = parent.acl.clone();
            self.changed(&parent_path);
            self.event(EventType::NodeChildrenChanged, &parent_path, acl);
        }
    }

    fn roll_back(&mut self) {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Create { path, parent_pzxid } => {
                    self.tree.discard(&path);
                    self.with_parent(&path, |parent| {
                        parent.child_creates = parent.child_creates.wrapping_sub(1);
                        parent.pzxid = parent_pzxid;
                    });
                }
                Undo::Delete {
                    path,
                    node,
                    parent_pzxid,
                } => {
                    self.with_parent(&path, |parent| parent.pzxid = parent_pzxid);
                    self.tree.put(&path, *node);
                }
                Undo::SetData {
                    path,
                    data,
                    mzxid,
                    mtime,
                } => {
                    self.tree.replace_data(&path, data.as_deref());
                    if let Some(node) = self.tree.node_mut(&path) {
                        node.version = node.version.wrapping_sub(1);
                        (node.mzxid, node.mtime) = (mzxid, mtime);
                    }
                }
                Undo::SetAcl { path, acl } => {
                    if let Some(node) = self.tree.node_mut(&path) {
                        node.acl = acl;
                        node.aversion = node.aversion.wrapping_sub(1);
                    }
                }
            }
        }
    }

    fn with_parent(&mut self, path: &[u8], change: impl FnOnce(&mut Node)) {
        if let Some((parent, _)) = paths::split(path)
            && let Some(parent) = self.tree.node_mut(parent)
        {
            change(parent);
        }
    }
}

fn owner(mode: CreateMode, session: i64) -> Result<i64, ErrorCode> {
    match mode.kind {
        NodeKind::Persistent => Ok(0),
        NodeKind::Ephemeral => Ok(session),
        NodeKind::Container => Ok(CONTAINER_OWNER),
        NodeKind::Ttl { ttl_ms } => ttl_owner(ttl_ms).ok_or(ErrorCode::BadArguments),
    }
}

fn expect_version(actual: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == actual {
        Ok(())
    } else {
        Err(ErrorCode::BadVersion)
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
