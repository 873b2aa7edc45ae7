//! Commands that show something, and those about watches.

use super::commands::{Failure, path, subtree};
use super::format;
use super::line::{Arguments, check_path};
use crate::cli::output;
use crate::znode_client::Client;

pub(super) async fn ls(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let path = path(arguments)?;
    if arguments.has('R') {
        let paths = subtree(client, path).await.map_err(Failure::about(path))?;
        paths.iter().for_each(output::line);
        return Ok(());
    }
    let listed = client.children(path, arguments.has('w')).await;
    let (children, stat) = listed.map_err(Failure::about(path))?;
    output::line(format::list(&children));
    if arguments.has('s') {
        output::line(format::stat(&stat));
    }
    Ok(())
}

pub(super) async fn get(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let path = path(arguments)?;
    let read = client.get(path, arguments.has('w')).await;
    let (data, stat) = read.map_err(Failure::about(path))?;
    output::line(format::data(
        data.as_deref(),
        arguments.has('b'),
        arguments.has('x'),
    ));
    if arguments.has('s') {
        output::line(format::stat(&stat));
    }
    Ok(())
}

pub(super) async fn stat(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let path = path(arguments)?;
    let stat = client.exists(path, arguments.has('w')).await;
    output::line(format::stat(&stat.map_err(Failure::about(path))?));
    Ok(())
}

pub(super) async fn get_acl(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let path = path(arguments)?;
    let (acl, stat) = client.acl(path).await.map_err(Failure::about(path))?;
    output::line(format::acl(&acl));
    if arguments.has('s') {
        output::line(format::stat(&stat));
    }
    Ok(())
}

pub(super) async fn all_children_number(
    client: &Client,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let path = path(arguments)?;
    let number = client.all_children_number(path).await;
    output::line(number.map_err(Failure::about(path))?);
    Ok(())
}

pub(super) async fn ephemerals(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let prefix = arguments.word(0).unwrap_or("/");
    check_path(prefix, false).map_err(Failure::Said)?;
    let paths = client.ephemerals(prefix).await;
    output::line(format::list(&paths.map_err(Failure::about(prefix))?));
    Ok(())
}

pub(super) async fn sync(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let path = path(arguments)?;
    client.sync(path).await.map_err(Failure::about(path))?;
    output::line("Sync is OK");
    Ok(())
}

pub(super) async fn who_am_i(client: &Client) -> Result<(), Failure> {
    let mut names = client.who_am_i().await?;
    names.sort();
    output::line("Auth scheme: User");
    for (scheme, name) in names {
        output::line(format_args!("{scheme}: {name}"));
    }
    Ok(())
}

pub(super) async fn config(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let read = client.config(arguments.has('w')).await;
    let (data, stat) = read.map_err(Failure::about("/zookeeper/config"))?;
    output::line(String::from_utf8_lossy(&data.unwrap_or_default()));
    if arguments.has('s') {
        output::line(format::stat(&stat));
    }
    Ok(())
}

pub(super) async fn add_watch(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let path = path(arguments)?;
    let recursive = match arguments.value('m').unwrap_or("PERSISTENT_RECURSIVE") {
        "PERSISTENT" => false,
        "PERSISTENT_RECURSIVE" => true,
        _ => return Err(Failure::Usage),
    };
    let added = client.add_watch(path, recursive).await;
    added.map_err(Failure::about(path))
}

pub(super) async fn remove_watches(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let path = path(arguments)?;
    let kind = match (arguments.has('c'), arguments.has('d')) {
        (true, _) => 1,
        (_, true) => 2,
        _ => 3,
    };
    let removed = client.remove_watches(path, kind).await;
    removed.map_err(Failure::about(path))
}
