//! The tree of znodes, and what can be read of it.
//!
//! Pure: no clock, no I/O. Changes are in [`super::transaction`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::zookeeper::jute::JuteError;
use troupe_protocol::zookeeper::records::perms;
use troupe_protocol::zookeeper::{Acl, ErrorCode, Id, Stat};

use super::node::{Life, Node};
use super::{acl, paths};

/// All nodes, with what has to be found quickly among them.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Node,
    count: usize,
    ephemerals: BTreeMap<i64, BTreeSet<Bytes>>,
    /// Containers and nodes with a time to live.
    mortal: BTreeSet<Bytes>,
    open_acl: Arc<[Acl]>,
    data_bytes: usize,
}

/// Why stored nodes do not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The record of a node does not decode.
    #[error("the record of {path} does not decode: {reason}")]
    Record {
        /// Of the node.
        path: String,
        /// What is wrong with it.
        reason: JuteError,
    },
    /// The record was written by a later version of this program.
    #[error("the record of {0} has a format that this version does not know")]
    Format(String),
    /// A node without the one above it.
    #[error("{0} has no parent")]
    Orphan(String),
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// Returns the tree of a fresh service: the root and the reserved nodes.
    pub fn new() -> Self {
        let open_acl: Arc<[Acl]> = Arc::new([Acl::open()]);
        let mut tree = Self {
            root: Node::new(Some(b""), open_acl.clone(), 0, 0, 0),
            count: 1,
            ephemerals: BTreeMap::new(),
            mortal: BTreeSet::new(),
            open_acl,
            data_bytes: paths::ROOT.len(),
        };
        tree.add_missing();
        tree
    }

    /// Rebuilds a tree from stored nodes, each after the one above it.
    pub fn restore<'a>(
        stored: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, TreeError> {
        let mut tree = Self::new();
        for (path, record) in stored {
            tree.restore_node(path, record)?;
        }
        tree.add_missing();
        Ok(tree)
    }

    /// Takes up a stored node below one that is there already.
    pub(super) fn restore_node(&mut self, path: &[u8], record: &[u8]) -> Result<(), TreeError> {
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let mut node = Node::decode(record)
            .map_err(|reason| TreeError::Record {
                path: text(path),
                reason,
            })?
            .ok_or_else(|| TreeError::Format(text(path)))?;
        node = self.with_shared_acl(node);
        // The root and the reserved nodes are there before.
        if let Some(made) = self.node_mut(path) {
            node.children = std::mem::take(&mut made.children);
            node.set_name(made.name());
            let (old, new) = (made.data_len(), node.data_len());
            *made = node;
            self.data_bytes = self.data_bytes + new - old;
            return Ok(());
        }
        match self.put(path, node) {
            true => Ok(()),
            false => Err(TreeError::Orphan(text(path))),
        }
    }

    /// Makes the reserved nodes where they are not.
    fn add_missing(&mut self) {
        for path in paths::RESERVED {
            if self.node(&path).is_none() {
                let mut node = Node::new(Some(b""), self.open_acl.clone(), 0, 0, 0);
                if path == paths::CONFIG {
                    // Read-only for everybody but the service itself.
                    node.acl = Arc::new([acl::readable()]);
                    node.aversion = -1;
                }
                self.put(&path, node);
            }
        }
    }

    /// Returns a node, whoever asks.
    pub fn node(&self, path: &[u8]) -> Option<&Node> {
        let mut names = paths::names(path)?;
        names.try_fold(&self.root, |node, name| node.children.get(name))
    }

    pub(super) fn node_mut(&mut self, path: &[u8]) -> Option<&mut Node> {
        let mut names = paths::names(path)?;
        names.try_fold(&mut self.root, |node, name| node.children.get_mut(name))
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Tells whether there are no nodes, which is never so.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns about how many bytes paths and data take.
    pub fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Returns the ephemeral nodes of every session that has some.
    pub fn ephemerals(&self) -> &BTreeMap<i64, BTreeSet<Bytes>> {
        &self.ephemerals
    }

    /// Returns the containers and the nodes with a time to live.
    pub(super) fn mortal(&self) -> &BTreeSet<Bytes> {
        &self.mortal
    }

    /// Puts a node in below its parent, of which nothing else changes; false if there is no parent.
    pub(super) fn put(&mut self, path: &[u8], node: Node) -> bool {
        let mut node = self.with_shared_acl(node);
        let (life, bytes) = (node.life(), path.len() + node.data_len());
        let Some((parent, name)) = paths::split(path) else {
            return false;
        };
        let Some(parent) = self.node_mut(parent) else {
            return false;
        };
        node.set_name(name);
        parent.children.insert(node);
        self.count += 1;
        self.data_bytes += bytes;
        match life {
            Life::Ephemeral(session) => {
                let paths = self.ephemerals.entry(session).or_default();
                paths.insert(Bytes::copy_from_slice(path));
            }
            Life::Container | Life::Ttl(_) => {
                self.mortal.insert(Bytes::copy_from_slice(path));
            }
            Life::Persistent => {}
        }
        true
    }

    fn with_shared_acl(&self, mut node: Node) -> Node {
        if node.acl == self.open_acl {
            node.acl = self.open_acl.clone();
        }
        node
    }

    /// Takes a node out, with what is below it, of which there must be nothing; its parent changes in nothing else.
    pub(super) fn discard(&mut self, path: &[u8]) -> Option<Node> {
        let (parent, name) = paths::split(path)?;
        let node = self.node_mut(parent)?.children.remove(name)?;
        self.count -= 1;
        self.data_bytes -= path.len() + node.data_len();
        self.mortal.remove(path);
        if let Life::Ephemeral(session) = node.life()
            && let Some(paths) = self.ephemerals.get_mut(&session)
        {
            paths.remove(path);
            if paths.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
        Some(node)
    }

    /// Sets a node's data and returns what was there.
    pub(super) fn replace_data(
        &mut self,
        path: &[u8],
        data: Option<&[u8]>,
    ) -> Option<Option<Bytes>> {
        let node = self.node_mut(path)?;
        let (new, old) = (data.map_or(0, <[u8]>::len), node.data_len());
        let before = node.data().map(Bytes::copy_from_slice);
        node.set_data(data);
        self.data_bytes = self.data_bytes + new - old;
        Some(before)
    }

    fn readable(&self, path: &[u8], ids: &[Id]) -> Result<&Node, ErrorCode> {
        let node = self.node(path).ok_or(ErrorCode::NoNode)?;
        if acl::allows(&node.acl, perms::READ, ids) {
            Ok(node)
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    /// Returns a node's Stat.
    pub fn exists(&self, path: &[u8], ids: &[Id]) -> Result<Stat, ErrorCode> {
        self.readable(path, ids).map(Node::stat)
    }

    /// Returns a node's data and Stat.
    pub fn get_data(&self, path: &[u8], ids: &[Id]) -> Result<(Option<Bytes>, Stat), ErrorCode> {
        let node = self.readable(path, ids)?;
        Ok((node.data().map(Bytes::copy_from_slice), node.stat()))
    }

    /// Returns the names of a node's children, and its Stat.
    pub fn get_children(&self, path: &[u8], ids: &[Id]) -> Result<(Vec<Bytes>, Stat), ErrorCode> {
        let node = self.readable(path, ids)?;
        Ok((names(node), node.stat()))
    }

    /// Returns a node's access control list, hashes hidden from those who may not set it, and its Stat.
    pub fn get_acl(&self, path: &[u8], ids: &[Id]) -> Result<(Vec<Acl>, Stat), ErrorCode> {
        let node = self.node(path).ok_or(ErrorCode::NoNode)?;
        if !acl::allows(&node.acl, perms::READ | perms::ADMIN, ids) {
            return Err(ErrorCode::NoAuth);
        }
        Ok((acl::masked(&node.acl, ids), node.stat()))
    }

    /// Counts the nodes below a node.
    pub fn count_descendants(&self, path: &[u8], ids: &[Id]) -> Result<i32, ErrorCode> {
        let mut count = 0i32;
        let mut open = vec![self.readable(path, ids)?];
        while let Some(node) = open.pop() {
            for child in node.children.iter() {
                count = count.saturating_add(1);
                open.push(child);
            }
        }
        Ok(count)
    }

    /// Returns the ephemeral nodes of a session whose paths start with `prefix`; a blank one, like the root, stands for
    /// all.
    pub fn get_ephemerals(&self, session: i64, prefix: &[u8]) -> Vec<Bytes> {
        let prefix = match prefix.trim_ascii() {
            b"" | b"/" => b"",
            _ => prefix,
        };
        self.ephemerals
            .get(&session)
            .into_iter()
            .flatten()
            .filter(|path| path.starts_with(prefix))
            .cloned()
            .collect()
    }
}

/// Returns the names of the nodes below a node, in order, as parts of one buffer.
fn names(node: &Node) -> Vec<Bytes> {
    let text = node.children.iter().flat_map(Node::name);
    let mut text = text.copied().collect::<Bytes>();
    let split = |child: &Node| text.split_to(child.name().len());
    node.children.iter().map(split).collect()
}
