//! The journal, cut and garbled.

use tempfile::TempDir;

use super::*;

const FILE: u64 = 1024;

fn batch(number: u64) -> Batch {
    let mut batch = Batch::default();
    let key = format!("key {}", number % 7);
    let value = (!number.is_multiple_of(5)).then(|| vec![number as u8; number as usize % 90]);
    batch.entries.insert(key.into(), value.map(Bytes::from));
    batch
}

/// What frames after a number up to another leave.
fn expected(after: u64, last: u64) -> Changes {
    let batches = (after + 1..=last).map(batch);
    batches.flat_map(|batch| batch.entries).collect()
}

fn filled(frames: u64) -> (TempDir, Journal) {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::find(directory.path(), FILE).unwrap();
    journal.replay(0).unwrap();
    for number in 1..=frames {
        assert_eq!(journal.append(&batch(number)).unwrap(), number);
    }
    (directory, journal)
}

fn replayed(directory: &Path, after: u64) -> Replay {
    let mut journal = Journal::find(directory, FILE).unwrap();
    journal.replay(after).unwrap()
}

fn copy(directory: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn what_was_appended_comes_back_from_any_frame_on() {
    let (directory, journal) = filled(60);
    assert!(journal.files.len() > 2, "several files");
    for after in 0..=60 {
        let replay = replayed(directory.path(), after);
        assert_eq!(replay.changes, expected(after, 60));
        assert_eq!((replay.last, replay.damage), (60, None));
    }
    // The database may be ahead of a journal of which files are gone.
    assert_eq!(replayed(directory.path(), 70).last, 70);
}

#[test]
fn a_file_that_is_used_again_says_nothing_of_its_old_frames() {
    let (directory, mut journal) = filled(60);
    journal.release(50).unwrap();
    assert!(journal.files.len() < 4);
    assert!(directory.path().join(SPARE).exists());
    for number in 61..=70 {
        journal.append(&batch(number)).unwrap();
        let replay = replayed(directory.path(), 50);
        assert_eq!(replay.changes, expected(50, number));
        assert_eq!((replay.last, replay.damage), (number, None));
    }
    let lost = replayed(directory.path(), 3);
    assert!(lost.damage.is_some(), "frame 4 was released");
}

#[test]
fn a_journal_cut_at_any_byte_has_whole_frames_up_to_there_and_is_appended_to() {
    let (directory, journal) = filled(12);
    assert_eq!(journal.files.len(), 1);
    let whole = std::fs::read(journal.path(1)).unwrap();
    let end = usize::try_from(journal.current.as_ref().unwrap().at).unwrap();
    let mut last = 0;
    for cut in 0..=end {
        let copy = copy(&directory);
        let path = copy.path().join(journal.path(1).file_name().unwrap());
        // Cut off, or never written, or written with something else.
        for filling in [None, Some(0), Some(0x5a)] {
            let mut bytes = whole[..cut].to_vec();
            if let Some(byte) = filling {
                bytes.resize(whole.len(), byte);
            }
            std::fs::write(&path, bytes).unwrap();
            let mut journal = Journal::find(copy.path(), FILE).unwrap();
            let replay = journal.replay(0).unwrap();
            assert_eq!(replay.damage, None, "cut at {cut}");
            assert_eq!(replay.changes, expected(0, replay.last), "cut at {cut}");
            let kept = replay.last;
            assert!(kept >= last, "cut at {cut}");
            if filling.is_none() {
                last = kept;
            }
            journal.append(&batch(kept + 1)).unwrap();
            let replay = replayed(copy.path(), 0);
            assert_eq!((replay.last, replay.damage), (kept + 1, None));
            assert_eq!(replay.changes, expected(0, kept + 1));
        }
    }
    assert_eq!(last, 12);
}

#[test]
fn damage_before_whole_frames_is_reported_wherever_it_is() {
    let (directory, journal) = filled(40);
    let files = journal.files.len();
    assert!(files >= 2);
    let first = journal.path(1);
    let whole = std::fs::read(&first).unwrap();
    let end = journal.files[1] - 1;
    for at in (0..whole.len()).step_by(3) {
        let copy = copy(&directory);
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(copy.path().join(first.file_name().unwrap()), bytes).unwrap();
        let replay = replayed(copy.path(), 0);
        let kept = replay.last;
        assert_eq!(replay.changes, expected(0, kept), "byte {at}");
        // The end of the file may have no frame, and there nothing can be damaged.
        assert_eq!(replay.damage.is_none(), kept == 40, "byte {at}");
        assert!(kept < end || kept == 40, "byte {at}");
        // Who has those frames already is not concerned.
        let replay = replayed(copy.path(), end);
        assert_eq!((replay.last, replay.damage), (40, None), "byte {at}");
    }
}

#[test]
fn damage_in_the_last_file_is_told_from_a_write_that_did_not_end() {
    let (directory, journal) = filled(12);
    let path = journal.path(1);
    let whole = std::fs::read(&path).unwrap();
    let (_, last_begins, _) = journal.last_write().unwrap();
    for at in 0..usize::try_from(last_begins).unwrap() {
        let mut bytes = whole.clone();
        bytes[at] = !bytes[at];
        std::fs::write(&path, bytes).unwrap();
        let replay = replayed(directory.path(), 0);
        assert!(replay.damage.is_some(), "byte {at}");
        assert_eq!(replay.changes, expected(0, replay.last), "byte {at}");
    }
}

#[test]
fn a_frame_larger_than_a_file_has_one_of_its_own_which_is_not_used_again() {
    let (directory, mut journal) = filled(3);
    let mut large = Batch::default();
    let value = Bytes::from(vec![1; 5_000]);
    large.entries.insert("large".into(), Some(value));
    journal.append(&large).unwrap();
    journal.append(&batch(5)).unwrap();
    let replay = replayed(directory.path(), 3);
    assert_eq!(replay.changes.len(), 2);
    journal.release(4).unwrap();
    let spare = std::fs::metadata(directory.path().join(SPARE)).unwrap();
    assert_eq!(spare.len(), FILE);
}

#[test]
fn a_large_frame_takes_the_place_of_a_file_in_which_nothing_is_whole() {
    let (directory, _) = filled(0);
    std::fs::write(directory.path().join(format!("{PREFIX}{:016x}", 1)), [7; 9]).unwrap();
    let mut journal = Journal::find(directory.path(), FILE).unwrap();
    journal.replay(0).unwrap();
    journal.append(&batch(1)).unwrap();
    assert_eq!(journal.files, [1]);
    journal.append(&batch(2)).unwrap();
    journal.close_file();
    journal.append(&batch(3)).unwrap();
    journal.release(1).unwrap();
    assert_eq!(replayed(directory.path(), 0).changes, expected(0, 3));
}
