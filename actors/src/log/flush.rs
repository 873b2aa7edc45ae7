//! Making a log durable: what to sync is named here, the syncing is the caller's, on a thread that may wait.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Log;
use super::names::FileKind;
use crate::storage::{Storage, StorageFile};

/// Files to sync. Holds no part of the log: appends go on meanwhile.
pub struct Flush {
    files: Vec<Arc<dyn StorageFile>>,
    dir: Option<(Arc<dyn Storage>, PathBuf)>,
    up_to: i64,
    truncations: u64,
}

impl Flush {
    /// Syncs everything; may take long.
    pub fn sync(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync()?;
        }
        match &self.dir {
            Some((storage, dir)) => storage.sync_dir(dir),
            None => Ok(()),
        }
    }

    /// Returns the offset below which everything is durable once this is synced.
    pub fn up_to(&self) -> i64 {
        self.up_to
    }

    /// Tells whether there is nothing to sync.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.dir.is_none()
    }
}

impl Log {
    /// Lists what has to be synced to make everything appended so far durable.
    pub fn begin_flush(&mut self) -> io::Result<Flush> {
        let mut files = Vec::new();
        for segment in &mut self.segments {
            if std::mem::take(&mut segment.dirty) {
                files.push(Arc::clone(&segment.file));
            }
            files.extend(segment.offsets.take_dirty()?);
            files.extend(segment.times.take_dirty()?);
            files.extend(segment.take_dirty_aborted()?);
        }
        for offset in std::mem::take(&mut self.unsynced_snapshots) {
            match self
                .storage
                .open(&self.segment_file(offset, FileKind::Snapshot), false)
            {
                Ok(file) => files.push(file),
                // Retention or a truncation took it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(file) = self.epochs.take_dirty()? {
            files.push(file);
            self.dir_dirty = true;
        }
        let dir = std::mem::take(&mut self.dir_dirty)
            .then(|| (Arc::clone(&self.storage), self.dir.clone()));
        Ok(Flush {
            files,
            dir,
            up_to: self.log_end_offset,
            truncations: self.truncations,
        })
    }

    /// Advances the recovery point after `flush` was synced; does nothing when the log was truncated meanwhile.
    pub fn flushed(&mut self, flush: &Flush) {
        if flush.truncations == self.truncations {
            self.recovery_point = self.recovery_point.max(flush.up_to);
        }
    }

    /// Takes note that syncing failed: what was written may be lost although it can be read, so nothing is appended.
    pub fn flush_failed(&mut self) {
        self.failed = true;
    }
}
