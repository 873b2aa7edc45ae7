//! What waits to be written to one client, with a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// Above so many waiting bytes no more requests are taken from the client.
const PAUSE_BYTES: usize = 1024 * 1024;
/// Above so many the client is disconnected: it does not read, and events for it never end.
const LIMIT_BYTES: usize = 32 * 1024 * 1024;
/// The same in frames, for small ones.
const LIMIT_FRAMES: usize = 64 * 1024;

/// The end of the actor.
#[derive(Debug, Clone)]
pub struct Outbox {
    frames: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
}

/// The end of the connection.
#[derive(Debug)]
pub struct Waiting {
    frames: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
}

/// Tells the connection's reader when to pause.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    written: Notify,
}

/// The client does not read, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// Returns both ends of a new queue.
pub fn outbox() -> (Outbox, Waiting, Gate) {
    let (sender, frames) = mpsc::channel(LIMIT_FRAMES);
    let shared = Arc::new(Shared::default());
    let outbox = Outbox {
        frames: sender,
        shared: shared.clone(),
    };
    let gate = Gate {
        shared: shared.clone(),
    };
    (outbox, Waiting { frames, shared }, gate)
}

impl Outbox {
    /// Counts a frame that will be queued, from when it is made: some wait for a commit before that, and they take
    /// memory there as well.
    pub fn expect(&self, frame: &Bytes) {
        self.shared.bytes.fetch_add(frame.len(), Ordering::Relaxed);
    }

    /// Queues a frame that was counted.
    pub fn push(&self, frame: Bytes) -> Result<(), Overflow> {
        if self.shared.bytes.load(Ordering::Relaxed) > LIMIT_BYTES + frame.len() {
            return Err(Overflow);
        }
        self.frames.try_send(frame).map_err(|_| Overflow)
    }
}

impl Waiting {
    /// Takes the next frame; `None` when the actor has closed the connection and everything was taken.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.frames.recv().await
    }

    /// Takes another frame if one is there already.
    pub fn try_next(&mut self) -> Option<Bytes> {
        self.frames.try_recv().ok()
    }

    /// Notes that so many bytes were written.
    pub fn written(&self, bytes: usize) {
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.written.notify_one();
    }
}

impl Gate {
    /// Waits until little enough is queued.
    pub async fn open(&self) {
        while self.shared.bytes.load(Ordering::Relaxed) > PAUSE_BYTES {
            self.shared.written.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_noticed() {
        let (outbox, mut waiting, gate) = outbox();
        let frame = Bytes::from(vec![0; PAUSE_BYTES]);
        let fits = LIMIT_BYTES / PAUSE_BYTES + 1;
        let push = |frame: &Bytes| {
            outbox.expect(frame);
            outbox.push(frame.clone())
        };
        for _ in 0..fits {
            assert_eq!(push(&frame), Ok(()));
        }
        assert_eq!(push(&frame), Err(Overflow));
        drop(outbox);
        while let Some(frame) = waiting.next().await {
            waiting.written(frame.len());
        }
        waiting.written(PAUSE_BYTES);
        gate.open().await;
    }
}
