//! The nodes below a node.

use super::node::Node;

/// Nodes in the order of their names.
///
/// A vector, because most nodes have no children, and those that have many get them in order: memory counts more here
/// than the time to put one into the middle.
#[expect(
    clippy::vec_box,
    reason = "nodes are twenty times as large as what is moved to put one in, and room for more of them is cheap"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children(Vec<Box<Node>>);

impl Children {
    fn find(&self, name: &[u8]) -> Result<usize, usize> {
        match self.0.last() {
            // Sequential nodes come in order.
            Some(last) if last.name() < name => Err(self.0.len()),
            _ => self.0.binary_search_by(|node| node.name().cmp(name)),
        }
    }

    /// Returns a node by its name.
    pub fn get(&self, name: &[u8]) -> Option<&Node> {
        let at = self.find(name).ok()?;
        self.0.get(at).map(Box::as_ref)
    }

    /// Returns a node by its name, to be changed; its name must stay.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut Node> {
        let at = self.find(name).ok()?;
        self.0.get_mut(at).map(Box::as_mut)
    }

    /// Puts a node in its place, which is that of one with the same name if there is one.
    pub fn insert(&mut self, node: Node) {
        match self.find(node.name()) {
            Ok(at) => {
                if let Some(place) = self.0.get_mut(at) {
                    **place = node;
                }
            }
            Err(at) => self.0.insert(at, Box::new(node)),
        }
    }

    /// Takes a node out.
    pub fn remove(&mut self, name: &[u8]) -> Option<Node> {
        let at = self.find(name).ok()?;
        let node = *self.0.remove(at);
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.len() * 2);
        }
        Some(node)
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes through them in order.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.0.iter().map(Box::as_ref)
    }
}

impl Drop for Children {
    /// One after the other: nodes can be so deep below each other that there is no stack for it otherwise.
    fn drop(&mut self) {
        let mut open = std::mem::take(&mut self.0);
        while let Some(mut node) = open.pop() {
            open.append(&mut node.children.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn node(name: &[u8]) -> Node {
        let mut node = Node::new(None, Arc::new([]), 0, 1, 1);
        node.set_name(name);
        node
    }

    #[test]
    fn nodes_are_in_order_however_they_come() {
        let mut children = Children::default();
        for name in [b"c", b"a", b"d", b"b", b"a"] {
            children.insert(node(name));
        }
        let names = |children: &Children| children.iter().map(|node| node.name()[0]).collect();
        assert_eq!(names(&children), b"abcd".to_vec());
        assert!(children.get(b"b").is_some() && children.get(b"bb").is_none());
        assert!(children.remove(b"b").is_some() && children.remove(b"b").is_none());
        assert_eq!((names(&children), children.len()), (b"acd".to_vec(), 3));
    }

    #[test]
    fn any_depth_can_be_dropped() {
        let mut tree = node(b"deepest");
        for _ in 0..200_000 {
            let mut above = node(b"x");
            above.children.insert(tree);
            tree = above;
        }
    }
}
