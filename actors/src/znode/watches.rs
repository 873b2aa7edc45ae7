//! Watches: which connection wants to hear of which node.
//!
//! Pure. One-shot watches go when they fire; persistent ones stay until removed or the connection is gone.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use troupe_protocol::zookeeper::records::EventType;

use super::paths;
use super::sessions::ConnectionId;

/// What a watch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One change of the node itself.
    Data,
    /// One change of the list of children.
    Child,
    /// Every change of both.
    Persistent,
    /// Every change of the node and of all below it, but not of lists of children.
    Recursive,
}

/// All watches, both ways round.
#[derive(Debug, Default)]
pub struct Watches {
    by_path: HashMap<Kind, HashMap<Bytes, BTreeSet<ConnectionId>>>,
    by_connection: HashMap<ConnectionId, BTreeSet<(Kind, Bytes)>>,
}

impl Watches {
    /// Adds a watch; the same once more is still one.
    pub fn add(&mut self, kind: Kind, path: &[u8], connection: ConnectionId) {
        let path = Bytes::copy_from_slice(path);
        self.by_path
            .entry(kind)
            .or_default()
            .entry(path.clone())
            .or_default()
            .insert(connection);
        self.by_connection
            .entry(connection)
            .or_default()
            .insert((kind, path));
    }

    /// Tells whether a connection has a watch.
    pub fn contains(&self, kind: Kind, path: &[u8], connection: ConnectionId) -> bool {
        self.watching(kind, path)
            .is_some_and(|set| set.contains(&connection))
    }

    /// Removes a watch; false if there was none.
    pub fn remove(&mut self, kind: Kind, path: &[u8], connection: ConnectionId) -> bool {
        let Some(paths) = self.by_path.get_mut(&kind) else {
            return false;
        };
        let Some(set) = paths.get_mut(path) else {
            return false;
        };
        let removed = set.remove(&connection);
        if set.is_empty() {
            paths.remove(path);
        }
        if removed && let Some(set) = self.by_connection.get_mut(&connection) {
            set.remove(&(kind, Bytes::copy_from_slice(path)));
            if set.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
        removed
    }

    /// Removes all watches of a connection.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        for (kind, path) in self.by_connection.remove(&connection).unwrap_or_default() {
            if let Some(paths) = self.by_path.get_mut(&kind)
                && let Some(set) = paths.get_mut(&path)
            {
                set.remove(&connection);
                if set.is_empty() {
                    paths.remove(&path);
                }
            }
        }
    }

    /// Takes note of what happened to a node; returns who hears of it, each once.
    pub fn fire(&mut self, event: EventType, path: &Bytes) -> BTreeSet<ConnectionId> {
        let one_shot: &[Kind] = match event {
            EventType::NodeCreated | EventType::NodeDataChanged => &[Kind::Data],
            EventType::NodeDeleted => &[Kind::Data, Kind::Child],
            EventType::NodeChildrenChanged => &[Kind::Child],
        };
        let mut who = BTreeSet::new();
        for &kind in one_shot {
            let waiting = self
                .by_path
                .get_mut(&kind)
                .and_then(|paths| paths.remove(path));
            for connection in waiting.into_iter().flatten() {
                if let Some(set) = self.by_connection.get_mut(&connection) {
                    set.remove(&(kind, path.clone()));
                }
                who.insert(connection);
            }
        }
        who.extend(self.watching(Kind::Persistent, path).into_iter().flatten());
        if event != EventType::NodeChildrenChanged && self.by_path.contains_key(&Kind::Recursive) {
            for above in paths::upwards(path) {
                who.extend(self.watching(Kind::Recursive, above).into_iter().flatten());
            }
        }
        who
    }

    fn watching(&self, kind: Kind, path: &[u8]) -> Option<&BTreeSet<ConnectionId>> {
        self.by_path.get(&kind)?.get(path)
    }

    /// Returns every watched path with its connections, by kind and path.
    pub fn by_path(&self) -> Vec<(&Bytes, &BTreeSet<ConnectionId>)> {
        let mut all: Vec<_> = self.by_path.values().flatten().collect();
        all.sort();
        all
    }

    /// Returns the watched paths of every connection that has some.
    pub fn by_connection(&self) -> Vec<(ConnectionId, BTreeSet<&Bytes>)> {
        let mut all: Vec<_> = self
            .by_connection
            .iter()
            .map(|(&connection, set)| (connection, set.iter().map(|(_, path)| path).collect()))
            .collect();
        all.sort();
        all
    }

    /// Returns the number of watches.
    pub fn len(&self) -> usize {
        self.by_connection.values().map(BTreeSet::len).sum()
    }

    /// Tells whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
    use super::*;

    const A: Bytes = Bytes::from_static(b"/a");
    const AB: Bytes = Bytes::from_static(b"/a/b");

    fn fire(
        watches: &mut Watches,
        events: &[(EventType, Bytes)],
    ) -> Vec<(ConnectionId, EventType, Bytes)> {
        let mut heard = Vec::new();
        for (event, path) in events {
            let who = watches.fire(*event, path);
            heard.extend(who.into_iter().map(|who| (who, *event, path.clone())));
        }
        heard
    }

    #[test]
    fn a_one_shot_watch_fires_once() {
        let mut watches = Watches::default();
        watches.add(Kind::Data, b"/a", 1);
        watches.add(Kind::Data, b"/a", 1);
        assert_eq!(watches.len(), 1);
        let events = [(NodeCreated, A), (NodeDataChanged, A)];
        assert_eq!(fire(&mut watches, &events), [(1, NodeCreated, A)]);
        assert_eq!(fire(&mut watches, &events), []);
        assert!(watches.is_empty());
    }

    #[test]
    fn a_deletion_is_heard_once_by_who_watches_node_and_children() {
        let mut watches = Watches::default();
        watches.add(Kind::Data, b"/a/b", 1);
        watches.add(Kind::Child, b"/a/b", 1);
        watches.add(Kind::Child, b"/a", 2);
        let events = [(NodeDeleted, AB), (NodeChildrenChanged, A)];
        assert_eq!(
            fire(&mut watches, &events),
            [(1, NodeDeleted, AB), (2, NodeChildrenChanged, A)]
        );
    }

    #[test]
    fn persistent_watches_stay_and_recursive_ones_look_down() {
        let mut watches = Watches::default();
        watches.add(Kind::Persistent, b"/a", 1);
        watches.add(Kind::Recursive, b"/", 2);
        let events = [(NodeCreated, AB), (NodeChildrenChanged, A)];
        for _ in 0..2 {
            assert_eq!(
                fire(&mut watches, &events),
                [(2, NodeCreated, AB), (1, NodeChildrenChanged, A)]
            );
        }
        assert!(watches.remove(Kind::Persistent, b"/a", 1));
        assert!(!watches.remove(Kind::Persistent, b"/a", 1));
        watches.disconnect(2);
        assert_eq!(fire(&mut watches, &events), []);
        assert!(watches.is_empty());
    }
}
