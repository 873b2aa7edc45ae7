//! The thread that has the database: it takes changes that are in the journal already, many at once, and writes the
//! snapshots. Nobody waits for it but when it lags far behind, or at the end.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use std::io;

use super::database::{Database, io_error};
use super::journal::Changes;
use super::reserve::{Reserve, is_full};
use super::snapshot;
use super::store::{Contents, StoreError};

/// Something to do; each is answered by one [`Report`].
enum Task {
    /// Store the changes of frames up to this one, and write a snapshot as well if that is asked for.
    Absorb {
        changes: Changes,
        frame: u64,
        snapshot: bool,
    },
    /// Read everything that was absorbed, or was to be.
    Read(Sender<Result<Contents, StoreError>>),
}

/// How far the keeper is.
#[derive(Debug)]
pub(super) struct Report {
    /// Everything up to this frame is in the database.
    pub(super) absorbed: u64,
    /// Everything up to this frame is in the snapshot, and how many bytes that has.
    pub(super) saved: Option<(u64, u64)>,
    /// What the database refused. After another error than `Full` it takes nothing more.
    pub(super) refused: Option<StoreError>,
}

/// The other end of the thread. It ends, and the database is closed, when this is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    tasks: Option<Sender<Task>>,
    reports: Receiver<Report>,
    /// Tasks that are not reported yet.
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread with a database that has everything up to a frame, and says so.
    pub(super) fn start(
        directory: &Path,
        database: Database,
        reserve: Reserve,
        absorbed: u64,
    ) -> Result<Self, StoreError> {
        let (tasks, to_do) = channel();
        let (report, reports) = channel();
        let work = Work {
            snapshot: directory.join("snapshot"),
            database,
            reserve,
            changes: Changes::new(),
            absorbed,
            lacks_room: false,
        };
        let thread = std::thread::Builder::new()
            .name("znode-database".into())
            .stack_size(512 * 1024)
            .spawn(move || work.run(&to_do, &report))
            .map_err(|source| io_error(directory, source))?;
        Ok(Self {
            tasks: Some(tasks),
            reports,
            under_way: 0,
            thread: Some(thread),
        })
    }

    /// Returns how many tasks are not done.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Hands changes over; they are in the database when it is reported.
    pub(super) fn absorb(
        &mut self,
        changes: Changes,
        frame: u64,
        snapshot: bool,
    ) -> Result<(), StoreError> {
        self.under_way += 1;
        self.give(Task::Absorb {
            changes,
            frame,
            snapshot,
        })
    }

    /// Returns the next report if there is one.
    pub(super) fn reported(&mut self) -> Option<Report> {
        let report = self.reports.try_recv().ok()?;
        self.under_way -= 1;
        Some(report)
    }

    /// Waits for the next report; `None` when nothing is under way.
    pub(super) fn wait(&mut self) -> Result<Option<Report>, StoreError> {
        if self.under_way == 0 {
            return Ok(None);
        }
        self.under_way -= 1;
        self.reports.recv().map(Some).map_err(|_| died())
    }

    /// Reads everything that was handed over.
    pub(super) fn contents(&self) -> Result<Contents, StoreError> {
        let (answer, contents) = channel();
        self.give(Task::Read(answer))?;
        contents.recv().map_err(|_| died())?
    }

    fn give(&self, task: Task) -> Result<(), StoreError> {
        let tasks = self.tasks.as_ref().ok_or_else(died)?;
        tasks.send(task).map_err(|_| died())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn died() -> StoreError {
    StoreError::Panicked("the thread of the database is gone".into())
}

/// What the thread has.
struct Work {
    snapshot: PathBuf,
    database: Database,
    reserve: Reserve,
    /// Found no room yet.
    changes: Changes,
    absorbed: u64,
    /// The last snapshot found no room, which was said.
    lacks_room: bool,
}

impl Work {
    fn run(mut self, tasks: &Receiver<Task>, reports: &Sender<Report>) {
        while let Ok(task) = tasks.recv() {
            match task {
                Task::Absorb {
                    changes,
                    frame,
                    snapshot,
                } => {
                    let report = self.absorb(changes, frame, snapshot);
                    if reports.send(report).is_err() {
                        return;
                    }
                }
                Task::Read(answer) => {
                    let _ = answer.send(self.contents());
                }
            }
        }
    }

    fn absorb(&mut self, changes: Changes, frame: u64, snapshot: bool) -> Report {
        self.changes.extend(changes);
        let mut refused = None;
        if !self.changes.is_empty() || frame > self.absorbed {
            match self.database.apply(&self.changes, frame, &self.reserve) {
                Ok(()) => {
                    self.changes.clear();
                    self.absorbed = frame;
                    self.reserve.make();
                }
                Err(error) => refused = Some(error),
            }
        }
        let saved = match snapshot && refused.is_none() {
            true => self.save(),
            false => None,
        };
        Report {
            absorbed: self.absorbed,
            saved,
            refused,
        }
    }

    /// Writes a snapshot; without one everything goes on, because the journal is kept as long as it can be.
    fn save(&mut self) -> Option<(u64, u64)> {
        let result = self.database.records().and_then(|records| {
            let records = records.map(|record| record.map_err(io::Error::other));
            snapshot::write(&self.snapshot, records)
                .map_err(|source| io_error(&self.snapshot, source))
        });
        match result {
            Ok(bytes) => {
                self.lacks_room = false;
                Some((self.absorbed, bytes))
            }
            Err(StoreError::Io { source, .. }) if is_full(&source) => {
                if !std::mem::replace(&mut self.lacks_room, true) {
                    let path = self.snapshot.display();
                    tracing::warn!(
                        "no room for a snapshot of the coordination store, {path}; the last one stays"
                    );
                }
                None
            }
            Err(error) => {
                tracing::warn!(%error, "no snapshot of the coordination store was written");
                None
            }
        }
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        let mut contents = self.database.contents()?;
        overlay(&mut contents, &self.changes);
        Ok(contents)
    }
}

/// Makes changes to contents.
pub(super) fn overlay(contents: &mut Contents, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => contents.insert(key.clone(), value.clone()),
            None => contents.remove(key),
        };
    }
}
