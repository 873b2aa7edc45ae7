//! The assignors: pure functions from members and topics to who gets what.

#[cfg(test)]
mod assign_tests;
mod balance;
mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::member::Partitions;

/// A member as an assignor sees it.
#[derive(Debug, Clone)]
pub struct Subscriber<'a> {
    /// Member id.
    pub id: &'a Arc<str>,
    /// Name of a static member.
    pub instance_id: Option<&'a Arc<str>>,
    /// The topics that it subscribes to; all of them are in the list of topics.
    pub topics: BTreeSet<Uuid>,
    /// What it was to have so far.
    pub current: &'a Partitions,
}

/// How many partitions each topic has.
pub type Sizes = BTreeMap<Uuid, i32>;

/// Who gets what, by member id.
pub type Assignment = BTreeMap<Arc<str>, Partitions>;

/// An assignor on the broker's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Everyone gets as many partitions, and keeps what it has.
    Uniform,
    /// Everyone gets a range of each topic; with equal numbers of partitions the same of each.
    Range,
}

impl Assignor {
    /// Finds an assignor by its name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range]
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// Returns its name, as members ask for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// Assigns.
    pub fn assign(self, members: &[Subscriber<'_>], sizes: &Sizes) -> Assignment {
        match self {
            Self::Uniform => uniform::assign(members, sizes),
            Self::Range => range::assign(members, sizes),
        }
    }
}

fn subscribe_alike(members: &[Subscriber<'_>]) -> bool {
    members
        .windows(2)
        .all(|pair| matches!(pair, [one, other] if one.topics == other.topics))
}
