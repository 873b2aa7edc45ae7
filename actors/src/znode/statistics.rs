//! What monitors are told of the traffic.

/// Counts since the start or the last reset.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    /// Frames from clients.
    pub received: u64,
    /// Frames to clients.
    pub sent: u64,
    answered: u64,
    total_ms: u64,
    min_ms: Option<u64>,
    max_ms: u64,
}

impl Statistics {
    /// Counts one answered request.
    pub fn answered(&mut self, latency_ms: u64) {
        self.answered += 1;
        self.total_ms += latency_ms;
        self.min_ms = Some(self.min_ms.map_or(latency_ms, |min| min.min(latency_ms)));
        self.max_ms = self.max_ms.max(latency_ms);
    }

    /// Returns the least, mean and greatest latency, in milliseconds.
    pub fn latency_ms(&self) -> (u64, f64, u64) {
        let mean = match self.answered {
            0 => 0.0,
            answered => self.total_ms as f64 / answered as f64,
        };
        (self.min_ms.unwrap_or(0), mean, self.max_ms)
    }
}
