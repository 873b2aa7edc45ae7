//! A broker that is maltreated and must live on.

use super::clients::create_topic;
use super::records::{batch, batches, records};
use super::requests::{FETCH, PRODUCE, fetch, fetched, offset_at, produce, produced};
use super::server::{Kind, Server};
use super::wire::Wire;

/// What the whole process may have taken at its peak, far below what the frames here claim to be.
const MEMORY_BOUND_KB: u64 = 256 * 1024;

/// Starts a broker with a topic `t` that holds one record.
pub fn server() -> Server {
    let server = Server::start();
    create_topic(&server, "t", 1, &[]);
    let mut wire = Wire::connect(&server);
    assert_eq!(
        produced(&wire.call(PRODUCE, &produce("t", 0, -1, batch(&[b"first"])))).error_code,
        0
    );
    server
}

/// Checks that the broker still runs, stores and serves, and took no more memory than it may.
#[track_caller]
pub fn assert_alive(mut server: Server) {
    assert!(server.is_running(), "the broker died: {}", server.said());
    let mut wire = Wire::connect(&server);
    let end = offset_at(&mut wire, "t", 0, -1);
    let response = wire.call(PRODUCE, &produce("t", 0, -1, batch(&[b"last"])));
    let last = produced(&response);
    // What was sent on other connections may come in between, where it was whole after all.
    assert_eq!(last.error_code, 0);
    assert!(last.base_offset >= end, "{} < {end}", last.base_offset);
    for (offset, value) in [(0, &b"first"[..]), (last.base_offset, b"last")] {
        let (error, bytes) = fetched(&wire.call(FETCH, &fetch("t", 0, offset, 0)));
        assert_eq!(error, 0);
        let found = batches(bytes).swap_remove(0);
        assert_eq!(records(found)[0].value.as_deref(), Some(value));
    }
    let said = server.said();
    assert!(!said.contains("panicked"), "{said}");
    if server.kind() == Kind::Troupe {
        let peak = server.memory_kb("VmHWM");
        assert!(peak < MEMORY_BOUND_KB, "{peak} kB at the peak");
    }
}
