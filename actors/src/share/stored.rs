//! What is stored of a share partition: where it begins, and what became of records beyond.

use super::ranges::RangeMap;

/// What became of a record, as far as that outlives a restart. The numbers are those of the stored records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum StoredState {
    /// It can be delivered.
    Available = 0,
    /// A member has processed it.
    Acknowledged = 2,
    /// It is given up, or was never there.
    Archived = 4,
}

impl StoredState {
    /// Returns the state of a number.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Available),
            2 => Some(Self::Acknowledged),
            4 => Some(Self::Archived),
            _ => None,
        }
    }
}

/// A stored state with the number of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The state.
    pub state: StoredState,
    /// How often it was delivered.
    pub delivery_count: i16,
}

/// A change of the stored state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Epoch of the partition's leader that makes it.
    pub leader_epoch: i32,
    /// The first offset that is not done with.
    pub start_offset: i64,
    /// The batches that differ from before: first and last offset.
    pub batches: Vec<(i64, i64, Delivered)>,
}

/// The stored state of a share partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Number of the last snapshot.
    pub snapshot_epoch: i32,
    /// Grows each time that the state is set anew.
    pub state_epoch: i32,
    /// Epoch of the partition's leader that wrote last.
    pub leader_epoch: i32,
    /// The first offset that is not done with.
    pub start_offset: i64,
    /// What became of records beyond.
    pub batches: RangeMap<Delivered>,
}

impl Stored {
    /// Makes the state of a share partition that begins at an offset.
    pub fn new(state_epoch: i32, leader_epoch: i32, start_offset: i64) -> Self {
        Self {
            snapshot_epoch: 0,
            state_epoch,
            leader_epoch,
            start_offset,
            batches: RangeMap::default(),
        }
    }

    /// Applies a change. A start offset below 0 stands for none.
    pub fn apply(&mut self, change: &Change) {
        self.leader_epoch = self.leader_epoch.max(change.leader_epoch);
        for &(first, last, delivered) in &change.batches {
            self.batches.set(first, last, delivered);
        }
        if change.start_offset >= 0 {
            self.start_offset = change.start_offset;
        }
        self.batches.clear_below(self.start_offset);
    }

    /// Finds what has to be stored so that the state becomes this; nothing when it is this already.
    pub fn change_to(
        &self,
        leader_epoch: i32,
        start_offset: i64,
        batches: &RangeMap<Delivered>,
    ) -> Option<Change> {
        let mut changed = Vec::new();
        for (first, last, &delivered) in batches.iter() {
            for (first, last, stored) in self.batches.pieces(first, last) {
                if stored != Some(&delivered) {
                    changed.push((first, last, delivered));
                }
            }
        }
        (start_offset != self.start_offset || !changed.is_empty()).then_some(Change {
            leader_epoch,
            start_offset,
            batches: changed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(state: StoredState, delivery_count: i16) -> Delivered {
        Delivered {
            state,
            delivery_count,
        }
    }

    #[test]
    fn a_change_holds_what_differs() {
        let mut stored = Stored::new(0, 1, 10);
        let mut batches = RangeMap::default();
        assert_eq!(stored.change_to(1, 10, &batches), None);
        batches.set(12, 19, delivered(StoredState::Acknowledged, 1));
        let change = stored.change_to(2, 10, &batches).unwrap();
        assert_eq!(change.batches.len(), 1);
        stored.apply(&change);
        assert_eq!((stored.leader_epoch, stored.start_offset), (2, 10));
        assert_eq!(stored.change_to(2, 10, &batches), None);
        batches.set(14, 15, delivered(StoredState::Available, 3));
        let change = stored.change_to(2, 11, &batches).unwrap();
        assert_eq!(
            change.batches,
            [(14, 15, delivered(StoredState::Available, 3))]
        );
        stored.apply(&change);
        assert_eq!(stored.batches, batches);
        let change = stored.change_to(2, 20, &RangeMap::default()).unwrap();
        stored.apply(&change);
        assert!(stored.batches.is_empty());
    }
}
