//! The journal: every group of transactions in the order in which it was committed, in files that are allocated ahead.
//!
//! A commit is one write, which returns when it is on the disk. The database gets the changes later, many at once, and
//! a snapshot has them later still; until then the journal has them. Each file, `journal-<number>`, is named for its
//! first frame. When the snapshot has all of a file, it is used again: under another name, its old frames have numbers
//! that can't be meant.

mod frame;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::records::Batch;

/// How large a file is; one with a frame that is larger has the size of that.
pub(super) const FILE_BYTES: u64 = 4 * 1024 * 1024;
/// New files are filled in pieces of so many bytes.
const ZEROS: usize = 1024 * 1024;
const PREFIX: &str = "journal-";
/// A file that is allocated and waits for a name.
const SPARE: &str = "journal.spare";
/// How the names of files end that are damaged.
const ASIDE: &str = "corrupt";

/// By key, what a number of frames leave: the last value, or `None` for what is gone.
pub(super) type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// The journal of one store.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    /// The numbers of the first frames of all files, in order. Frames go into the last one, if it is open.
    files: VecDeque<u64>,
    current: Option<Current>,
    /// Number of the next frame.
    next: u64,
    file_bytes: u64,
    /// The frame that is being written, kept for its memory.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Current {
    file: File,
    /// Where the next frame goes.
    at: u64,
    length: u64,
}

/// What frames after a number say.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// All of it together.
    pub(super) changes: Changes,
    /// The last frame that could be read, or that was asked for.
    pub(super) last: u64,
    /// What is wrong, if frames are missing between those that are there.
    pub(super) damage: Option<String>,
}

/// Where reading a file ended.
struct Ended {
    at: u64,
    length: u64,
    next: u64,
}

impl Journal {
    /// Finds the files of a journal, new ones of which have so many bytes; reads and makes none.
    pub(super) fn find(directory: &Path, file_bytes: u64) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            files.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
        }
        files.sort_unstable();
        Ok(Self {
            directory: directory.into(),
            files: files.into(),
            current: None,
            next: 1,
            file_bytes,
            buffer: Vec::new(),
        })
    }

    /// Reads the frames after a number, and makes ready to append after the last of them.
    pub(super) fn replay(&mut self, after: u64) -> io::Result<Replay> {
        let mut replay = Replay {
            last: after,
            ..Replay::default()
        };
        // What the files before say is known.
        let begin = self.files.iter().rposition(|&first| first <= after + 1);
        if begin.is_none() && !self.files.is_empty() {
            replay.damage = Some(format!("nothing is left of frame {}", after + 1));
        }
        let files: Vec<u64> = self.files.range(begin.unwrap_or(0)..).copied().collect();
        self.current = None;
        for (index, &first) in files.iter().enumerate() {
            if replay.damage.is_some() {
                break;
            }
            let path = self.path(first);
            let ended = read_file(&path, first, &mut replay)?;
            match files.get(index + 1) {
                Some(&following) if following == ended.next => {}
                None => self.look_behind(&path, &ended, &mut replay)?,
                Some(&following) => {
                    replay.damage = Some(format!(
                        "{} ends before frame {}, and another begins with frame {following}",
                        path.display(),
                        ended.next
                    ));
                }
            }
        }
        self.next = replay.last + 1;
        Ok(replay)
    }

    /// The last file: what is behind its last whole frame is a write that did not end, unless there are frames again.
    fn look_behind(&mut self, path: &Path, ended: &Ended, replay: &mut Replay) -> io::Result<()> {
        let bytes = std::fs::read(path)?;
        let behind = usize::try_from(ended.at).map_err(io::Error::other)?;
        let behind = bytes.get(behind..).unwrap_or_default();
        if let Some(later) = frame::last_anywhere(behind, ended.next).filter(|&n| n > replay.last) {
            replay.damage = Some(format!(
                "{} is damaged at byte {}: frame {} is not there, but frame {later} is",
                path.display(),
                ended.at,
                ended.next
            ));
        } else if ended.next == replay.last + 1 {
            self.current = Some(Current {
                file: open(path)?,
                at: ended.at,
                length: ended.length,
            });
        }
        Ok(())
    }

    /// Returns the number of the first frame that is kept; `None` without a file.
    pub(super) fn first(&self) -> Option<u64> {
        self.files.front().copied()
    }

    /// Returns how many bytes all files take.
    pub(super) fn bytes(&self) -> u64 {
        self.file_bytes.saturating_mul(self.files.len() as u64)
    }

    /// Tells whether the next frame will not follow the ones that are there, although there should be some.
    pub(super) fn begins_anew(&self) -> bool {
        self.current.is_none() && self.next > 1
    }

    /// Begins after a frame that is not in the journal.
    pub(super) fn skip_to(&mut self, last: u64) {
        self.current = None;
        self.next = last + 1;
    }

    /// Appends a batch and returns its number when it is on the disk.
    ///
    /// # Errors
    /// Of the kind `StorageFull` or `QuotaExceeded` when there is no room for another file: then nothing was done. After
    /// any other error nothing more may be written.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<u64> {
        let mut buffer = std::mem::take(&mut self.buffer);
        frame::encode(self.next, batch, &mut buffer)?;
        let result = self.write(&buffer);
        if buffer.capacity() <= 256 * 1024 {
            self.buffer = buffer;
        }
        result
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<u64> {
        let bytes = frame.len() as u64;
        let current = match &mut self.current {
            Some(current) if current.at.saturating_add(bytes) <= current.length => current,
            _ => {
                let opened = self.open_next(bytes)?;
                self.current.insert(opened)
            }
        };
        current.file.write_all_at(frame, current.at)?;
        current.at += bytes;
        let number = self.next;
        self.next += 1;
        Ok(number)
    }

    /// Makes the file that begins with the next frame.
    fn open_next(&mut self, bytes: u64) -> io::Result<Current> {
        let length = bytes.max(self.file_bytes);
        let spare = self.directory.join(SPARE);
        let file = open(&spare)?;
        let had = file.metadata()?.len();
        if let Err(error) = allocate(&file, length) {
            // What was allocated of it is in the way of others; a whole spare stays one.
            let _ = match had >= self.file_bytes {
                true => file.set_len(had),
                false => std::fs::remove_file(&spare),
            };
            return Err(error);
        }
        std::fs::rename(&spare, self.path(self.next))?;
        File::open(&self.directory)?.sync_all()?;
        // A file of that name had nothing whole, and no room for this frame; this one took its place.
        if self.files.back() != Some(&self.next) {
            self.files.push_back(self.next);
        }
        Ok(Current {
            file,
            at: 0,
            length,
        })
    }

    /// Gives up files with nothing but frames up to this one, and keeps one of them to be used again.
    pub(super) fn release(&mut self, through: u64) -> io::Result<()> {
        while let (Some(&first), following) = (self.files.front(), self.files.get(1)) {
            // The last file is given up when the next frame does not go into it.
            let end = match following {
                Some(&following) => following,
                None if self.current.is_none() => self.next,
                None => return Ok(()),
            };
            if end > through + 1 {
                return Ok(());
            }
            let (path, spare) = (self.path(first), self.directory.join(SPARE));
            if std::fs::metadata(&path)?.len() == self.file_bytes {
                std::fs::rename(&path, &spare)?;
            } else {
                std::fs::remove_file(&path)?;
            }
            self.files.pop_front();
        }
        Ok(())
    }

    /// Returns the file of the last frame, and where that begins and ends.
    #[cfg(test)]
    pub(super) fn last_write(&self) -> Option<(PathBuf, u64, u64)> {
        let (first, current) = (self.files.back()?, self.current.as_ref()?);
        let begin = current.at - self.buffer.len() as u64;
        Some((self.path(*first), begin, current.at))
    }

    /// Has the next frame begin a file.
    pub(super) fn close_file(&mut self) {
        self.current = None;
    }

    /// Puts all files aside, under names that are not read.
    pub(super) fn put_aside(&mut self) -> io::Result<()> {
        let files = std::mem::take(&mut self.files);
        if !files.is_empty() {
            self.forget_aside()?;
        }
        // The last one first: what a crash leaves then is still a beginning.
        for first in files.into_iter().rev() {
            let path = self.path(first);
            std::fs::rename(&path, path.with_extension(ASIDE))?;
        }
        self.current = None;
        // Its old frames may have numbers that come again.
        match std::fs::remove_file(self.directory.join(SPARE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(&self.directory)?.sync_all()
    }

    /// Only the last ones are kept, so that the disk does not fill up with them.
    fn forget_aside(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let is_journal = path.file_stem().and_then(OsStr::to_str);
            if is_journal.is_some_and(|name| name.starts_with(PREFIX))
                && path.extension() == Some(OsStr::new(ASIDE))
            {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn path(&self, first: u64) -> PathBuf {
        self.directory.join(format!("{PREFIX}{first:016x}"))
    }
}

/// Reads frames one after the other until there is none with the number that would be next.
fn read_file(path: &Path, first: u64, replay: &mut Replay) -> io::Result<Ended> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut input = BufReader::with_capacity(64 * 1024, file);
    let (mut at, mut next) = (0, first);
    while let Some(frame) = frame::read(&mut input, length - at)? {
        if frame.number != next {
            break;
        }
        if next > replay.last {
            let changes = &mut replay.changes;
            if !frame.entries(|key, value| drop(changes.insert(key, value))) {
                break;
            }
            replay.last = next;
        }
        at += frame.bytes;
        next += 1;
    }
    Ok(Ended { at, length, next })
}

/// Opens a file whose writes return when they are on the disk.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::DSYNC.bits()).unwrap_or_default();
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .open(path)
}

/// Sees to it that the file has so many bytes, with blocks on the disk that have been written.
///
/// A block that is only allocated is marked as written by its first write, and for that mark the file system needs a
/// transaction of its own, which waits for whatever else is being written to the disk.
fn allocate(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() >= length {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        // Without it, a disk that is full shows while the zeros are written.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < length {
        let left = usize::try_from(length - at).unwrap_or(ZEROS);
        let piece = zeros.get(..left.min(ZEROS)).unwrap_or_default();
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests;
