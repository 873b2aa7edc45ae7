//! The tree that is copied, as it was read.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use troupe_protocol::zookeeper::Acl;

use super::MigrateError;
use crate::znode_client::{Client, ClientError};

/// Requests under way at a time.
pub(super) const PIPELINED: usize = 64;
/// What a digest is shown as to who may not administrate a node.
const MASK: &[u8] = b":x";

/// A node to be copied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) data: Option<Bytes>,
    pub(super) acl: Vec<Acl>,
    /// Whether it goes with its session.
    is_ephemeral: bool,
}

impl Node {
    pub(super) fn size(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

/// Everything below the root of a service, by depth.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) levels: Vec<Vec<Node>>,
    /// Paths of ephemeral nodes.
    pub(super) left_out: Vec<String>,
}

impl Tree {
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.levels.iter().flatten()
    }

    /// Reads everything but `/zookeeper`.
    pub(super) async fn read(source: &Client, what: &str) -> Result<Self, MigrateError> {
        let mut tree = Self::default();
        let mut paths = vec!["/".to_owned()];
        while !paths.is_empty() {
            let found: Vec<_> = stream::iter(paths)
                .map(|path| read(source, what, path))
                .buffered(PIPELINED)
                .try_collect()
                .await?;
            paths = Vec::new();
            let mut level = Vec::new();
            for (node, children) in found.into_iter().flatten() {
                let parent = if node.path == "/" { "" } else { &node.path };
                let below = children.iter().map(|child| format!("{parent}/{child}"));
                paths.extend(below.filter(|path| path != "/zookeeper"));
                match node.is_ephemeral {
                    true => tree.left_out.push(node.path),
                    false if node.path == "/" => {}
                    false => level.push(node),
                }
            }
            if !level.is_empty() {
                tree.levels.push(level);
            }
        }
        Ok(tree)
    }
}

/// Reads a node and the names of its children; nothing if it went meanwhile.
async fn read(
    source: &Client,
    what: &str,
    path: String,
) -> Result<Option<(Node, Vec<String>)>, MigrateError> {
    match try_read(source, &path).await {
        Ok((node, _)) if node.acl.iter().any(is_masked) => Err(MigrateError::Masked(path)),
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_no_node() => Ok(None),
        Err(error) => Err(MigrateError::at(what, &path)(error)),
    }
}

async fn try_read(source: &Client, path: &str) -> Result<(Node, Vec<String>), ClientError> {
    let (data, stat) = source.get(path, false).await?;
    let (acl, _) = source.acl(path).await?;
    let (children, _) = source.children(path, false).await?;
    let node = Node {
        path: path.to_owned(),
        data,
        acl,
        is_ephemeral: stat.ephemeral_owner != 0,
    };
    Ok((node, children))
}

fn is_masked(entry: &Acl) -> bool {
    entry.id.scheme.as_ref() == b"digest" && entry.id.id.ends_with(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_protocol::zookeeper::Id;

    #[test]
    fn a_masked_digest_is_seen() {
        let entry = |scheme, id| Acl {
            perms: 31,
            id: Id::new(scheme, id),
        };
        assert!(is_masked(&entry("digest", "user:x")));
        assert!(!is_masked(&entry("digest", "user:+Fb1=")));
        assert!(!is_masked(&entry("world", "anyone")));
    }
}
