//! How many connections there may be, in total and from one address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections against `max.connections` and `max.connections.per.ip`, and over the gateway's threads.
#[derive(Debug)]
pub(crate) struct ConnectionCounts {
    max_connections: usize,
    max_per_ip: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    by_ip: BTreeMap<IpAddr, usize>,
    by_thread: Vec<usize>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    /// In total.
    #[error("max.connections ({0}) is reached")]
    Connections(usize),
    /// From one address.
    #[error("max.connections.per.ip ({0}) is reached")]
    ConnectionsPerIp(usize),
}

/// A connection's place; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    counts: Arc<ConnectionCounts>,
    ip: IpAddr,
    /// Number of the thread that the connection lives on; at first the one with the fewest.
    pub(crate) thread: usize,
}

impl ConnectionCounts {
    /// Counts for `threads` threads.
    pub(crate) fn new(threads: usize, max_connections: usize, max_per_ip: usize) -> Arc<Self> {
        let counts = Counts {
            by_ip: BTreeMap::new(),
            by_thread: vec![0; threads.max(1)],
        };
        Arc::new(Self {
            max_connections,
            max_per_ip,
            counts: Mutex::new(counts),
        })
    }

    /// Takes a place for a connection from `ip`, on the least loaded thread.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Place, TooMany> {
        let ip = ip.to_canonical();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_thread.iter().sum::<usize>() >= self.max_connections {
            return Err(TooMany::Connections(self.max_connections));
        }
        let from_ip = counts.by_ip.get(&ip).copied().unwrap_or(0);
        if from_ip >= self.max_per_ip {
            return Err(TooMany::ConnectionsPerIp(self.max_per_ip));
        }
        counts.by_ip.insert(ip, from_ip + 1);
        let least = counts
            .by_thread
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, count)| **count);
        let thread = least.map_or(0, |(thread, count)| {
            *count += 1;
            thread
        });
        Ok(Place {
            counts: Arc::clone(self),
            ip,
            thread,
        })
    }
}

impl Place {
    /// Counts the connection on another thread from now on.
    pub(crate) fn move_to(&mut self, thread: usize) {
        let mut counts = self
            .counts
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.by_thread.get_mut(self.thread) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = counts.by_thread.get_mut(thread) {
            *count += 1;
        }
        self.thread = thread;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .counts
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.by_thread.get_mut(self.thread) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = counts.by_ip.get_mut(&self.ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn connections_spread_over_the_threads() {
        let counts = ConnectionCounts::new(2, 10, 10);
        let one = counts.enter(ip("10.0.0.1")).expect("room");
        let two = counts.enter(ip("10.0.0.1")).expect("room");
        assert_ne!(one.thread, two.thread);
        let freed = one.thread;
        drop(one);
        assert_eq!(counts.enter(ip("10.0.0.1")).expect("room").thread, freed);
    }

    #[test]
    fn both_limits_hold_and_places_come_back() {
        let counts = ConnectionCounts::new(1, 3, 2);
        let first = counts.enter(ip("10.0.0.1")).expect("room");
        let _second = counts.enter(ip("::ffff:10.0.0.1")).expect("room");
        assert_eq!(
            counts.enter(ip("10.0.0.1")).err(),
            Some(TooMany::ConnectionsPerIp(2))
        );
        let _third = counts.enter(ip("10.0.0.2")).expect("room");
        assert_eq!(
            counts.enter(ip("10.0.0.3")).err(),
            Some(TooMany::Connections(3))
        );
        drop(first);
        counts.enter(ip("10.0.0.1")).expect("room again");
    }
}
