//! Which thread a connection belongs on: that of the partitions it talks to.
//!
//! A message to another thread costs a wake-up of that thread and one back, several microseconds each: more than the
//! append itself. A connection that keeps talking to the partitions of one thread is moved there.

/// Requests in a row for one other thread that make a connection move. Fewer, and one that talks to several threads in
/// turn would spend its time moving.
const REQUESTS_IN_A_ROW: u32 = 8;

/// Watches where the requests of one connection go.
#[derive(Debug)]
pub(crate) struct Affinity {
    /// The thread that the connection lives on; `None` when it can't move.
    home: Option<usize>,
    wanted: usize,
    in_a_row: u32,
}

impl Affinity {
    /// Watches a connection that lives on thread `home`; without one it never moves.
    pub(crate) fn new(home: Option<usize>) -> Self {
        Self {
            home,
            wanted: home.unwrap_or(0),
            in_a_row: 0,
        }
    }

    /// Takes note of a request to partitions on these threads.
    pub(crate) fn observe(&mut self, mut threads: impl Iterator<Item = usize>) {
        if self.home.is_none() {
            return;
        }
        let Some(first) = threads.next() else {
            return;
        };
        if !threads.all(|thread| thread == first) || self.home == Some(first) {
            self.in_a_row = 0;
        } else if self.wanted == first {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            self.wanted = first;
            self.in_a_row = 1;
        }
    }

    /// Returns the thread that the connection should move to.
    pub(crate) fn destination(&self) -> Option<usize> {
        (self.in_a_row >= REQUESTS_IN_A_ROW).then_some(self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after<'a>(
        home: Option<usize>,
        requests: impl IntoIterator<Item = &'a [usize]>,
    ) -> Option<usize> {
        let mut affinity = Affinity::new(home);
        for request in requests {
            affinity.observe(request.iter().copied());
        }
        affinity.destination()
    }

    #[test]
    fn a_connection_follows_its_partitions() {
        assert_eq!(after(Some(0), [[1, 1].as_slice(); 8]), Some(1));
        assert_eq!(after(Some(0), [[1].as_slice(); 7]), None);
        assert_eq!(after(Some(1), [[1].as_slice(); 100]), None);
    }

    #[test]
    fn one_that_talks_to_several_threads_stays() {
        assert_eq!(after(Some(0), [[0, 1].as_slice(); 100]), None);
        let mut in_turn: Vec<&[usize]> = Vec::new();
        for _ in 0..50 {
            in_turn.extend([&[1][..], &[2][..]]);
        }
        assert_eq!(after(Some(0), in_turn), None);
    }

    #[test]
    fn requests_without_partitions_do_not_count() {
        let mut requests: Vec<&[usize]> = vec![&[1]; 4];
        requests.push(&[]);
        requests.extend([&[1][..]; 4]);
        assert_eq!(after(Some(0), requests), Some(1));
    }

    #[test]
    fn without_shared_threads_nobody_moves() {
        assert_eq!(after(None, [[1].as_slice(); 100]), None);
    }
}
