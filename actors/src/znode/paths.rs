//! The rules of paths.

use bytes::Bytes;

/// The node above all others.
pub const ROOT: Bytes = Bytes::from_static(b"/");

/// Where clients look for the members of the ensemble.
pub const CONFIG: Bytes = Bytes::from_static(b"/zookeeper/config");

/// Nodes that are always there and cannot be deleted, beside the root.
pub const RESERVED: [Bytes; 3] = [
    Bytes::from_static(b"/zookeeper"),
    CONFIG,
    Bytes::from_static(b"/zookeeper/quota"),
];

/// Tells whether a node of this path may be created.
///
/// ZooKeeper checks UTF-16 units and refuses nearly all surrogates, so nothing outside of the basic plane passes, nor
/// anything that is not UTF-8.
pub fn is_valid(path: &[u8]) -> bool {
    let Ok(path) = std::str::from_utf8(path) else {
        return false;
    };
    if path == "/" {
        return true;
    }
    let Some(components) = path.strip_prefix('/') else {
        return false;
    };
    !components.chars().any(is_refused)
        && components
            .split('/')
            .all(|name| !matches!(name, "" | "." | ".."))
}

fn is_refused(c: char) -> bool {
    matches!(c, '\0'..='\u{1e}' | '\u{80}'..='\u{9e}' | '\u{e000}'..='\u{f8fe}' | '\u{fff1}'..='\u{fffe}')
        || c > '\u{ffff}'
}

/// Tells whether the path has a slash and no NUL, which is asked before anything else.
pub fn is_plausible(path: &[u8]) -> bool {
    path.contains(&b'/') && !path.contains(&0)
}

/// Returns the path of the node above, and the last name; `None` without a slash.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    let (parent, name) = path.split_at(slash);
    Some((
        if parent.is_empty() { b"/" } else { parent },
        name.get(1..).unwrap_or_default(),
    ))
}

/// Returns `path` and every node above it, nearest first.
pub fn upwards(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |below| {
        split(below)
            .map(|(parent, _)| parent)
            .filter(|parent| parent.len() < below.len())
    })
}

/// Returns the names on the way from the root to a node, none for the root; `None` without a slash at the beginning.
pub fn names(path: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let below = path.strip_prefix(b"/")?;
    let is_root = below.is_empty();
    Some(below.split(|&byte| byte == b'/').filter(move |_| !is_root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_forms_are_refused() {
        for good in ["/", "/a", "/a/b", "/a.b/..c/...", "/\u{9f}", "/ü/日本"] {
            assert!(is_valid(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/..",
            "/a\0",
            "/\u{1}",
            "/\u{85}",
            "/\u{fff8}",
            "/\u{e001}",
            "/\u{1f600}",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad:?}");
        }
        assert!(!is_valid(b"/\xed\xa0\xbd\xed\xb8\x80"));
    }

    #[test]
    fn every_node_above_is_named_once() {
        let names: Vec<_> = upwards(b"/a/b").collect();
        assert_eq!(names, [&b"/a/b"[..], b"/a", b"/"]);
        assert_eq!(upwards(b"/").count(), 1);
        assert_eq!(upwards(b"nonsense").count(), 1);
    }

    #[test]
    fn names_lead_from_the_root() {
        let names = |path: &'static [u8]| super::names(path).map(|names| names.collect::<Vec<_>>());
        assert_eq!(names(b"/"), Some(vec![]));
        assert_eq!(names(b"/a/b"), Some(vec![&b"a"[..], b"b"]));
        assert_eq!(
            names(b"/a/"),
            Some(vec![&b"a"[..], b""]),
            "which no node has"
        );
        assert_eq!(names(b"a"), None);
        assert_eq!(names(b""), None);
    }
}
