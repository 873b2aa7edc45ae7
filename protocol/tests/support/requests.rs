//! Well-formed ZooKeeper requests.

use bytes::{BufMut, BytesMut};
use troupe_protocol::zookeeper::Acl;
use troupe_protocol::zookeeper::jute::Writer;
use troupe_protocol::zookeeper::requests::op;

/// One request of every kind, without its length.
pub(crate) fn requests() -> Vec<Vec<u8>> {
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
