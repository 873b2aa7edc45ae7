//! The store between a commit and a crash.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::records::{FRAME, ZXID, decode_zxid};
use super::super::snapshot;
use super::*;
use crate::storage::lock::LockError;

fn open(directory: &Path) -> Result<(SledStore, Contents), StoreError> {
    SledStore::open(directory, Contents::new)
}

fn batch(zxid: i64, key: &'static str, value: &'static str) -> Batch {
    let mut batch = Batch::new(zxid);
    let value = Some(Bytes::from_static(value.as_bytes()));
    batch
        .entries
        .insert(Bytes::from_static(key.as_bytes()), value);
    batch
}

/// Copies what is on disk while the store is open: what a killed process leaves.
fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        std::fs::create_dir_all(copy.path().join(&below)).unwrap();
        for entry in std::fs::read_dir(directory.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else {
                match std::fs::copy(entry.path(), copy.path().join(path)) {
                    // What the keeper was writing has its name by now, or is gone.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    copied => drop(copied.unwrap()),
                }
            }
        }
    }
    copy
}

fn three_commits() -> (tempfile::TempDir, SledStore) {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, contents) = open(directory.path()).unwrap();
    assert!(contents.is_empty());
    store.commit(batch(1, "first", "1")).unwrap();
    store.commit(batch(2, "second", "2")).unwrap();
    store.snapshot().unwrap();
    store.commit(batch(3, "third", "3")).unwrap();
    (directory, store)
}

#[test]
fn what_was_committed_is_there_after_a_kill() {
    let (directory, _store) = three_commits();
    let copy = killed(directory.path());
    let (_, contents) = open(copy.path()).unwrap();
    assert_eq!(contents.get(&b"third"[..]), Some(&Bytes::from_static(b"3")));
    assert_eq!((contents.len(), zxid(&contents)), (4, Some(3)));
}

#[test]
fn a_directory_has_one_store() {
    let (directory, store) = three_commits();
    let second = open(directory.path());
    assert!(matches!(
        second,
        Err(StoreError::Lock(LockError::Held { .. }))
    ));
    drop(store);
    assert!(open(directory.path()).is_ok());
}

fn zxid(contents: &Contents) -> Option<i64> {
    contents.get(ZXID).and_then(|value| decode_zxid(value))
}

fn damage(directory: &Path, how: impl Fn(&Path)) {
    for entry in std::fs::read_dir(directory.join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            how(&path);
        }
    }
}

/// Overwrites all of a file.
fn garble(path: &Path) {
    let length = std::fs::metadata(path).unwrap().len();
    let garbage = (0..length)
        .map(|at| (at * 31 % 251) as u8)
        .collect::<Vec<_>>();
    std::fs::write(path, garbage).unwrap();
}

/// The files of the journal, in order.
fn journal(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .filter(|path| path.to_string_lossy().contains("/journal-"))
        .collect();
    files.sort();
    files
}

fn remove_journal(directory: &Path) {
    for file in journal(directory) {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_garbled_database_is_rebuilt_from_the_snapshot_and_the_journal() {
    let (directory, store) = three_commits();
    drop(store);
    damage(directory.path(), garble);
    let (mut store, contents) = open(directory.path()).unwrap();
    assert_eq!(contents.get(&b"third"[..]), Some(&Bytes::from_static(b"3")));
    assert_eq!((contents.len(), zxid(&contents)), (4, Some(3)));
    assert!(directory.path().join("db.corrupt").exists());
    store.commit(batch(4, "fourth", "4")).unwrap();
    drop(store);
    let (_, contents) = open(directory.path()).unwrap();
    assert_eq!((contents.len(), zxid(&contents)), (5, Some(4)));
}

#[test]
fn without_the_journal_a_database_is_rebuilt_from_the_snapshot_alone() {
    let (directory, store) = three_commits();
    drop(store);
    damage(directory.path(), garble);
    remove_journal(directory.path());
    let (mut store, contents) = open(directory.path()).unwrap();
    assert_eq!(
        contents.get(&b"second"[..]),
        Some(&Bytes::from_static(b"2"))
    );
    assert_eq!(contents.get(&b"third"[..]), None);
    assert_eq!(zxid(&contents), Some(1 << 32), "no number comes twice");
    store.commit(batch((1 << 32) + 1, "fourth", "4")).unwrap();
    drop(store);
    let (_, contents) = open(directory.path()).unwrap();
    assert_eq!(contents.len(), 4);
}

#[test]
fn a_database_cut_anywhere_opens_with_everything() {
    let (directory, store) = three_commits();
    drop(store);
    let length = std::fs::metadata(directory.path().join("db/db"))
        .unwrap()
        .len();
    for part in 0..16 {
        let copy = killed(directory.path());
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(copy.path().join("db/db"))
            .unwrap();
        file.set_len(length * part / 16).unwrap();
        drop(file);
        let (_, contents) = open(copy.path()).unwrap();
        assert!(contents.contains_key(&b"third"[..]), "cut to {part}/16");
        assert_eq!(zxid(&contents), Some(3), "cut to {part}/16");
    }
}

#[test]
fn without_database_and_snapshot_the_journal_is_enough_if_it_goes_back_to_the_beginning() {
    let (directory, store) = three_commits();
    drop(store);
    damage(directory.path(), garble);
    garble(&directory.path().join("snapshot"));
    let (_, contents) = open(directory.path()).unwrap();
    assert_eq!((contents.len(), zxid(&contents)), (4, Some(3)));
}

#[test]
fn without_database_snapshot_and_journal_nothing_is_made_up() {
    let (directory, store) = three_commits();
    drop(store);
    damage(directory.path(), garble);
    garble(&directory.path().join("snapshot"));
    remove_journal(directory.path());
    let lost = open(directory.path()).err().unwrap();
    assert!(matches!(lost, StoreError::Lost { .. }), "{lost}");
}

#[test]
fn a_store_of_a_version_without_a_journal_is_taken_over() {
    let (directory, mut store) = three_commits();
    store.snapshot().unwrap();
    drop(store);
    // As that version leaves it.
    remove_journal(directory.path());
    let config = sled::Config::new().path(directory.path().join("db"));
    let database = config.segment_size(128 * 1024).open().unwrap();
    database.remove(FRAME).unwrap();
    database.flush().unwrap();
    drop(database);
    let path = directory.path().join("snapshot");
    let mut contents = snapshot::read(&path).unwrap().unwrap();
    contents.remove(FRAME);
    snapshot::write(&path, contents.into_iter().map(Ok)).unwrap();

    let (mut store, contents) = open(directory.path()).unwrap();
    assert_eq!((contents.len(), zxid(&contents)), (4, Some(3)));
    store.commit(batch(4, "fourth", "4")).unwrap();
    drop(store);
    damage(directory.path(), garble);
    let (_, contents) = open(directory.path()).unwrap();
    assert_eq!((contents.len(), zxid(&contents)), (5, Some(4)));
}

#[test]
fn a_damaged_journal_is_put_aside_and_what_is_before_the_damage_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = open(directory.path()).unwrap();
    store.commit(batch(1, "first", "1")).unwrap();
    store.commit(batch(2, "second", "2")).unwrap();
    store.commit(batch(3, "third", "3")).unwrap();
    let copy = killed(directory.path());
    let file = journal(copy.path()).pop().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(6).position(|six| six == b"second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let (mut store, contents) = open(copy.path()).unwrap();
    assert!(contents.contains_key(&b"first"[..]));
    assert_eq!(contents.len(), 2);
    assert_eq!(zxid(&contents), Some(1 << 32), "no number comes twice");
    assert!(file.with_extension("corrupt").exists());
    store.commit(batch((1 << 32) + 1, "fourth", "4")).unwrap();
    drop(store);
    let (_, contents) = open(copy.path()).unwrap();
    assert_eq!(
        (contents.len(), zxid(&contents)),
        (3, Some((1 << 32) + 1)),
        "it is not damaged any more"
    );
}

/// Counts records, and takes one of them for nonsense.
struct Picky(usize);

impl Restore for Picky {
    type Output = usize;
    type Error = &'static str;

    fn record(&mut self, key: &[u8], _: &[u8]) -> Result<(), &'static str> {
        self.0 += 1;
        if key == b"third" {
            Err("nonsense")
        } else {
            Ok(())
        }
    }

    fn finish(self) -> Result<usize, &'static str> {
        Ok(self.0)
    }
}

#[test]
fn contents_that_make_no_sense_are_rebuilt_too() {
    let (directory, store) = three_commits();
    drop(store);
    // The journal says the same nonsense: the snapshot is what there is.
    let (_, records) = SledStore::open(directory.path(), || Picky(0)).unwrap();
    assert_eq!(records, 3);
}

/// So small that everything happens often.
const SMALL: Sizes = Sizes {
    file: 2_048,
    absorb: 2_000,
    snapshot: 6_000,
};

fn open_small(directory: &Path) -> (SledStore, Contents) {
    SledStore::open_with(directory, SMALL, Contents::new).unwrap()
}

/// What happens to a store.
#[derive(Debug, Clone)]
enum Step {
    /// These keys get a new value of so many bytes, or are removed.
    Commit(Vec<(u8, Option<u16>)>),
    /// A snapshot is asked for.
    Save,
    /// The keeper has time to do all that it was given.
    Settle,
    /// The process is killed, and starts again from what is on the disk.
    Kill,
    /// The same, in the middle of the last write: so much of its end is nonsense.
    Tear(u16),
    /// An orderly stop, and a start.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..12u8, proptest::option::weighted(0.8, 0..400u16));
    let step = prop_oneof![
        12 => proptest::collection::vec(change, 1..6).prop_map(Step::Commit),
        1 => Just(Step::Save),
        2 => Just(Step::Settle),
        2 => Just(Step::Kill),
        2 => (1..600u16).prop_map(Step::Tear),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A store, and what it has to contain after its last commit and before that.
struct Model {
    directory: tempfile::TempDir,
    store: SledStore,
    acknowledged: Contents,
    before: Contents,
    /// How many bytes the last commit wrote, and where they end.
    last_write: Option<(PathBuf, u64, u64)>,
    zxid: i64,
}

impl Model {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (store, contents) = open_small(directory.path());
        Self {
            directory,
            store,
            acknowledged: contents.clone(),
            before: contents,
            last_write: None,
            zxid: 0,
        }
    }

    fn commit(&mut self, changes: &[(u8, Option<u16>)]) {
        self.zxid += 1;
        let mut batch = Batch::new(self.zxid);
        for &(key, length) in changes {
            let value = length.map(|length| vec![key ^ self.zxid as u8; length.into()]);
            let key = Bytes::from(vec![b'n', key]);
            batch.entries.insert(key, value.map(Bytes::from));
        }
        self.before = self.acknowledged.clone();
        overlay(&mut self.acknowledged, &batch.entries);
        self.store.commit(batch).unwrap();
        self.last_write = self.store.journal.last_write();
    }

    fn kill(&mut self) {
        let copy = killed(self.directory.path());
        self.start(copy);
        assert!(self.holds(&self.acknowledged), "something is lost");
    }

    fn tear(&mut self, bytes: u64) {
        let Some((file, begin, end)) = self.last_write.take() else {
            return;
        };
        if self.store.given == self.store.last {
            // The keeper gets nothing before it is on the disk.
            return;
        }
        let copy = killed(self.directory.path());
        let file = copy.path().join(file.file_name().unwrap());
        let mut torn = std::fs::read(&file).unwrap();
        let from = usize::try_from(begin.max(end.saturating_sub(bytes))).unwrap();
        for byte in &mut torn[from..usize::try_from(end).unwrap()] {
            *byte = byte.wrapping_mul(7) ^ 0x55;
        }
        std::fs::write(&file, torn).unwrap();
        self.start(copy);
        if self.holds(&self.before) {
            self.acknowledged = self.before.clone();
            self.zxid = zxid(&self.before).unwrap_or(0);
        } else {
            assert!(self.holds(&self.acknowledged), "half of a transaction");
        }
    }

    fn start(&mut self, directory: tempfile::TempDir) {
        let (store, contents) = open_small(directory.path());
        (self.store, self.directory) = (store, directory);
        self.last_write = None;
        assert_eq!(contents, self.store.contents().unwrap());
    }

    fn holds(&self, expected: &Contents) -> bool {
        self.store.contents().unwrap() == *expected
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Commit(changes) => self.commit(changes),
            Step::Save => self.store.save().unwrap(),
            Step::Settle => self.store.wait().unwrap(),
            Step::Kill => self.kill(),
            Step::Tear(bytes) => self.tear((*bytes).into()),
            Step::Restart => {
                self.store.snapshot().unwrap();
                self.kill();
            }
        }
        let files = journal(self.directory.path()).len() as u64;
        assert!(files * SMALL.file <= 5 * SMALL.snapshot, "it grows");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_crash_at_any_point_all_that_was_acknowledged_is_there(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
        }
        model.kill();
        // And from the snapshot and the journal alone.
        let copy = killed(model.directory.path());
        std::fs::remove_dir_all(copy.path().join("db")).unwrap();
        model.start(copy);
        prop_assert!(model.holds(&model.acknowledged), "a rebuild loses something");
    }
}
