//! Well-formed ZooKeeper requests, spoilt: whatever comes over a connection is decoded or refused without a panic, and
//! what is decoded is no larger than what came.
//!
//! `PROPTEST_CASES=1000000 cargo test -p troupe-protocol --test zookeeper_mutations` looks longer.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use troupe_protocol::zookeeper::Acl;
use troupe_protocol::zookeeper::connect::ConnectRequest;
use troupe_protocol::zookeeper::frame::{DEFAULT_MAX_FRAME, build_frame, split_frame};
use troupe_protocol::zookeeper::jute::Writer;
use troupe_protocol::zookeeper::multi::Write;
use troupe_protocol::zookeeper::requests::{Operation, Request, op};

/// One request of every kind, without its length.
fn requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    let mut add = |code, body: &dyn Fn(&mut BytesMut)| requests.push(request(code, body));
    for code in [
        op::CREATE,
        op::CREATE2,
        op::CREATE_CONTAINER,
        op::CREATE_TTL,
    ] {
        add(code, &|out| create(out, code));
    }
    for code in [
        op::EXISTS,
        op::GET_DATA,
        op::GET_CHILDREN,
        op::GET_CHILDREN2,
    ] {
        add(code, &|out| {
            out.string(b"/path");
            out.boolean(true);
        });
    }
    for code in [
        op::DELETE,
        op::CHECK,
        op::CHECK_WATCHES,
        op::REMOVE_WATCHES,
        op::ADD_WATCH,
    ] {
        add(code, &|out| numbered(out));
    }
    for code in [
        op::GET_ACL,
        op::SYNC,
        op::GET_EPHEMERALS,
        op::DELETE_CONTAINER,
        op::WHO_AM_I,
    ] {
        add(code, &|out| out.string(b"/path"));
    }
    requests.extend(compound_requests());
    requests
}

/// Those with a body of their own.
fn compound_requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    let mut add = |code, body: &dyn Fn(&mut BytesMut)| requests.push(request(code, body));
    add(op::SET_DATA, &|out| {
        out.string(b"/path");
        out.string(b"data");
        out.put_i32(-1);
    });
    add(op::SET_ACL, &|out| {
        out.string(b"/path");
        acl(out);
        out.put_i32(-1);
    });
    add(op::AUTH, &|out| {
        out.put_i32(0);
        out.string(b"digest");
        out.string(b"user:password");
    });
    for code in [op::SET_WATCHES, op::SET_WATCHES2] {
        add(code, &|out| {
            out.put_i64(1);
            for _ in 0..5 {
                out.length(2);
                out.string(b"/a");
                out.string(b"/b");
            }
        });
    }
    add(op::MULTI, &|out| {
        item(out, op::CREATE);
        create(out, op::CREATE);
        item(out, op::CHECK);
        numbered(out);
        end(out);
    });
    add(op::MULTI_READ, &|out| {
        item(out, op::GET_DATA);
        out.string(b"/path");
        out.boolean(false);
        end(out);
    });
    requests
}

fn request(code: i32, body: &dyn Fn(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i32(7);
    out.put_i32(code);
    body(&mut out);
    out.to_vec()
}

fn create(out: &mut BytesMut, code: i32) {
    out.string(b"/path");
    out.buffer(None);
    acl(out);
    out.put_i32(if code == op::CREATE_TTL { 5 } else { 0 });
    if code == op::CREATE_TTL {
        out.put_i64(1_000);
    }
}

fn numbered(out: &mut BytesMut) {
    out.string(b"/path");
    out.put_i32(1);
}

fn acl(out: &mut BytesMut) {
    out.length(1);
    Acl::open().encode(out);
}

fn item(out: &mut BytesMut, code: i32) {
    out.put_i32(code);
    out.boolean(false);
    out.put_i32(-1);
}

fn end(out: &mut BytesMut) {
    out.put_i32(-1);
    out.boolean(true);
    out.put_i32(-1);
}

/// One way to spoil bytes.
#[derive(Clone, Debug)]
enum Spoil {
    Byte(usize, u8),
    /// What a length or a count may lie.
    Int(usize, i32),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
}

fn spoils() -> impl Strategy<Value = Vec<Spoil>> {
    let at = 0..200usize;
    let lies = prop::sample::select(vec![
        0,
        1,
        -1,
        -2,
        255,
        0xf_ffff,
        0x10_0000,
        i32::MIN,
        i32::MAX,
        i32::MAX / 4,
    ]);
    let spoil = prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Spoil::Byte(at, byte)),
        (at.clone(), lies).prop_map(|(at, int)| Spoil::Int(at, int)),
        at.clone().prop_map(Spoil::Cut),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Spoil::Insert(at, bytes)),
        (at, 1..40usize).prop_map(|(at, length)| Spoil::Repeat(at, length)),
    ];
    prop::collection::vec(spoil, 0..6)
}

fn spoil(mut bytes: Vec<u8>, spoils: &[Spoil]) -> Vec<u8> {
    for spoil in spoils {
        let length = bytes.len();
        let within = |at: usize| at % (length + 1);
        match spoil {
            Spoil::Byte(at, byte) => bytes
                .iter_mut()
                .skip(within(*at))
                .take(1)
                .for_each(|old| *old = *byte),
            Spoil::Int(at, int) => {
                let new = int.to_be_bytes();
                let old = bytes.iter_mut().skip(within(*at));
                old.zip(new).for_each(|(old, new)| *old = new);
            }
            Spoil::Cut(at) => bytes.truncate(within(*at)),
            Spoil::Insert(at, inserted) => {
                bytes.splice(within(*at)..within(*at), inserted.iter().copied());
            }
            Spoil::Repeat(at, length) => {
                let from = within(*at);
                let again: Vec<u8> = bytes.iter().skip(from).take(*length).copied().collect();
                bytes.splice(from..from, again);
            }
        }
    }
    bytes
}

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
