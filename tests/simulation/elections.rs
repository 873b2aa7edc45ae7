//! The coordination store of a run, which outlives its service and watches who is made a leader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use troupe_actors::coordination::schema::PartitionState;
use troupe_actors::znode::node::Node;
use troupe_actors::znode::records::{Batch, NODE};
use troupe_actors::znode::store::{Contents, MemoryStore, StoreError, ZnodeStore};

use crate::history::History;

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Mutex<Shared>>,
    history: History,
}

#[derive(Default)]
struct Shared {
    store: MemoryStore,
    /// Who leads each partition in which epoch, by the path of its state.
    leaders: BTreeMap<String, BTreeMap<i32, i32>>,
}

impl Store {
    pub fn new(history: History) -> Self {
        Self {
            shared: Arc::default(),
            history,
        }
    }

    /// Checks that no epoch has two leaders and that epochs only grow.
    fn check(&self, leaders: &mut BTreeMap<i32, i32>, path: &str, state: &PartitionState) {
        let (epoch, leader) = (state.leader_epoch, state.leader);
        if let Some((newest, _)) = leaders.last_key_value()
            && epoch < *newest
        {
            let what = format!("{path}: leader epoch {epoch} after {newest}");
            self.history.violated(what);
        }
        let before = leaders.entry(epoch).or_insert(leader);
        if *before != leader {
            let what = format!("{path}: {before} and {leader} lead in epoch {epoch}");
            self.history.violated(what);
        }
    }
}

impl ZnodeStore for Store {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut shared = self.shared.lock().unwrap();
        for (key, value) in &batch.entries {
            let Some((&NODE, path)) = key.split_first() else {
                continue;
            };
            let path = String::from_utf8_lossy(path).into_owned();
            if !path.starts_with("/brokers/topics/") || !path.ends_with("/state") {
                continue;
            }
            let node = value.as_ref().and_then(|value| Node::decode(value).ok()?);
            let data = node.as_ref().and_then(Node::data);
            match data.and_then(|data| serde_json::from_slice(data).ok()) {
                Some(state) => {
                    let leaders = shared.leaders.entry(path.clone()).or_default();
                    self.check(leaders, &path, &state);
                }
                // Another topic of that name begins anew.
                None => drop(shared.leaders.remove(&path)),
            }
        }
        shared.store.commit(batch)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        self.shared.lock().unwrap().store.contents()
    }
}
