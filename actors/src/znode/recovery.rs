//! How a store is put together again from what is on the disk.
//!
//! Usually the database is the base, and the journal has what came after. A database that sled cannot read, of which no
//! sense can be made, or that lags behind what the journal or the snapshot know, is put aside and built again from the
//! snapshot and the journal, which goes back that far. When something is missing all the same, the rest is lost, which is
//! said, and the zxid jumps ahead, so that no number comes twice.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::database::{Database, Found, Unopened, io_error};
use super::journal::{Changes, Journal};
use super::keeper::overlay;
use super::records::{FRAME, ZXID, decode_frame, decode_zxid};
use super::reserve::Reserve;
use super::snapshot;
use super::store::{Contents, Restore, StoreError};

/// A store that is ready to be used.
pub(super) struct Recovered<T> {
    pub(super) database: Database,
    pub(super) journal: Journal,
    /// What the database does not have of the journal.
    pub(super) pending: Changes,
    /// The last frames of the database, of the journal, and of the snapshot.
    pub(super) absorbed: u64,
    pub(super) last: u64,
    pub(super) saved: Saved,
    /// The snapshot and the journal do not have everything together: the store is of a version that had no journal, or
    /// is not what it was.
    pub(super) needs_snapshot: bool,
    pub(super) restored: T,
}

/// What is known of a snapshot without keeping it; nothing, if there is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Saved {
    pub(super) frame: u64,
    pub(super) bytes: u64,
    zxid: Option<i64>,
}

/// Opens everything, and builds the database again if that is necessary.
pub(super) fn recover<R: Restore>(
    directory: &Path,
    file_bytes: u64,
    reserve: &Reserve,
    restore: &impl Fn() -> R,
) -> Result<Recovered<R::Output>, StoreError> {
    let mut journal =
        Journal::find(directory, file_bytes).map_err(|source| io_error(directory, source))?;
    let saved = last_saved(&directory.join("snapshot"));
    match take_up(directory, reserve, &mut journal, &saved, restore) {
        Ok((database, taken)) => Ok(Recovered {
            database,
            journal,
            pending: taken.pending,
            absorbed: taken.absorbed,
            last: taken.last,
            saved: saved.unwrap_or_default(),
            needs_snapshot: taken.needs_snapshot,
            restored: taken.restored,
        }),
        Err(Unopened::Refused(error)) => Err(error),
        Err(Unopened::Corrupt(reason)) => {
            let (database, last, restored) =
                rebuild(directory, reserve, &mut journal, &reason, restore)?;
            Ok(Recovered {
                database,
                journal,
                pending: Changes::new(),
                absorbed: last,
                last,
                saved: saved.unwrap_or_default(),
                needs_snapshot: true,
                restored,
            })
        }
    }
}

struct Taken<T> {
    pending: Changes,
    absorbed: u64,
    last: u64,
    needs_snapshot: bool,
    restored: T,
}

/// Takes the database, and the journal after it.
fn take_up<R: Restore>(
    directory: &Path,
    reserve: &Reserve,
    journal: &mut Journal,
    saved: &io::Result<Saved>,
    restore: &impl Fn() -> R,
) -> Result<(Database, Taken<R::Output>), Unopened> {
    let mut database = open_database(&directory.join("db"), reserve)?;
    let (absorbed, is_older) = match database.last_frame()? {
        Some(frame) => (frame, false),
        // What a version without a journal stored counts as the first frame.
        None => (u64::from(!database.is_empty()?), !database.is_empty()?),
    };
    let saved_frame = saved.as_ref().map_or(0, |saved| saved.frame);
    if saved_frame > absorbed || journal.first().is_some_and(|first| first > absorbed + 1) {
        return Err(Unopened::Corrupt(
            "it lags behind the snapshot or the journal".into(),
        ));
    }
    let replay = journal.replay(absorbed).map_err(refused(directory))?;
    let mut pending = replay.changes;
    if replay.damage.is_some() {
        let last = match pending.get(ZXID) {
            Some(zxid) => zxid.as_deref().and_then(decode_zxid),
            None => database.zxid()?,
        };
        jump(&mut pending, last.unwrap_or_default());
    }
    let found = database.restore(&pending, restore())?;
    if lags(&found, saved) {
        return Err(Unopened::Corrupt("it lags behind the snapshot".into()));
    }
    let needs_snapshot = is_older || replay.damage.is_some() || journal.begins_anew();
    let mut absorbed = absorbed;
    if let Some(damage) = replay.damage {
        let stored = database.apply(&pending, replay.last, reserve);
        stored.map_err(Unopened::Refused)?;
        journal.put_aside().map_err(refused(directory))?;
        journal.skip_to(replay.last);
        pending = Changes::new();
        absorbed = replay.last;
        tracing::error!(
            directory = %directory.display(), damage,
            "the coordination journal is damaged; changes after that are lost"
        );
    }
    Ok((
        database,
        Taken {
            pending,
            absorbed,
            last: replay.last,
            needs_snapshot,
            restored: found.restored,
        },
    ))
}

fn refused(directory: &Path) -> impl Fn(io::Error) -> Unopened {
    move |source| Unopened::Refused(io_error(directory, source))
}

/// Opens the database; with the reserve given up, if that is what it takes.
fn open_database(path: &Path, reserve: &Reserve) -> Result<Database, Unopened> {
    match Database::open(path) {
        Err(Unopened::Refused(error)) if error.is_full() && reserve.give_up() => {
            Database::open(path)
        }
        other => other,
    }
}

/// Reads what the snapshot says of itself.
fn last_saved(path: &Path) -> io::Result<Saved> {
    let mut saved = Saved::default();
    snapshot::scan(path, |key, value| {
        if key == ZXID {
            saved.zxid = decode_zxid(value);
        } else if key == FRAME {
            saved.frame = decode_frame(value).unwrap_or_default();
        }
    })?;
    saved.bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(saved)
}

/// Tells whether the snapshot is newer. sled drops what it takes for a torn end without a word, in the worst case
/// everything, so an empty database beside a snapshot that cannot be read is as suspicious.
fn lags<T>(found: &Found<T>, saved: &io::Result<Saved>) -> bool {
    match saved {
        Ok(saved) => saved.zxid > found.zxid,
        Err(error) => {
            tracing::warn!(%error, "the coordination snapshot cannot be read");
            found.records == 0
        }
    }
}

/// Has the zxid go on in the next epoch.
fn jump(changes: &mut Changes, last: i64) {
    let next = ((last >> 32) + 1) << 32;
    changes.insert(
        Bytes::from_static(ZXID),
        Some(Bytes::copy_from_slice(&next.to_be_bytes())),
    );
}

fn lost(directory: &Path, reason: String) -> StoreError {
    StoreError::Lost {
        path: directory.into(),
        reason,
    }
}

/// What a database is built from.
struct Base {
    contents: Contents,
    /// The last frame that is in it.
    last: u64,
    /// Why it is not everything.
    missing: Option<String>,
}

impl Base {
    /// Reads the snapshot, and the journal after it.
    fn read(directory: &Path, journal: &mut Journal, reason: &str) -> Result<Self, StoreError> {
        let read = snapshot::read(&directory.join("snapshot"));
        let unreadable = read.as_ref().err().map(ToString::to_string);
        let mut contents = read.ok().flatten().unwrap_or_default();
        let frame = contents.remove(FRAME);
        let frame = frame.and_then(|frame| decode_frame(&frame)).unwrap_or(0);
        let begins = journal.first();
        let replay = journal
            .replay(frame)
            .map_err(|source| io_error(directory, source))?;
        let mut missing = replay.damage;
        if begins.is_none() && !contents.is_empty() {
            missing = Some("there is no journal".into());
        }
        let mut last = frame;
        if begins.is_some_and(|first| first <= frame + 1) {
            overlay(&mut contents, &replay.changes);
            last = replay.last;
        }
        // Without the snapshot only a journal will do that has all that ever was.
        let has_all = begins == Some(1) && last > 0 && missing.is_none();
        if let Some(error) = unreadable.filter(|_| !has_all) {
            return Err(lost(directory, format!("{reason}; {error}")));
        }
        Ok(Self {
            contents,
            last,
            missing,
        })
    }

    /// Tells whether sense can be made of it.
    fn makes_sense<R: Restore>(&self, mut restore: R) -> Result<(), String> {
        for (key, value) in &self.contents {
            let taken = restore.record(key, value);
            taken.map_err(|error| error.to_string())?;
        }
        restore
            .finish()
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// Puts the database aside and fills a new one; returns it with the last frame that it has.
fn rebuild<R: Restore>(
    directory: &Path,
    reserve: &Reserve,
    journal: &mut Journal,
    reason: &str,
    restore: &impl Fn() -> R,
) -> Result<(Database, u64, R::Output), StoreError> {
    let io = |source| io_error(directory, source);
    let mut base = Base::read(directory, journal, reason)?;
    if let Err(nonsense) = base.makes_sense(restore()) {
        journal.put_aside().map_err(io)?;
        base = Base::read(directory, journal, reason)?;
        base.missing = Some(nonsense);
    }
    let path = directory.join("db");
    let aside = put_database_aside(&path)?;
    let mut changes: Changes = base
        .contents
        .iter()
        .map(|(key, value)| (key.clone(), Some(value.clone())))
        .collect();
    let zxid = base.contents.get(ZXID);
    let zxid = zxid.and_then(|zxid| decode_zxid(zxid)).unwrap_or_default();
    if base.missing.is_some() && !changes.is_empty() {
        jump(&mut changes, zxid);
    }
    let refused = |unopened| match unopened {
        Unopened::Refused(error) => error,
        Unopened::Corrupt(reason) => lost(directory, reason),
    };
    let mut database = open_database(&path, reserve).map_err(refused)?;
    if !changes.is_empty() {
        database.apply(&changes, base.last, reserve)?;
    }
    let found = database
        .restore(&Changes::new(), restore())
        .map_err(refused)?;
    if base.missing.is_some() {
        journal.put_aside().map_err(io)?;
        journal.skip_to(base.last);
    }
    let outcome = match &base.missing {
        Some(missing) => format!("changes after that are lost: {missing}"),
        None => "nothing is lost".to_owned(),
    };
    tracing::warn!(
        directory = %directory.display(), reason, records = changes.len(), aside = %aside.display(),
        "the coordination database could not be used; rebuilt it from the snapshot and the journal up to zxid 0x{zxid:x}, {outcome}"
    );
    Ok((database, base.last, found.restored))
}

/// Only the last one is kept, so that the disk does not fill up with them.
fn put_database_aside(path: &Path) -> Result<std::path::PathBuf, StoreError> {
    let aside = path.with_extension("corrupt");
    if path.exists() {
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(|source| io_error(&aside, source))?;
        }
        std::fs::rename(path, &aside).map_err(|source| io_error(path, source))?;
    }
    Ok(aside)
}
