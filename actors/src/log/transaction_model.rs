//! Transactions as the model of a log has them: every batch of one is kept, and each question is answered from all.

use super::AbortedTransaction;

/// A transaction that was aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) producer: i64,
    pub(super) first: i64,
    /// The offset of its marker.
    pub(super) last: i64,
}

impl Ended {
    pub(super) fn of(aborted: &AbortedTransaction) -> Self {
        Self {
            producer: aborted.producer_id,
            first: aborted.first_offset,
            last: aborted.last_offset,
        }
    }
}

/// One batch of a transaction.
#[derive(Debug, Clone)]
struct Event {
    producer: i64,
    offset: i64,
    /// For a marker, whether it commits.
    end: Option<bool>,
}

/// A transaction: its producer, its first offset, and its marker's offset with whether it commits.
type Transaction = (i64, i64, Option<(i64, bool)>);

/// The batches of all transactions, those included that retention deleted.
#[derive(Debug, Default)]
pub(super) struct TransactionModel(Vec<Event>);

impl TransactionModel {
    pub(super) fn push(&mut self, producer: i64, offset: i64, end: Option<bool>) {
        let event = Event {
            producer,
            offset,
            end,
        };
        self.0.push(event);
    }

    /// Keeps what lies before `end`.
    pub(super) fn cut(&mut self, end: i64) {
        self.0.retain(|event| event.offset < end);
    }

    /// Keeps what lies before `first`, and after it the batches at these offsets.
    pub(super) fn keep(&mut self, offsets: &[i64], first: i64) {
        self.0
            .retain(|event| event.offset < first || offsets.contains(&event.offset));
    }

    pub(super) fn forget_before(&mut self, offset: i64) {
        self.0.retain(|event| event.offset >= offset);
    }

    fn transactions(&self) -> Vec<Transaction> {
        let mut all: Vec<Transaction> = Vec::new();
        for event in &self.0 {
            let open = all
                .iter_mut()
                .find(|(producer, _, end)| *producer == event.producer && end.is_none());
            match (open, event.end) {
                (Some((_, _, end)), Some(commit)) => *end = Some((event.offset, commit)),
                (None, None) => all.push((event.producer, event.offset, None)),
                (Some(_), None) | (None, Some(_)) => {}
            }
        }
        all
    }

    /// Returns the open transactions: first offset and producer.
    pub(super) fn open(&self) -> Vec<(i64, i64)> {
        let all = self.transactions().into_iter();
        let open = all.filter(|(_, _, end)| end.is_none());
        open.map(|(producer, first, _)| (first, producer)).collect()
    }

    /// Returns the aborted transactions with a batch in [`from`, `to`) or around it, by first offset.
    pub(super) fn aborted(&self, from: i64, to: i64) -> Vec<Ended> {
        let aborted = self.transactions().into_iter().filter_map(|one| match one {
            (producer, first, Some((last, false))) if first < to && last >= from => Some(Ended {
                producer,
                first,
                last,
            }),
            _ => None,
        });
        aborted.collect()
    }
}
