//! Well-formed ZooKeeper requests, spoilt: whatever comes over a connection is decoded or refused without a panic, and
//! what is decoded is no larger than what came.
//!
//! `PROPTEST_CASES=1000000 cargo test -p troupe-protocol --test zookeeper_mutations` looks longer.

mod support;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use support::requests::requests;
use support::spoil::{spoil, spoils};
use troupe_protocol::zookeeper::connect::ConnectRequest;
use troupe_protocol::zookeeper::frame::{DEFAULT_MAX_FRAME, build_frame, split_frame};
use troupe_protocol::zookeeper::multi::Write;
use troupe_protocol::zookeeper::requests::{Operation, Request};

/// Counts what an operation holds, each at least as large as a length on the wire.
fn parts(operation: &Operation) -> usize {
    match operation {
        Operation::Write(Write::Create(create)) => create.acl.len(),
        Operation::Write(Write::SetAcl { acl, .. }) => acl.len(),
        Operation::Multi(writes) => writes.len(),
        Operation::MultiRead(reads) => reads.len(),
        Operation::SetWatches(lists) => {
            lists.data.len()
                + lists.exist.len()
                + lists.child.len()
                + lists.persistent.len()
                + lists.persistent_recursive.len()
        }
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn spoilt_requests_are_decoded_or_refused(which in any::<prop::sample::Index>(), spoils in spoils()) {
        let requests = requests();
        let bytes = spoil(which.get(&requests).clone(), &spoils);
        if let Ok(request) = Request::decode(Bytes::from(bytes.clone())) {
            prop_assert!(parts(&request.operation) * 4 <= bytes.len());
        }
        let _ = ConnectRequest::decode(Bytes::from(bytes.clone()));
        let mut stream = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = split_frame(&mut stream, DEFAULT_MAX_FRAME) {
            let _ = Request::decode(frame);
        }
    }
}

#[test]
fn what_is_not_spoilt_is_decoded() {
    for bytes in requests() {
        let mut stream = BytesMut::from(&build_frame(|out| out.put_slice(&bytes))[..]);
        let frame = split_frame(&mut stream, DEFAULT_MAX_FRAME)
            .unwrap()
            .unwrap();
        let request = Request::decode(frame).unwrap();
        assert!(
            !matches!(
                request.operation,
                Operation::Malformed(_) | Operation::Unknown(_)
            ),
            "{bytes:?}"
        );
    }
}
