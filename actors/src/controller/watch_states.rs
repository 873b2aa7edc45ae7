//! Watches on the states that make no sense: whoever mends one by hand tells nobody.

use std::collections::BTreeSet;
use std::future::pending;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::coordination::CoordinationClient;
use crate::coordination::client::Result;

/// One watch for each state that makes no sense.
#[derive(Default)]
pub(super) struct StateWatches {
    watched: BTreeSet<String>,
    changes: FuturesUnordered<LocalBoxFuture<'static, String>>,
}

impl StateWatches {
    /// Watches those that are not watched yet; tells whether there are any. They may have changed before they were watched.
    pub(super) async fn add(
        &mut self,
        client: &CoordinationClient,
        paths: Vec<String>,
    ) -> Result<bool> {
        let mut added = false;
        for path in paths {
            if self.watched.contains(&path) {
                continue;
            }
            let watcher = client.watch(&path).await?;
            self.watched.insert(path.clone());
            self.changes
                .push(watcher.changed().map(|()| path).boxed_local());
            added = true;
        }
        Ok(added)
    }

    /// Waits until one of them changes or goes; it is watched no more.
    pub(super) async fn changed(&mut self) {
        match self.changes.next().await {
            Some(path) => {
                self.watched.remove(&path);
            }
            None => pending().await,
        }
    }
}
