//! A share partition: which records of one partition a share group has in flight (KIP-932).
//!
//! ```text
//!        acquire                       accept
//! Available ──────▶ Acquired ────────────────────────▶ Acknowledged
//!     ▲                │  │  reject, gap, or given up: delivered too often
//!     └────────────────┘  └──────────────────────────▶ Archived
//!  release, lock timed out
//! ```
//! Pure: requests and the time come in. Below the start offset everything is done with; from the next offset on nothing
//! was ever acquired.

use std::sync::Arc;

use troupe_protocol::kafka::errors::ErrorCode;

use super::ranges::RangeMap;
use super::stored::{Delivered, Stored, StoredState};

/// What a share group may do with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How often a record is delivered before it is given up (`group.share.delivery.count.limit`).
    pub delivery_count: i16,
    /// How many records may be between the start offset and the next one before no new ones are acquired
    /// (`group.share.partition.max.record.locks`).
    pub record_locks: i64,
    /// How long a record is locked, in milliseconds (`share.record.lock.duration.ms`).
    pub lock_duration_ms: i64,
}

/// Where a record in flight stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Available,
    Acquired {
        member: Arc<str>,
        /// When the lock ends, on the monotonic clock.
        until_ms: i64,
    },
    Acknowledged,
    Archived,
}

/// A record in flight, or a range of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InFlight {
    state: State,
    /// How often it was delivered.
    delivery_count: i16,
}

/// Who acquires, and how much.
#[derive(Debug, Clone)]
pub struct Acquisition {
    /// Member id.
    pub member: Arc<str>,
    /// The time, in milliseconds of the monotonic clock.
    pub now_ms: i64,
    /// How many records are enough; whole batches may be more.
    pub max_records: i64,
    /// How many records a range of the answer should have at most.
    pub batch_size: i64,
}

/// Records that a member has acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcquiredRecords {
    /// First offset.
    pub first: i64,
    /// Last offset.
    pub last: i64,
    /// How often they were delivered, this time included.
    pub delivery_count: i16,
}

/// What a member does with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcknowledgeType {
    /// There is no record at this offset.
    Gap,
    /// It is done.
    Accept,
    /// Somebody else may try.
    Release,
    /// Nobody will ever manage.
    Reject,
}

impl TryFrom<i8> for AcknowledgeType {
    type Error = ErrorCode;

    fn try_from(code: i8) -> Result<Self, ErrorCode> {
        match code {
            0 => Ok(Self::Gap),
            1 => Ok(Self::Accept),
            2 => Ok(Self::Release),
            3 => Ok(Self::Reject),
            _ => Err(ErrorCode::InvalidRequest),
        }
    }
}

/// Acknowledgements of a range of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgementBatch {
    /// First offset.
    pub first: i64,
    /// Last offset.
    pub last: i64,
    /// One for all, or one for each.
    pub types: Vec<AcknowledgeType>,
}

impl AcknowledgementBatch {
    /// Splits into ranges of one type.
    fn runs(&self) -> Vec<(i64, i64, AcknowledgeType)> {
        if let [all] = self.types[..] {
            return vec![(self.first, self.last, all)];
        }
        let mut runs: Vec<(i64, i64, AcknowledgeType)> = Vec::new();
        for (offset, &kind) in (self.first..=self.last).zip(&self.types) {
            match runs.last_mut() {
                Some((_, last, same)) if *same == kind => *last = offset,
                _ => runs.push((offset, offset, kind)),
            }
        }
        runs
    }
}

/// Checks acknowledgements of one partition as they come in a request.
///
/// # Errors
/// INVALID_REQUEST unless they are in order, do not overlap, and have one type or one for each record.
pub fn check_acknowledgements(batches: &[AcknowledgementBatch]) -> Result<(), ErrorCode> {
    let mut after = i64::MIN;
    for batch in batches {
        let length = batch.last.checked_sub(batch.first);
        let length = length.and_then(|length| usize::try_from(length).ok()?.checked_add(1));
        let fits = batch.types.len() == 1 || Some(batch.types.len()) == length;
        if batch.first < 0 || batch.first < after || length.is_none() || !fits {
            return Err(ErrorCode::InvalidRequest);
        }
        after = batch.last.saturating_add(1);
    }
    Ok(())
}

/// A share partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharePartition {
    start_offset: i64,
    next_offset: i64,
    /// What is known between them; the rest is available and was never delivered.
    in_flight: RangeMap<InFlight>,
}

impl SharePartition {
    /// Makes a share partition that begins at an offset.
    pub fn new(start_offset: i64) -> Self {
        Self {
            start_offset,
            next_offset: start_offset,
            in_flight: RangeMap::default(),
        }
    }

    /// Takes a share partition up from what is stored. What was acquired then is available.
    pub fn restored(stored: &Stored) -> Self {
        let mut partition = Self::new(stored.start_offset);
        for (first, last, delivered) in stored.batches.iter() {
            let state = match delivered.state {
                StoredState::Available => State::Available,
                StoredState::Acknowledged => State::Acknowledged,
                StoredState::Archived => State::Archived,
            };
            let delivery_count = delivered.delivery_count;
            let in_flight = InFlight {
                state,
                delivery_count,
            };
            partition.in_flight.set(first, last, in_flight);
            partition.next_offset = partition.next_offset.max(last.saturating_add(1));
        }
        partition.advance();
        partition
    }

    /// Returns the first offset that is not done with.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// Returns the state as it is to be stored. A record that is acquired is stored as it was before.
    pub fn stored(&self) -> RangeMap<Delivered> {
        let mut batches = RangeMap::default();
        for (first, last, in_flight) in self.in_flight.iter() {
            let (state, delivery_count) = match in_flight.state {
                State::Available => (StoredState::Available, in_flight.delivery_count),
                State::Acquired { .. } => (
                    StoredState::Available,
                    in_flight.delivery_count.saturating_sub(1),
                ),
                State::Acknowledged => (StoredState::Acknowledged, in_flight.delivery_count),
                State::Archived => (StoredState::Archived, in_flight.delivery_count),
            };
            if state != StoredState::Available || delivery_count > 0 {
                let delivered = Delivered {
                    state,
                    delivery_count,
                };
                batches.set(first, last, delivered);
            }
        }
        batches
    }

    /// Returns from where records are to be read for the next acquisition, if there may be one.
    pub fn next_fetch_offset(&self, limits: &Limits) -> Option<i64> {
        let last = self.next_offset.saturating_sub(1);
        let pieces = self.in_flight.pieces(self.start_offset, last);
        let available = pieces.iter().find(|(_, _, piece)| is_available(*piece));
        match available {
            Some(&(first, ..)) => Some(first),
            None => self.has_room(limits).then_some(self.next_offset),
        }
    }

    fn has_room(&self, limits: &Limits) -> bool {
        self.next_offset.saturating_sub(self.start_offset) < limits.record_locks
    }

    /// Locks available records for a member. `batches` are the first and last offsets of record batches that were read
    /// from `fetch_offset` on, in order; where they leave offsets out, there are no records.
    pub fn acquire(
        &mut self,
        acquisition: &Acquisition,
        fetch_offset: i64,
        batches: &[(i64, i64)],
        limits: &Limits,
    ) -> Vec<AcquiredRecords> {
        let mut acquired: Vec<AcquiredRecords> = Vec::new();
        let (mut count, mut at) = (0_i64, fetch_offset);
        for &(base, last) in batches {
            self.archive(at, base.saturating_sub(1));
            at = last.saturating_add(1);
            let is_new = base >= self.next_offset;
            if count >= acquisition.max_records || (is_new && !self.has_room(limits)) {
                break;
            }
            for piece in self.lock(base, last, acquisition, limits) {
                count = count.saturating_add(piece.last.saturating_sub(piece.first) + 1);
                add(&mut acquired, piece, acquisition.batch_size);
            }
        }
        acquired
    }

    /// Locks what is available in a range.
    fn lock(
        &mut self,
        first: i64,
        last: i64,
        acquisition: &Acquisition,
        limits: &Limits,
    ) -> Vec<AcquiredRecords> {
        let pieces = self.in_flight.pieces(first.max(self.start_offset), last);
        let available = pieces
            .into_iter()
            .filter(|(_, _, piece)| is_available(*piece));
        let acquired: Vec<AcquiredRecords> = available
            .map(|(first, last, piece)| AcquiredRecords {
                first,
                last,
                delivery_count: piece
                    .map_or(0, |piece| piece.delivery_count)
                    .saturating_add(1),
            })
            .collect();
        for piece in &acquired {
            let state = State::Acquired {
                member: Arc::clone(&acquisition.member),
                until_ms: acquisition.now_ms.saturating_add(limits.lock_duration_ms),
            };
            let in_flight = InFlight {
                state,
                delivery_count: piece.delivery_count,
            };
            self.in_flight.set(piece.first, piece.last, in_flight);
        }
        self.next_offset = self.next_offset.max(last.saturating_add(1));
        acquired
    }

    /// Marks offsets for which there is nothing to deliver, as far as they are available or new. Returns whether there
    /// were any.
    pub fn archive(&mut self, first: i64, last: i64) -> bool {
        self.archive_where(first, last, is_available)
    }

    /// Gives back what was just acquired because nobody may see it: records of aborted transactions.
    pub fn archive_acquired(&mut self, first: i64, last: i64, member: &str) -> bool {
        self.archive_where(first, last, |piece| is_acquired_by(piece, member))
    }

    fn archive_where(
        &mut self,
        first: i64,
        last: i64,
        wanted: impl Fn(Option<&InFlight>) -> bool,
    ) -> bool {
        let first = first.max(self.start_offset);
        let pieces = self.in_flight.pieces(first, last);
        let pieces = pieces.into_iter().filter(|(_, _, piece)| wanted(*piece));
        let pieces: Vec<(i64, i64, i16)> = pieces
            .map(|(first, last, piece)| {
                (first, last, piece.map_or(0, |piece| piece.delivery_count))
            })
            .collect();
        for &(first, last, delivery_count) in &pieces {
            let in_flight = InFlight {
                state: State::Archived,
                delivery_count,
            };
            self.in_flight.set(first, last, in_flight);
            self.next_offset = self.next_offset.max(last.saturating_add(1));
        }
        self.advance();
        !pieces.is_empty()
    }

    /// Takes a member's acknowledgements; all of them or none.
    ///
    /// # Errors
    /// INVALID_REQUEST for records that were never acquired, INVALID_RECORD_STATE for those that the member does not
    /// hold. Those below the start offset are let pass.
    pub fn acknowledge(
        &mut self,
        member: &str,
        batches: &[AcknowledgementBatch],
        limits: &Limits,
    ) -> Result<(), ErrorCode> {
        let runs = batches.iter().flat_map(AcknowledgementBatch::runs);
        let mut changes = Vec::new();
        for (first, last, kind) in runs {
            if last < self.start_offset {
                continue;
            }
            if last >= self.next_offset {
                return Err(ErrorCode::InvalidRequest);
            }
            for (first, last, piece) in self.in_flight.pieces(first.max(self.start_offset), last) {
                let held = piece.filter(|piece| is_acquired_by(Some(piece), member));
                let held = held.ok_or(ErrorCode::InvalidRecordState)?;
                let delivery_count = held.delivery_count;
                changes.push((first, last, acknowledged(kind, delivery_count, limits)));
            }
        }
        for (first, last, in_flight) in changes {
            self.in_flight.set(first, last, in_flight);
        }
        self.advance();
        Ok(())
    }

    /// Takes back what a member holds, as if it had never been delivered: its share session ends.
    pub fn release_member(&mut self, member: &str) -> bool {
        self.take_back(
            |piece| is_acquired_by(Some(piece), member),
            |delivery_count| InFlight {
                state: State::Available,
                delivery_count: delivery_count.saturating_sub(1),
            },
        )
    }

    /// Takes back the records whose locks have ended. Returns whether there were any.
    pub fn time_out(&mut self, now_ms: i64, limits: &Limits) -> bool {
        let ended = |piece: &InFlight| match piece.state {
            State::Acquired { until_ms, .. } => until_ms <= now_ms,
            _ => false,
        };
        self.take_back(ended, |delivery_count| {
            acknowledged(AcknowledgeType::Release, delivery_count, limits)
        })
    }

    fn take_back(
        &mut self,
        wanted: impl Fn(&InFlight) -> bool,
        next: impl Fn(i16) -> InFlight,
    ) -> bool {
        let pieces = self
            .in_flight
            .iter()
            .filter(|(_, _, piece)| wanted(piece))
            .map(|(first, last, piece)| (first, last, next(piece.delivery_count)));
        let pieces: Vec<_> = pieces.collect();
        let any = !pieces.is_empty();
        for (first, last, in_flight) in pieces {
            self.in_flight.set(first, last, in_flight);
        }
        self.advance();
        any
    }

    /// Returns when the next lock ends.
    pub fn next_timeout_ms(&self) -> Option<i64> {
        let locks = self
            .in_flight
            .iter()
            .filter_map(|(_, _, piece)| match piece.state {
                State::Acquired { until_ms, .. } => Some(until_ms),
                _ => None,
            });
        locks.min()
    }

    /// Moves the start offset to where the log begins now. Returns whether that changed anything.
    pub fn log_starts_at(&mut self, log_start_offset: i64) -> bool {
        if log_start_offset <= self.start_offset {
            return false;
        }
        self.start_offset = log_start_offset;
        self.next_offset = self.next_offset.max(log_start_offset);
        self.in_flight.clear_below(log_start_offset);
        self.advance();
        true
    }

    /// Moves the start offset over all that is done with.
    fn advance(&mut self) {
        let mut start = self.start_offset;
        for (first, last, piece) in self.in_flight.iter() {
            let done = matches!(piece.state, State::Acknowledged | State::Archived);
            if first > start || !done {
                break;
            }
            start = start.max(last.saturating_add(1));
        }
        if start > self.start_offset {
            self.start_offset = start;
            self.in_flight.clear_below(start);
        }
    }
}

fn is_available(piece: Option<&InFlight>) -> bool {
    piece.is_none_or(|piece| piece.state == State::Available)
}

fn is_acquired_by(piece: Option<&InFlight>, asker: &str) -> bool {
    piece.is_some_and(|piece| match &piece.state {
        State::Acquired { member, .. } => **member == *asker,
        _ => false,
    })
}

/// Says what becomes of a record that was delivered so often. One that is released too often is given up.
fn acknowledged(kind: AcknowledgeType, delivery_count: i16, limits: &Limits) -> InFlight {
    let state = match kind {
        AcknowledgeType::Accept => State::Acknowledged,
        AcknowledgeType::Release if delivery_count < limits.delivery_count => State::Available,
        AcknowledgeType::Release | AcknowledgeType::Reject | AcknowledgeType::Gap => {
            State::Archived
        }
    };
    InFlight {
        state,
        delivery_count,
    }
}

/// Adds acquired records to an answer, to the range before them where that stays small enough.
fn add(acquired: &mut Vec<AcquiredRecords>, piece: AcquiredRecords, batch_size: i64) {
    if let Some(before) = acquired.last_mut()
        && before.last.checked_add(1) == Some(piece.first)
        && before.delivery_count == piece.delivery_count
        && piece.last.saturating_sub(before.first) < batch_size
    {
        before.last = piece.last;
        return;
    }
    acquired.push(piece);
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
