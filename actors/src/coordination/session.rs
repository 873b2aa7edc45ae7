//! The session that all parts of a broker share: another one when it was lost, none when the broker stops.

use std::sync::{Arc, PoisonError, RwLock};

use super::client::Result;
use super::{CoordinationClient, CoordinationError};

/// Lends the broker's session; clones lend the same one.
#[derive(Clone)]
pub struct SharedSession(Arc<RwLock<Option<CoordinationClient>>>);

impl SharedSession {
    /// Starts with a session.
    pub fn new(client: CoordinationClient) -> Self {
        Self(Arc::new(RwLock::new(Some(client))))
    }

    /// Lends the session, for one piece of work: it is closed only when all that was lent is gone.
    ///
    /// # Errors
    /// `Closed` when the broker has left.
    pub fn lend(&self) -> Result<CoordinationClient> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().ok_or(CoordinationError::Closed)
    }

    /// Takes another session's place.
    pub fn replace(&self, client: CoordinationClient) {
        self.put(Some(client));
    }

    /// Lends nothing any more.
    pub fn end(&self) {
        self.put(None);
    }

    fn put(&self, client: Option<CoordinationClient>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = client;
    }
}
