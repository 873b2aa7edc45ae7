//! A transactional id: what is stored of it, and what each request makes of that.
//!
//! Pure. A request is answered with a [`Step`]: an answer, or a value that has to be stored first. While a value is being
//! stored, or the markers of an ended transaction are being written, everybody else is told CONCURRENT_TRANSACTIONS.
//! What is in memory is what is in the log: [`Transaction::stored`] takes a value over, and only then.
//!
//! Epochs only grow. A producer of an older epoch is fenced: by the next producer of its id, by the time-out of its
//! transaction, and from version 2 of the protocol on each transaction has an epoch of its own (KIP-890).

use std::collections::BTreeSet;

use troupe_protocol::kafka::errors::ErrorCode;

use super::state::State;
use crate::partition::TopicPartition;

/// Stands for "no producer id".
pub const NO_PRODUCER_ID: i64 = -1;
/// Stands for "no epoch": before the first producer, or after one was fenced.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The last epoch that a producer is given. The one above is left for the marker of its last transaction.
const LAST_EPOCH: i16 = i16::MAX - 1;
/// The version of the protocol in which every transaction has an epoch of its own (KIP-890).
pub const EPOCH_PER_TRANSACTION: i16 = 2;

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
}

/// What is stored of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its producer.
    pub producer: Producer,
    /// The producer id before the last change; -1 for none.
    pub previous_producer_id: i64,
    /// The producer id after the transaction that is ending, when the epochs of this one are used up; -1 for none.
    pub next_producer_id: i64,
    /// How long a transaction may take, in milliseconds.
    pub timeout_ms: i32,
    /// Where the latest transaction stands.
    pub state: State,
    /// The partitions in it.
    pub partitions: BTreeSet<TopicPartition>,
    /// When this was stored, milliseconds since the epoch.
    pub last_update_ms: i64,
    /// When the transaction began, milliseconds since the epoch; -1 for none.
    pub start_ms: i64,
    /// The version of the transaction protocol that it follows.
    pub transaction_version: i16,
}

/// An InitProducerId.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// How long transactions may take, in milliseconds.
    pub timeout_ms: i32,
    /// Who the producer takes itself for, when it goes on after an error (KIP-360).
    pub expected: Option<Producer>,
}

/// An EndTxn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Who ends.
    pub producer: Producer,
    /// Whether to commit; to abort otherwise.
    pub commit: bool,
    /// The version of the transaction protocol that the producer speaks.
    pub transaction_version: i16,
}

/// What follows from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Answer: nothing changes.
    Answer(Producer),
    /// Store a value, call [`Transaction::stored`], then answer.
    Store(Producer),
    /// The producer that had the transaction open is fenced: store a value, call [`Transaction::stored`], then answer
    /// CONCURRENT_TRANSACTIONS, so that the client comes back when the transaction is aborted.
    Fence,
    /// Ask again with a producer id that nobody has had.
    NeedsProducerId,
}

/// The markers that end a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Whose transaction, and the epoch of the markers.
    pub producer: Producer,
    /// Whether it is committed.
    pub committed: bool,
    /// The version of the transaction protocol that it followed.
    pub transaction_version: i16,
    /// Where markers have to be written.
    pub partitions: BTreeSet<TopicPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    value: Value,
    last_epoch: i16,
}

/// A transactional id.
#[derive(Debug, Clone)]
pub struct Transaction {
    value: Value,
    /// The epoch before the producer's own, if it was its own too: by it a repeated InitProducerId is known. -1 after
    /// somebody else took over, and after a restart.
    last_epoch: i16,
    /// What is being stored.
    pending: Option<Pending>,
}

impl Transaction {
    /// Makes a transactional id that nobody has used yet; nothing of it is stored.
    pub fn new(producer_id: i64, now_ms: i64) -> Self {
        Self::restored(Value {
            producer: Producer {
                id: producer_id,
                epoch: NO_PRODUCER_EPOCH,
            },
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            timeout_ms: 0,
            state: State::Empty,
            partitions: BTreeSet::new(),
            last_update_ms: now_ms,
            start_ms: -1,
            transaction_version: 0,
        })
    }

    /// Takes a transactional id up from what is stored.
    pub fn restored(value: Value) -> Self {
        Self {
            value,
            last_epoch: NO_PRODUCER_EPOCH,
            pending: None,
        }
    }

    /// Returns what is stored.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Returns what is to be stored now.
    pub fn pending(&self) -> Option<&Value> {
        self.pending.as_ref().map(|pending| &pending.value)
    }

    /// Tells whether nobody was ever given the producer.
    pub fn is_new(&self) -> bool {
        self.value.producer.epoch == NO_PRODUCER_EPOCH
    }

    /// Gives a producer its id and epoch, and by that fences the one before. `fresh_id` is a producer id that nobody
    /// has had, when one was asked for.
    ///
    /// # Errors
    /// CONCURRENT_TRANSACTIONS while a transaction is ended, PRODUCER_FENCED when the producer is not who it takes
    /// itself for.
    pub fn init(
        &mut self,
        init: Init,
        fresh_id: Option<i64>,
        now_ms: i64,
    ) -> Result<Step, ErrorCode> {
        self.check_idle()?;
        let current = self.value.producer;
        if let Some(expected) = init.expected.filter(|_| !self.is_new()) {
            self.check_expected(expected)?;
            let repeated = expected.epoch != current.epoch;
            if repeated && self.value.state != State::Ongoing {
                return Ok(Step::Answer(current));
            }
        }
        if self.value.state == State::Ongoing {
            self.fence(now_ms);
            return Ok(Step::Fence);
        }
        let Some(producer) = next_producer(current, fresh_id) else {
            return Ok(Step::NeedsProducerId);
        };
        let last_epoch = init.expected.map_or(NO_PRODUCER_EPOCH, |_| current.epoch);
        let value = Value {
            producer,
            previous_producer_id: current.id,
            timeout_ms: init.timeout_ms,
            state: State::Empty,
            start_ms: -1,
            last_update_ms: now_ms,
            ..self.value.clone()
        };
        self.pending = Some(Pending { value, last_epoch });
        Ok(Step::Store(producer))
    }

    /// Checks that a producer had the id last: as it is now, or as it was before a call whose answer was lost.
    fn check_expected(&self, expected: Producer) -> Result<(), ErrorCode> {
        let value = &self.value;
        let same_id = expected.id == value.producer.id
            || (expected.id == value.previous_producer_id && expected.epoch >= LAST_EPOCH);
        let known_epoch = [value.producer.epoch, self.last_epoch].contains(&expected.epoch);
        if !same_id || !known_epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        Ok(())
    }

    /// Adds partitions to the transaction, which begins with the first.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub fn add(
        &mut self,
        producer: Producer,
        partitions: &BTreeSet<TopicPartition>,
        transaction_version: i16,
        now_ms: i64,
    ) -> Result<Step, ErrorCode> {
        self.check_idle()?;
        self.check_producer(producer)?;
        let ongoing = self.value.state == State::Ongoing;
        if ongoing && partitions.is_subset(&self.value.partitions) {
            return Ok(Step::Answer(producer));
        }
        let mut value = Value {
            previous_producer_id: producer.id,
            state: State::Ongoing,
            start_ms: if ongoing { self.value.start_ms } else { now_ms },
            last_update_ms: now_ms,
            transaction_version,
            ..self.value.clone()
        };
        value.partitions.extend(partitions.iter().cloned());
        self.store(value);
        Ok(Step::Store(producer))
    }

    /// Tells of each partition whether it is in the transaction: TRANSACTION_ABORTABLE otherwise.
    ///
    /// # Errors
    /// INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED for another epoch, CONCURRENT_TRANSACTIONS while a transaction is
    /// ended.
    pub fn verify(
        &self,
        producer: Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        self.check_producer(producer)?;
        if self.value.state.is_ending() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let verify = |partition| {
            if self.value.partitions.contains(partition) {
                Ok(())
            } else {
                Err(ErrorCode::TransactionAbortable)
            }
        };
        Ok(partitions.iter().map(verify).collect())
    }

    /// Ends the transaction; the producer goes on as the one that is returned. `fresh_id` is a producer id that nobody
    /// has had, when one was asked for.
    ///
    /// # Errors
    /// INVALID_TXN_STATE when there is nothing that could be ended so, and those of [`verify`](Self::verify).
    pub fn end(&mut self, end: End, fresh_id: Option<i64>, now_ms: i64) -> Result<Step, ErrorCode> {
        self.check_idle()?;
        let repeated = self.is_repeated(end);
        if !repeated {
            self.check_producer(end.producer)?;
        }
        let done = match self.value.state {
            State::CompleteCommit => Some(true),
            State::CompleteAbort => Some(false),
            _ => None,
        };
        let epoch_per_transaction = end.transaction_version >= EPOCH_PER_TRANSACTION;
        match self.value.state {
            State::Ongoing => self.prepare(end, fresh_id, now_ms),
            // Before version 2 nothing tells a repeated request from a new one.
            _ if repeated || (done.is_some() && !self.has_epoch_per_transaction()) => {
                if done == Some(end.commit) {
                    return Ok(Step::Answer(self.value.producer));
                }
                Err(ErrorCode::InvalidTxnState)
            }
            // The producer may not know whether a partition was added: it can always abort.
            _ if epoch_per_transaction && !end.commit => self.prepare(end, fresh_id, now_ms),
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// Tells whether the transaction was ended by this very request, whose answer was lost: the epoch, or at the end of
    /// the epochs the producer id, has changed since.
    fn is_repeated(&self, end: End) -> bool {
        let (asker, now) = (end.producer, self.value.producer);
        let has_ended = matches!(
            self.value.state,
            State::CompleteCommit | State::CompleteAbort
        );
        let next_epoch = asker.id == now.id && asker.epoch.checked_add(1) == Some(now.epoch);
        let next_id = asker.id == self.value.previous_producer_id
            && asker.id != now.id
            && (asker.epoch, now.epoch) == (LAST_EPOCH, 0);
        has_ended && self.has_epoch_per_transaction() && (next_epoch || next_id)
    }

    fn has_epoch_per_transaction(&self) -> bool {
        self.value.transaction_version >= EPOCH_PER_TRANSACTION
    }

    fn prepare(&mut self, end: End, fresh_id: Option<i64>, now_ms: i64) -> Result<Step, ErrorCode> {
        let mut value = self.ending(end.commit, now_ms);
        value.transaction_version = end.transaction_version;
        let mut last_epoch = self.last_epoch;
        let mut after = value.producer;
        if end.transaction_version >= EPOCH_PER_TRANSACTION {
            last_epoch = value.producer.epoch;
            value.producer.epoch = value.producer.epoch.saturating_add(1);
            after = value.producer;
            if last_epoch >= LAST_EPOCH {
                let Some(id) = fresh_id else {
                    return Ok(Step::NeedsProducerId);
                };
                value.next_producer_id = id;
                after = Producer { id, epoch: 0 };
            }
        }
        self.pending = Some(Pending { value, last_epoch });
        Ok(Step::Store(after))
    }

    /// Aborts the transaction and fences its producer, by two epochs as Kafka does: one alone would look as if the
    /// producer had ended the transaction itself.
    fn fence(&mut self, now_ms: i64) {
        let mut value = self.ending(false, now_ms);
        value.producer.epoch = value.producer.epoch.saturating_add(2);
        value.transaction_version = EPOCH_PER_TRANSACTION;
        self.pending = Some(Pending {
            value,
            last_epoch: NO_PRODUCER_EPOCH,
        });
    }

    fn ending(&self, commit: bool, now_ms: i64) -> Value {
        let start_ms = match self.value.state {
            State::Ongoing => self.value.start_ms,
            _ => now_ms,
        };
        Value {
            previous_producer_id: self.value.producer.id,
            state: if commit {
                State::PrepareCommit
            } else {
                State::PrepareAbort
            },
            start_ms,
            last_update_ms: now_ms,
            ..self.value.clone()
        }
    }

    /// Aborts the transaction when its time is over. Then there is a value to be stored.
    pub fn time_out(&mut self, now_ms: i64) -> bool {
        let deadline_ms = self
            .value
            .start_ms
            .saturating_add(i64::from(self.value.timeout_ms));
        let overdue =
            self.pending.is_none() && self.value.state == State::Ongoing && deadline_ms < now_ms;
        if overdue {
            self.fence(now_ms);
        }
        overdue
    }

    /// Tells whether the id may be forgotten: no transaction is open, and nothing was stored for `expiration_ms`.
    pub fn is_expired(&self, expiration_ms: i64, now_ms: i64) -> bool {
        let closed = !self.value.state.is_ending() && self.value.state != State::Ongoing;
        closed
            && self.pending.is_none()
            && now_ms.saturating_sub(self.value.last_update_ms) >= expiration_ms
    }

    /// Marks the id as one that is being forgotten: everybody is told CONCURRENT_TRANSACTIONS until it is.
    pub fn kill(&mut self) {
        self.store(Value {
            state: State::Dead,
            ..self.value.clone()
        });
    }

    /// Takes over what was to be stored, or drops it when that failed.
    pub fn stored(&mut self, stored: bool) {
        if let Some(pending) = self.pending.take()
            && stored
        {
            self.value = pending.value;
            self.last_epoch = pending.last_epoch;
        }
    }

    /// Returns the markers that have to be written, when the transaction is ending.
    pub fn to_end(&self) -> Option<Ending> {
        (self.value.state.is_ending() && self.pending.is_none()).then(|| Ending {
            producer: self.value.producer,
            committed: self.value.state == State::PrepareCommit,
            transaction_version: self.value.transaction_version,
            partitions: self.value.partitions.clone(),
        })
    }

    /// Completes the transaction, once all its markers are written. Returns whether there is a value to be stored.
    pub fn complete(&mut self, now_ms: i64) -> bool {
        if !self.value.state.is_ending() || self.pending.is_some() {
            return false;
        }
        let mut value = Value {
            previous_producer_id: self.value.producer.id,
            next_producer_id: NO_PRODUCER_ID,
            state: if self.value.state == State::PrepareCommit {
                State::CompleteCommit
            } else {
                State::CompleteAbort
            },
            partitions: BTreeSet::new(),
            last_update_ms: now_ms,
            ..self.value.clone()
        };
        if self.value.next_producer_id != NO_PRODUCER_ID {
            value.producer = Producer {
                id: self.value.next_producer_id,
                epoch: 0,
            };
        }
        self.store(value);
        true
    }

    fn store(&mut self, value: Value) {
        self.pending = Some(Pending {
            value,
            last_epoch: self.last_epoch,
        });
    }

    fn check_idle(&self) -> Result<(), ErrorCode> {
        if self.pending.is_some() || self.value.state.is_ending() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(())
    }

    fn check_producer(&self, producer: Producer) -> Result<(), ErrorCode> {
        if producer.id != self.value.producer.id {
            Err(ErrorCode::InvalidProducerIdMapping)
        } else if producer.epoch != self.value.producer.epoch {
            Err(ErrorCode::ProducerFenced)
        } else {
            Ok(())
        }
    }
}

/// Returns the producer that follows; with its epochs used up, that is one with a fresh id, if there is one.
fn next_producer(current: Producer, fresh_id: Option<i64>) -> Option<Producer> {
    if current.epoch >= LAST_EPOCH {
        return Some(Producer {
            id: fresh_id?,
            epoch: 0,
        });
    }
    Some(Producer {
        epoch: current.epoch.saturating_add(1),
        ..current
    })
}
