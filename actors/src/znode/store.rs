//! Where transactions are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

use super::records::Batch;
use super::reserve::is_full;
use crate::storage::lock::LockError;

/// Everything that is stored: the keys and values of [`super::records`].
pub type Contents = BTreeMap<Bytes, Bytes>;

/// Makes something of what is stored, record by record in the order of their keys, so that not all of it has to be in memory
/// a second time.
pub trait Restore {
    /// What becomes of all records.
    type Output;
    /// Why the records make no sense.
    type Error: std::fmt::Display;

    /// Takes a record.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Self::Error>;

    /// Takes note that there are no more.
    fn finish(self) -> Result<Self::Output, Self::Error>;
}

impl Restore for Contents {
    type Output = Self;
    type Error = std::convert::Infallible;

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Self::Error> {
        self.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn finish(self) -> Result<Self, Self::Error> {
        Ok(self)
    }
}

/// Why a store cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be locked: another process has it, or the system refused.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The operating system refused something.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no room for it on the disk.
    #[error("{}: {source}", path.display())]
    Full {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database refused something.
    #[error("{}: {source}", path.display())]
    Database {
        /// Where it is.
        path: PathBuf,
        /// What it said.
        source: sled::Error,
    },
    /// Neither the database nor the snapshot can be read.
    #[error(
        "{} cannot be read ({reason}) and there is no whole snapshot to rebuild it from; \
         move the directory away to start with an empty tree",
        path.display()
    )]
    Lost {
        /// Where they are.
        path: PathBuf,
        /// What is wrong with the database.
        reason: String,
    },
    /// The thread that wrote did not come back.
    #[error("the writer of the store died: {0}")]
    Panicked(String),
}

impl StoreError {
    /// Tells whether it is for want of room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
}

/// Keeps transactions. Calls block; they are made from a thread that may.
pub trait ZnodeStore: Send + 'static {
    /// Stores a batch whole or not at all, and returns when it is on disk.
    ///
    /// # Errors
    /// After `Full` the store can be used on: what it has now, [`contents`](Self::contents) says. After any other error
    /// nothing more is written.
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError>;

    /// Sees to it that a copy of everything is written soon, if something has changed since the last one. Does not wait
    /// for it.
    fn save(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Writes a copy of everything from which the store can be rebuilt, if something has changed since the last one.
    fn snapshot(&mut self) -> Result<(), StoreError>;

    /// Reads everything that is stored.
    fn contents(&self) -> Result<Contents, StoreError>;
}

/// A store that forgets, for tests and simulations.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// What was committed.
    pub contents: Contents,
}

impl ZnodeStore for MemoryStore {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        for (key, value) in batch.entries {
            match value {
                Some(value) => self.contents.insert(key, value),
                None => self.contents.remove(&key),
            };
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        Ok(self.contents.clone())
    }
}
