//! The states of a transaction.

use std::fmt;

/// Where the latest transaction of a transactional id stands.
///
/// ```text
///           partitions are added                end                       every partition has its marker
///  Empty ────────────────────────▶ Ongoing ──────────▶ PrepareCommit ───────────────────────▶ CompleteCommit
///    ▲                             ▲    └──────────────▶ PrepareAbort ───────────────────────▶ CompleteAbort
///    │                             └───────────────────────── partitions are added ────────────────┤
///    └─────────────────────────────────────── a producer is initialized ───────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There was none yet since the producer was initialized.
    Empty,
    /// It has partitions.
    Ongoing,
    /// It will be committed, whatever happens.
    PrepareCommit,
    /// It will be aborted, whatever happens.
    PrepareAbort,
    /// It was committed.
    CompleteCommit,
    /// It was aborted.
    CompleteAbort,
    /// The transactional id has expired and is being forgotten. Never stored.
    Dead,
    /// Its producer is being fenced. Never stored: fence and abort are one write here, so nothing is ever in it.
    PrepareEpochFence,
}

impl State {
    /// Lists all states, by code.
    pub const ALL: [State; 8] = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
        State::PrepareEpochFence,
    ];

    /// Returns the code in records.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// Returns the state of a code in a record; `None` for what is never stored.
    pub fn stored(code: i8) -> Option<State> {
        let state = *Self::ALL.get(usize::try_from(code).ok()?)?;
        (state < State::Dead).then_some(state)
    }

    /// Returns Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::PrepareCommit => "PrepareCommit",
            State::PrepareAbort => "PrepareAbort",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
            State::Dead => "Dead",
            State::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// Tells whether the outcome is decided, but not every partition knows it.
    pub fn is_ending(self) -> bool {
        matches!(self, State::PrepareCommit | State::PrepareAbort)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
