//! Commands that change something.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use troupe_protocol::zookeeper::Acl;

use super::commands::{Failure, path, subtree, version};
use super::format;
use super::line::{Arguments, check_path};
use crate::cli::output;
use crate::znode_client::{Client, CreateMode};

pub(super) async fn create(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let (mode, ttl_ms) = create_mode(arguments)?;
    let path = arguments.word(0).ok_or(Failure::Usage)?;
    let sequential = arguments.has('s');
    check_path(path, sequential).map_err(Failure::Said)?;
    let acl = match arguments.word(2) {
        Some(text) => read_acl(text)?,
        None => vec![Acl::open()],
    };
    let data = arguments.word(1).map(str::as_bytes);
    let created = client.create(path, data, &acl, mode, ttl_ms).await;
    output::error(format_args!(
        "Created {}",
        created.map_err(Failure::about(path))?
    ));
    Ok(())
}

/// Returns the kind of node that the options ask for, and how long it may live, in milliseconds.
fn create_mode(arguments: &Arguments) -> Result<(CreateMode, i64), Failure> {
    let said = |text: &str| Err(Failure::Said(text.to_owned()));
    let (sequential, ephemeral) = (arguments.has('s'), arguments.has('e'));
    let container = arguments.has('c');
    if container && (sequential || ephemeral) {
        return said(
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
        );
    }
    if let Some(ttl) = arguments.value('t') {
        let Ok(ttl_ms) = ttl.parse() else {
            return said("-t argument must be a long value");
        };
        if container || ephemeral {
            return said("-t cannot be combined with -c or -e. TTL nodes cannot be ephemeral.");
        }
        let mode = match sequential {
            true => CreateMode::TtlSequential,
            false => CreateMode::Ttl,
        };
        return Ok((mode, ttl_ms));
    }
    let mode = match (container, ephemeral, sequential) {
        (true, _, _) => CreateMode::Container,
        (_, true, true) => CreateMode::EphemeralSequential,
        (_, true, false) => CreateMode::Ephemeral,
        (_, false, true) => CreateMode::PersistentSequential,
        (_, false, false) => CreateMode::Persistent,
    };
    Ok((mode, 0))
}

/// Reads an ACL; an empty one would be refused by the service, without a path.
fn read_acl(text: &str) -> Result<Vec<Acl>, Failure> {
    let (acl, troubles) = format::parse_acl(text);
    troubles.iter().for_each(output::error);
    if acl.is_empty() {
        return Err(Failure::Said("Acl is not valid : null".to_owned()));
    }
    Ok(acl)
}

pub(super) async fn set(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let [path, text, ..] = arguments.words() else {
        return Err(Failure::Usage);
    };
    check_path(path, false).map_err(Failure::Said)?;
    let data = match arguments.has('b') {
        true => STANDARD
            .decode(text)
            .map_err(|error| Failure::Said(error.to_string()))?,
        false => text.clone().into_bytes(),
    };
    let set = client.set(path, Some(&data), version(arguments)?).await;
    let stat = set.map_err(Failure::about(path))?;
    if arguments.has('s') {
        output::line(format::stat(&stat));
    }
    Ok(())
}

pub(super) async fn delete(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let path = path(arguments)?;
    let deleted = client.delete(path, version(arguments)?).await;
    deleted.map_err(Failure::about(path))
}

pub(super) async fn delete_all(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let root = path(arguments)?;
    let paths = subtree(client, root).await.map_err(Failure::about(root))?;
    for path in paths.iter().rev() {
        match client.delete(path, -1).await {
            // An ephemeral one that went meanwhile.
            Err(error) if error.is_no_node() => {}
            other => other.map_err(Failure::about(path))?,
        }
    }
    Ok(())
}

pub(super) async fn set_acl(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let [root, text, ..] = arguments.words() else {
        return Err(Failure::Usage);
    };
    check_path(root, false).map_err(Failure::Said)?;
    let version = version(arguments)?;
    let acl = read_acl(text)?;
    let paths = match arguments.has('R') {
        true => subtree(client, root).await.map_err(Failure::about(root))?,
        false => vec![root.clone()],
    };
    for path in paths {
        let set = client.set_acl(&path, &acl, version).await;
        let stat = set.map_err(Failure::about(&path))?;
        if arguments.has('s') {
            output::line(format::stat(&stat));
        }
    }
    Ok(())
}

pub(super) async fn add_auth(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let scheme = arguments.word(0).ok_or(Failure::Usage)?;
    let proof = arguments.word(1).unwrap_or_default();
    client.auth(scheme, proof.as_bytes()).await?;
    Ok(())
}
