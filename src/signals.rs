//! The signals that ask a process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGTERM or SIGINT. Where signals cannot be watched, waits for ever and they end the process.
pub(crate) async fn termination() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        watch(SignalKind::terminate()),
        watch(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn watch(kind: SignalKind) -> std::io::Result<Signal> {
    signal(kind)
}
