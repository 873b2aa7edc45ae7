//! The tree against the rules of ZooKeeper, and against a simple model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn author(zxid: i64) -> Author<'static> {
    Author {
        session: 77,
        ids: &[],
        zxid,
        now_ms: 1000 + zxid,
    }
}

fn create(path: &str, flags: i32) -> Write {
    Write::Create(Create {
        op: op::CREATE,
        path: Bytes::copy_from_slice(path.as_bytes()),
        data: None,
        acl: vec![Acl::open()],
        mode: CreateMode::from_flags(op::CREATE, flags, 0),
    })
}

fn delete(path: &str, version: i32) -> Write {
    Write::Delete {
        path: Bytes::copy_from_slice(path.as_bytes()),
        version,
    }
}

fn set(path: &str, data: &str, version: i32) -> Write {
    Write::SetData {
        path: Bytes::copy_from_slice(path.as_bytes()),
        data: Some(Bytes::copy_from_slice(data.as_bytes())),
        version,
    }
}

fn error(tree: &mut Tree, write: &Write) -> ErrorCode {
    apply(tree, write, author(1)).err().unwrap_or(ErrorCode::Ok)
}

#[test]
fn errors_come_in_the_order_of_the_original() {
    let mut tree = Tree::new();
    apply(&mut tree, &create("/e", 1), author(1)).unwrap();
    for (write, wanted) in [
        (create("/", 0), ErrorCode::NodeExists),
        (create("noslash", 0), ErrorCode::BadArguments),
        (create("/none/child", 0), ErrorCode::NoNode),
        (create("/a/", 0), ErrorCode::NoNode),
        (create("/e/", 0), ErrorCode::BadArguments),
        (create("/e", 0), ErrorCode::NodeExists),
        (create("/e/child", 0), ErrorCode::NoChildrenForEphemerals),
        (create("/x", 9), ErrorCode::BadArguments),
        (create("/x", 5), ErrorCode::BadArguments),
        (delete("/", -1), ErrorCode::BadArguments),
        (delete("/zookeeper", -1), ErrorCode::BadArguments),
        (delete("/zookeeper/quota", -1), ErrorCode::BadArguments),
        (delete("/none", 3), ErrorCode::NoNode),
        (delete("/e", 3), ErrorCode::BadVersion),
        (set("/e/", "", -1), ErrorCode::BadArguments),
        (set("/none", "", -1), ErrorCode::NoNode),
        (set("/e", "", 1), ErrorCode::BadVersion),
    ] {
        assert_eq!(error(&mut tree, &write), wanted, "{write:?}");
    }
}

#[test]
fn a_stat_counts_what_happened() {
    let mut tree = Tree::new();
    for (zxid, write) in [
        (1, create("/p", 0)),
        (2, create("/p/a", 0)),
        (3, create("/p/b", 0)),
        (4, delete("/p/a", 0)),
        (5, set("/p", "data", 0)),
    ] {
        apply(&mut tree, &write, author(zxid)).unwrap();
    }
    let stat = tree.exists(b"/p", &[]).unwrap();
    assert_eq!((stat.czxid, stat.mzxid, stat.pzxid), (1, 5, 4));
    assert_eq!((stat.ctime, stat.mtime), (1001, 1005));
    assert_eq!((stat.version, stat.cversion, stat.num_children), (1, 3, 1));
    assert_eq!(stat.data_length, 4);
}

#[test]
fn a_sequence_goes_on_after_deletes_and_may_have_no_name() {
    let mut tree = Tree::new();
    let name = |tree: &mut Tree, path| match apply(tree, &create(path, 2), author(1)).unwrap() {
        (Reply::Path(path), _) => String::from_utf8(path.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    apply(&mut tree, &create("/q", 0), author(1)).unwrap();
    assert_eq!(name(&mut tree, "/q/"), "/q/0000000000");
    apply(&mut tree, &delete("/q/0000000000", -1), author(2)).unwrap();
    assert_eq!(name(&mut tree, "/q/n-"), "/q/n-0000000001");
}

#[test]
fn the_end_of_a_session_takes_its_nodes_and_tells_of_each() {
    let mut tree = Tree::new();
    apply(&mut tree, &create("/a", 1), author(1)).unwrap();
    apply(&mut tree, &create("/b", 1), author(2)).unwrap();
    let effects = end_session(&mut tree, 77, 3);
    let root = paths::ROOT;
    let events: Vec<_> = effects
        .events
        .into_iter()
        .map(|event| (event.kind, event.path))
        .collect();
    assert_eq!(
        events,
        [
            (EventType::NodeDeleted, Bytes::from_static(b"/a")),
            (EventType::NodeChildrenChanged, root.clone()),
            (EventType::NodeDeleted, Bytes::from_static(b"/b")),
            (EventType::NodeChildrenChanged, root),
        ]
    );
    assert!(tree.ephemerals().is_empty());
    assert_eq!(tree.exists(b"/", &[]).unwrap().pzxid, 3);
}

#[test]
fn containers_die_when_empty_again_and_others_by_time() {
    let mut tree = Tree::new();
    let ttl = Write::Create(Create {
        op: op::CREATE_TTL,
        path: Bytes::from_static(b"/ttl"),
        data: None,
        acl: vec![Acl::open()],
        mode: CreateMode::from_flags(op::CREATE_TTL, 5, 50),
    });
    apply(&mut tree, &ttl, author(1)).unwrap();
    let container = Write::Create(Create {
        op: op::CREATE_CONTAINER,
        path: Bytes::from_static(b"/c"),
        data: None,
        acl: vec![Acl::open()],
        mode: CreateMode::from_flags(op::CREATE_CONTAINER, 0, 0),
    });
    apply(&mut tree, &container, author(2)).unwrap();
    assert!(dead_nodes(&tree, 1051).is_empty(), "never had a child");
    apply(&mut tree, &create("/c/x", 0), author(3)).unwrap();
    apply(&mut tree, &delete("/c/x", -1), author(4)).unwrap();
    assert_eq!(dead_nodes(&tree, 1051), [&b"/c"[..]]);
    assert_eq!(dead_nodes(&tree, 1052), [&b"/c"[..], b"/ttl"]);
}

/// What a tree is, without anything that makes it fast: data and version of every node.
type Model = BTreeMap<String, (Option<Vec<u8>>, i32)>;

fn parent(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/".into(),
        Some((above, _)) => above.into(),
    }
}

fn apply_to_model(model: &mut Model, write: &Write) -> Result<(), ErrorCode> {
    let text = |path: &Bytes| String::from_utf8(path.to_vec()).unwrap();
    let expect = |model: &Model, path: &str, version: i32| match model.get(path) {
        None => Err(ErrorCode::NoNode),
        Some((_, actual)) if version != -1 && version != *actual => Err(ErrorCode::BadVersion),
        Some(_) => Ok(()),
    };
    match write {
        Write::Create(create) => {
            let path = text(&create.path);
            if !model.contains_key(&parent(&path)) {
                return Err(ErrorCode::NoNode);
            }
            if model.contains_key(&path) {
                return Err(ErrorCode::NodeExists);
            }
            model.insert(path, (None, 0));
        }
        Write::Delete { path, version } => {
            let path = text(path);
            if !model.contains_key(&parent(&path)) {
                return Err(ErrorCode::NoNode);
            }
            expect(model, &path, *version)?;
            if model.keys().any(|other| parent(other) == path) {
                return Err(ErrorCode::NotEmpty);
            }
            model.remove(&path);
        }
        Write::SetData {
            path,
            data,
            version,
        } => {
            let path = text(path);
            expect(model, &path, *version)?;
            let node = model.get_mut(&path).unwrap();
            *node = (data.as_ref().map(|data| data.to_vec()), node.1 + 1);
        }
        Write::Check { path, version } => expect(model, &text(path), *version)?,
        Write::SetAcl { .. } | Write::DeleteContainer { .. } => {}
    }
    Ok(())
}

fn contents(tree: &Tree, below: &str, into: &mut Model) {
    let node = tree.node(below.as_bytes()).unwrap();
    let data = node.data().map(<[u8]>::to_vec);
    into.insert(below.into(), (data, node.version));
    for child in node.children.iter() {
        let name = std::str::from_utf8(child.name()).unwrap();
        contents(
            tree,
            &format!("{}/{name}", below.trim_end_matches('/')),
            into,
        );
    }
}

fn whole(tree: &Tree) -> Model {
    let mut model = Model::new();
    contents(tree, "/", &mut model);
    model
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..4)
        .prop_map(|names| format!("/{}", names.join("/")))
}

fn any_write() -> impl Strategy<Value = Write> {
    (any_path(), 0..4, -1..2, "[a-z]{0,3}").prop_map(|(path, what, version, data)| match what {
        0 => create(&path, 0),
        1 => delete(&path, version),
        2 => set(&path, &data, version),
        _ => Write::Check {
            path: path.into_bytes().into(),
            version,
        },
    })
}

proptest! {
    #[test]
    fn the_tree_does_what_the_model_does(transactions in prop::collection::vec(prop::collection::vec(any_write(), 1..5), 1..40)) {
        let mut tree = Tree::new();
        let mut model = whole(&tree);
        let mut stored: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        for (zxid, writes) in (1..).zip(&transactions) {
            let (results, effects) = apply_multi(&mut tree, writes, author(zxid));
            let mut attempt = model.clone();
            let failure = writes
                .iter()
                .enumerate()
                .find_map(|(index, write)| Some((index, apply_to_model(&mut attempt, write).err()?)));
            match failure {
                None => model = attempt,
                Some((index, error)) => {
                    prop_assert!(effects.is_none());
                    prop_assert_eq!(&results[index], &MultiResult::Error(error));
                }
            }
            prop_assert_eq!(whole(&tree), model.clone());
            for path in effects.unwrap_or_default().changed {
                match tree.node(&path) {
                    Some(node) => stored.insert(path, node.encode()),
                    None => stored.remove(&path),
                };
            }
            let restored = Tree::restore(stored.iter().map(|(path, node)| (path.as_ref(), node.as_ref()))).unwrap();
            for path in model.keys() {
                prop_assert_eq!(restored.node(path.as_bytes()), tree.node(path.as_bytes()), "{}", path);
            }
            prop_assert_eq!((restored.len(), restored.data_bytes()), (tree.len(), tree.data_bytes()));
        }
    }
}
