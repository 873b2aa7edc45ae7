//! Writes a tree into a service.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use troupe_protocol::zookeeper::Acl;

use super::MigrateError;
use super::tree::{Node, PIPELINED, Tree};
use crate::cli::output;
use crate::znode_client::{Client, CreateMode};

/// Digits at the end of the name of a sequential node.
const SEQUENCE_DIGITS: usize = 10;
/// More numbers than these are not used up to number later nodes after the copied ones.
const MAX_NUMBERS: i32 = 100_000;

/// Writes all nodes, parents first, and closes them to others when everything is there.
pub(super) async fn write(target: &Client, what: &str, tree: &Tree) -> Result<(), MigrateError> {
    for level in &tree.levels {
        each(level, |node| put(target, what, node)).await?;
    }
    for (parent, last) in last_numbers(tree) {
        advance(target, what, &parent, last).await?;
    }
    for level in tree.levels.iter().rev() {
        each(level, |node| protect(target, what, node)).await?;
    }
    Ok(())
}

async fn each<'a, F: Future<Output = Result<(), MigrateError>>>(
    nodes: &'a [Node],
    work: impl FnMut(&'a Node) -> F,
) -> Result<(), MigrateError> {
    stream::iter(nodes)
        .map(work)
        .buffer_unordered(PIPELINED)
        .try_collect()
        .await
}

/// Creates a node, open to anyone as yet, or sets the data of the one that is there.
async fn put(target: &Client, what: &str, node: &Node) -> Result<(), MigrateError> {
    let (data, open) = (node.data.as_deref(), [Acl::open()]);
    let mode = CreateMode::Persistent;
    let created = target.create(&node.path, data, &open, mode, 0).await;
    let done = match created {
        Err(error) if error.is_node_exists() => target.set(&node.path, data, -1).await.map(|_| ()),
        other => other.map(|_| ()),
    };
    done.map_err(MigrateError::at(what, &node.path))
}

/// Sets the ACL of a node, unless it has that already.
async fn protect(target: &Client, what: &str, node: &Node) -> Result<(), MigrateError> {
    let at = MigrateError::at(what, &node.path);
    let (acl, _) = target.acl(&node.path).await.map_err(&at)?;
    if acl != node.acl {
        target
            .set_acl(&node.path, &node.acl, -1)
            .await
            .map_err(at)?;
    }
    Ok(())
}

/// Creates the nodes of a path that are missing.
pub(super) async fn make_path(client: &Client, what: &str, path: &str) -> Result<(), MigrateError> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    for end in ends.chain([path.len()]) {
        let node = path.get(..end).unwrap_or(path);
        let created = client
            .create(node, None, &[Acl::open()], CreateMode::Persistent, 0)
            .await;
        match created {
            Err(error) if !error.is_node_exists() => {
                return Err(MigrateError::at(what, node)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Finds the nodes with children that look sequential, and the highest number of each.
fn last_numbers(tree: &Tree) -> BTreeMap<String, i32> {
    let mut numbers = BTreeMap::new();
    for node in tree.nodes() {
        let Some((parent, number)) = sequence(&node.path) else {
            continue;
        };
        let last = numbers.entry(parent.to_owned()).or_insert(number);
        *last = number.max(*last);
    }
    numbers
}

fn sequence(path: &str) -> Option<(&str, i32)> {
    let (parent, name) = path.rsplit_once('/')?;
    let digits = name.get(name.len().checked_sub(SEQUENCE_DIGITS)?..)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let parent = if parent.is_empty() { "/" } else { parent };
    is_number.then(|| digits.parse().ok().map(|number| (parent, number)))?
}

/// Uses numbers up until the next sequential node comes after the last copied one.
async fn advance(target: &Client, what: &str, parent: &str, last: i32) -> Result<(), MigrateError> {
    let prefix = format!("{}/migrated-", parent.trim_end_matches('/'));
    let at = MigrateError::at(what, parent);
    for _ in 0..MAX_NUMBERS {
        let mode = CreateMode::PersistentSequential;
        let created = target.create(&prefix, None, &[Acl::open()], mode, 0).await;
        let path = created.map_err(&at)?;
        target.delete(&path, -1).await.map_err(&at)?;
        if sequence(&path).is_none_or(|(_, number)| number >= last) {
            return Ok(());
        }
    }
    output::error(format_args!(
        "Warning: sequential nodes below {parent} are numbered from less than {last} on"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequential_name_ends_in_ten_digits() {
        assert_eq!(sequence("/a/n-0000000012"), Some(("/a", 12)));
        assert_eq!(sequence("/0000000012"), Some(("/", 12)));
        assert_eq!(sequence("/a/n-000000012"), None);
        assert_eq!(sequence("/a/9999999999"), None);
        assert_eq!(sequence("/a/b"), None);
    }
}
