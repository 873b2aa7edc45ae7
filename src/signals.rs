//! The signals that ask a process to end.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Watches SIGTERM and SIGINT, which from then on do not end the process by themselves.
pub(crate) struct Termination {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Termination {
    /// Starts watching; needs a tokio runtime around it. A signal that cannot be watched goes on ending the process.
    pub(crate) fn watch() -> Self {
        Self {
            terminate: signal(SignalKind::terminate()).ok(),
            interrupt: signal(SignalKind::interrupt()).ok(),
        }
    }

    /// Waits for the next signal.
    pub(crate) async fn signal(&mut self) {
        tokio::select! {
            () = received(&mut self.terminate) => {}
            () = received(&mut self.interrupt) => {}
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}
