//! Watches on the znodes of all topics: old tools write added partitions there and tell nobody.

use std::collections::BTreeSet;
use std::future::pending;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};

use crate::coordination::client::Result;
use crate::coordination::schema::TopicAssignment;
use crate::coordination::{CoordinationClient, paths};

/// Topics that are read at once.
const TOPICS_AT_ONCE: usize = 64;

/// One watch for each topic that is known.
#[derive(Default)]
pub(super) struct TopicWatches {
    watched: BTreeSet<String>,
    changes: FuturesUnordered<LocalBoxFuture<'static, String>>,
}

impl TopicWatches {
    /// Watches those topics that are not watched yet, and returns what they hold; not those that hold nonsense.
    pub(super) async fn add(
        &mut self,
        client: &CoordinationClient,
        names: Vec<String>,
    ) -> Result<Vec<(String, TopicAssignment)>> {
        let reads = names
            .into_iter()
            .filter(|name| !self.watched.contains(name))
            .map(|name| async move {
                let watched = client
                    .watch_json::<TopicAssignment>(&paths::topic(&name))
                    .await;
                (name, watched)
            });
        let reads: Vec<_> = stream::iter(reads)
            .buffer_unordered(TOPICS_AT_ONCE)
            .collect()
            .await;
        let mut found = Vec::new();
        for (name, watched) in reads {
            // One that is gone again is nobody's business any more.
            let Some((assignment, watcher)) = watched? else {
                continue;
            };
            found.extend(assignment.map(|assignment| (name.clone(), assignment)));
            self.watched.insert(name.clone());
            self.changes
                .push(watcher.changed().map(|_| name).boxed_local());
        }
        Ok(found)
    }

    /// Waits until one of them changes or goes, and returns its name; it is watched no more.
    pub(super) async fn changed(&mut self) -> String {
        match self.changes.next().await {
            Some(name) => {
                self.watched.remove(&name);
                name
            }
            None => pending().await,
        }
    }
}
