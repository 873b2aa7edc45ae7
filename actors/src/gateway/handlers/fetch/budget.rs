//! How the bytes of a fetch are shared: in the order of the request, whole batches only (KIP-74).

/// The bytes that a request may still return.
#[derive(Debug)]
pub(super) struct FetchBudget {
    remaining: u64,
    nothing_yet: bool,
}

/// What to do with the records of one partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// They go out.
    All,
    /// They are too many: read again, this many bytes at most.
    Less(u64),
    /// There is no room for any.
    Nothing,
}

impl FetchBudget {
    /// Starts with `max_bytes`.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            remaining: max_bytes,
            nothing_yet: true,
        }
    }

    /// Decides about the `len` bytes of the next partition.
    ///
    /// The first ones go out whatever their size: a record larger than the limit must not stop its reader.
    pub(super) fn share(&mut self, len: u64) -> Share {
        if len == 0 {
            return Share::All;
        }
        if self.nothing_yet || len <= self.remaining {
            self.nothing_yet = false;
            self.remaining = self.remaining.saturating_sub(len);
            return Share::All;
        }
        // What is left is offered once: a second try would find batches that don't fit either.
        match std::mem::take(&mut self.remaining) {
            0 => Share::Nothing,
            rest => Share::Less(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_in_order_until_they_are_gone() {
        let mut budget = FetchBudget::new(100);
        assert_eq!(budget.share(60), Share::All);
        assert_eq!(budget.share(0), Share::All);
        assert_eq!(budget.share(60), Share::Less(40));
        assert_eq!(budget.share(1), Share::Nothing);
        assert_eq!(budget.share(0), Share::All);
    }

    #[test]
    fn the_first_records_go_out_whatever_their_size() {
        let mut budget = FetchBudget::new(100);
        assert_eq!(budget.share(0), Share::All);
        assert_eq!(budget.share(500), Share::All);
        assert_eq!(budget.share(1), Share::Nothing);
    }

    #[test]
    fn a_limit_of_zero_still_makes_progress() {
        assert_eq!(FetchBudget::new(0).share(10), Share::All);
    }
}
