//! Access control lists: what is accepted, and who passes.
//!
//! Enforced: `world`, `digest`, `ip` (with a prefix length) and `auth`, which stands for whoever sets it. `sasl` and
//! `x509` entries are stored and given back, but nobody can prove to be one of them here, so they let nobody in.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::{Digest, Sha1};
use troupe_protocol::zookeeper::records::perms;
use troupe_protocol::zookeeper::{Acl, ErrorCode, Id};

/// Checks a list that a client sets, and replaces `auth` by what the client has proved to be.
///
/// # Errors
/// `InvalidAcl` for an empty list, an unknown scheme, a malformed id, or `auth` from somebody who proved nothing.
pub fn fix(list: &[Acl], ids: &[Id]) -> Result<Vec<Acl>, ErrorCode> {
    let mut fixed: Vec<Acl> = Vec::new();
    for (at, acl) in list.iter().enumerate() {
        if list.iter().take(at).any(|earlier| earlier == acl) {
            continue;
        }
        if acl.id.scheme.as_ref() == b"auth" {
            let proved: Vec<_> = ids.iter().filter(|id| is_proof(id)).collect();
            if proved.is_empty() {
                return Err(ErrorCode::InvalidAcl);
            }
            for id in proved {
                fixed.push(Acl {
                    perms: acl.perms,
                    id: id.clone(),
                });
            }
        } else if is_valid(&acl.id) {
            fixed.push(Acl {
                perms: acl.perms,
                id: Id::new(&String::from_utf8_lossy(&acl.id.scheme), acl.id.id.as_ref()),
            });
        } else {
            return Err(ErrorCode::InvalidAcl);
        }
    }
    if fixed.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    Ok(fixed)
}

/// Returns the entry that lets anyone read.
pub fn readable() -> Acl {
    Acl {
        perms: perms::READ,
        ..Acl::open()
    }
}

/// Tells whether one of `ids` has one of the wanted permission bits.
pub fn allows(list: &[Acl], wanted: i32, ids: &[Id]) -> bool {
    list.iter().any(|acl| {
        acl.perms & wanted != 0 && (is_anyone(&acl.id) || ids.iter().any(|id| matches(&acl.id, id)))
    })
}

/// Hides the password hashes of a list from those who may not change it.
pub fn masked(list: &[Acl], ids: &[Id]) -> Vec<Acl> {
    if allows(list, perms::ADMIN, ids) {
        return list.to_vec();
    }
    let mut list = list.to_vec();
    for acl in &mut list {
        if acl.id.scheme.as_ref() == b"digest" {
            acl.id.id = [user(&acl.id.id), b":x"].concat().into();
        }
    }
    list
}

/// Returns the part of a digest id before the colon.
pub fn user(id: &[u8]) -> &[u8] {
    id.split(|&byte| byte == b':').next().unwrap_or_default()
}

/// Returns who proves to be somebody with `auth`, or `None` if that proves nothing.
pub fn authenticate(scheme: &[u8], auth: &[u8], peer: IpAddr) -> Option<Id> {
    match scheme {
        b"digest" => Some(digest_id(auth)),
        b"ip" => Some(ip_id(peer)),
        _ => None,
    }
}

/// Returns the identity that every connection has from the start.
pub fn ip_id(peer: IpAddr) -> Id {
    Id::new("ip", peer.to_canonical().to_string())
}

fn digest_id(user_and_password: &[u8]) -> Id {
    let hash = STANDARD.encode(Sha1::digest(user_and_password));
    Id::new(
        "digest",
        [user(user_and_password), b":", hash.as_bytes()].concat(),
    )
}

fn is_anyone(id: &Id) -> bool {
    id.scheme.as_ref() == b"world" && id.id.as_ref() == b"anyone"
}

/// An address is not a proof of anything: `auth` leaves it out.
fn is_proof(id: &Id) -> bool {
    id.scheme.as_ref() != b"ip"
}

fn is_valid(id: &Id) -> bool {
    match id.scheme.as_ref() {
        b"world" => is_anyone(id),
        b"digest" => id.id.split(|&byte| byte == b':').count() == 2,
        b"ip" => network(&id.id).is_some(),
        b"sasl" | b"x509" => !id.id.is_empty(),
        _ => false,
    }
}

fn matches(entry: &Id, id: &Id) -> bool {
    if entry.scheme != id.scheme {
        return false;
    }
    match entry.scheme.as_ref() {
        b"ip" => network(&entry.id)
            .zip(address(&id.id))
            .is_some_and(|((network, bits), address)| same_prefix(network, address, bits)),
        _ => entry.id == id.id,
    }
}

fn address(id: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// Reads `address` or `address/bits`.
fn network(id: &Bytes) -> Option<(IpAddr, u32)> {
    let text = std::str::from_utf8(id).ok()?;
    let (text, bits) = match text.split_once('/') {
        Some((text, bits)) => (text, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = text.parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(all);
    (bits <= all).then_some((address, bits))
}

fn same_prefix(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    let (difference, all) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
        _ => return false,
    };
    difference.checked_shr(all - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(scheme: &str, id: &str) -> Acl {
        Acl {
            perms: perms::ALL,
            id: Id::new(scheme, id),
        }
    }

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_digest_is_that_of_the_original() {
        // The documented example of the original's digest scheme.
        let id = authenticate(b"digest", b"super:test", LOOPBACK).unwrap();
        assert_eq!(id, Id::new("digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU="));
    }

    #[test]
    fn auth_stands_for_what_was_proved() {
        let proved = authenticate(b"digest", b"u:p", LOOPBACK).unwrap();
        let ids = [ip_id(LOOPBACK), proved.clone()];
        let fixed = fix(&[entry("auth", "")], &ids).unwrap();
        assert_eq!(
            fixed,
            [Acl {
                perms: perms::ALL,
                id: proved
            }]
        );
        assert!(allows(&fixed, perms::READ, &ids));
        assert!(!allows(&fixed, perms::READ, &[ip_id(LOOPBACK)]));
        assert_eq!(
            masked(&fixed, &[])[0].id.id.as_ref(),
            b"u:x",
            "the hash is for administrators only"
        );
    }

    #[test]
    fn bad_lists_are_refused() {
        let ids = [ip_id(LOOPBACK)];
        for bad in [
            vec![],
            vec![entry("auth", "")],
            vec![entry("world", "me")],
            vec![entry("nonsense", "x")],
            vec![entry("digest", "nocolon")],
            vec![entry("ip", "1.2.3.4/33")],
        ] {
            assert_eq!(fix(&bad, &ids), Err(ErrorCode::InvalidAcl), "{bad:?}");
        }
    }

    #[test]
    fn networks_match_by_prefix() {
        let ids = [ip_id("10.1.2.3".parse().unwrap())];
        for (network, passes) in [
            ("10.1.0.0/16", true),
            ("10.2.0.0/16", false),
            ("10.1.2.3", true),
            ("0.0.0.0/0", true),
            ("::/0", false),
        ] {
            let list = [entry("ip", network)];
            assert_eq!(allows(&list, perms::READ, &ids), passes, "{network}");
        }
    }
}
