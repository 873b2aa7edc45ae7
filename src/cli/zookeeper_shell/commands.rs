//! The commands of the shell: their table, and which function does what.

use super::line::{Arguments, Syntax, check_path};
use super::{reads, writes};
use crate::cli::output;
use crate::znode_client::{Client, ClientError};

/// Commands for a session. What the loop itself does (`connect`, `history`, …) has no options.
pub(super) const COMMANDS: &[Syntax] = &[
    syntax(
        "addWatch",
        "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        "m:",
    ),
    syntax("addauth", "scheme auth", ""),
    syntax("close", "", ""),
    syntax("config", "[-c] [-w] [-s]", "cws"),
    syntax("connect", "host:port", ""),
    syntax(
        "create",
        "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        "sect:",
    ),
    syntax("delete", "[-v version] path", "v:"),
    syntax("deleteall", "path [-b batch size]", "b:"),
    Syntax {
        name: "get",
        usage: "[-s] [-w] [-b] [-x] path",
        options: "swbx",
        details: " -b   Output data in base64 format\n -s   Print znode stats additionally\n \
                  -w   Watch for changes on the znode\n -x   Output data in hexdump format\n",
    },
    syntax("getAcl", "[-s] path", "s"),
    syntax("getAllChildrenNumber", "path", ""),
    syntax("getEphemerals", "path", ""),
    syntax("history", "", ""),
    syntax("ls", "[-s] [-w] [-R] path", "swR"),
    syntax("printwatches", "on|off", ""),
    syntax("quit", "", ""),
    syntax("redo", "cmdno", ""),
    syntax("removewatches", "path [-c|-d|-a] [-l]", "cdal"),
    Syntax {
        name: "set",
        usage: "path data [-s] [-v version] [-b]",
        options: "sv:b",
        details: " -b         Supply data in base64 format\n -s         Print znode stats additionally\n \
                  -v <arg>   Set with an expected version\n",
    },
    syntax("setAcl", "[-s] [-v version] [-R] path acl", "sv:R"),
    syntax("stat", "[-w] path", "w"),
    syntax("sync", "path", ""),
    syntax("version", "", ""),
    syntax("whoami", "", ""),
];

const fn syntax(name: &'static str, usage: &'static str, options: &'static str) -> Syntax {
    Syntax {
        name,
        usage,
        options,
        details: "",
    }
}

/// Why a command was not done.
pub(super) enum Failure {
    /// It was used wrongly; its usage says how.
    Usage,
    Said(String),
}

impl Failure {
    /// Says what the service said, of a path.
    pub(super) fn about(path: &str) -> impl Fn(ClientError) -> Self {
        let path = path.to_owned();
        move |error| Self::Said(error.about(&path))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Said(error.to_string())
    }
}

/// Finds a command by its name.
pub(super) fn find(name: &str) -> Option<&'static Syntax> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Lists all commands, for who asks or mistypes.
pub(super) fn help() -> String {
    let mut lines = vec![
        "ZooKeeper -server host:port -client-configuration properties-file cmd args".to_owned(),
    ];
    lines.extend(
        COMMANDS
            .iter()
            .map(|command| format!("\t{} {}", command.name, command.usage)),
    );
    lines.join("\n")
}

/// Does one command; says on standard error why not. Returns whether it was done.
pub(super) async fn run(client: &Client, command: &Syntax, words: &[String]) -> bool {
    let done = match Arguments::parse(command, words) {
        Ok(arguments) => perform(client, command, &arguments).await,
        Err(trouble) => Err(Failure::Said(trouble)),
    };
    match done {
        Ok(()) => true,
        Err(Failure::Usage) => {
            output::error(format_args!("{} {}", command.name, command.usage));
            if !command.details.is_empty() {
                output::error(command.details);
            }
            false
        }
        Err(Failure::Said(what)) => {
            output::error(what);
            false
        }
    }
}

async fn perform(client: &Client, command: &Syntax, arguments: &Arguments) -> Result<(), Failure> {
    match command.name {
        "addWatch" => reads::add_watch(client, arguments).await,
        "addauth" => writes::add_auth(client, arguments).await,
        "config" => reads::config(client, arguments).await,
        "create" => writes::create(client, arguments).await,
        "delete" => writes::delete(client, arguments).await,
        "deleteall" => writes::delete_all(client, arguments).await,
        "get" => reads::get(client, arguments).await,
        "getAcl" => reads::get_acl(client, arguments).await,
        "getAllChildrenNumber" => reads::all_children_number(client, arguments).await,
        "getEphemerals" => reads::ephemerals(client, arguments).await,
        "ls" => reads::ls(client, arguments).await,
        "removewatches" => reads::remove_watches(client, arguments).await,
        "set" => writes::set(client, arguments).await,
        "setAcl" => writes::set_acl(client, arguments).await,
        "stat" => reads::stat(client, arguments).await,
        "sync" => reads::sync(client, arguments).await,
        "version" => {
            output::line(format_args!(
                "ZooKeeper CLI version: {} (Troupe)",
                env!("CARGO_PKG_VERSION")
            ));
            Ok(())
        }
        "whoami" => reads::who_am_i(client).await,
        _ => Err(Failure::Usage),
    }
}

/// Returns the first word, which is a path.
pub(super) fn path(arguments: &Arguments) -> Result<&str, Failure> {
    let path = arguments.word(0).ok_or(Failure::Usage)?;
    check_path(path, false).map_err(Failure::Said)?;
    Ok(path)
}

/// Returns the version that a command expects, -1 for any.
pub(super) fn version(arguments: &Arguments) -> Result<i32, Failure> {
    arguments
        .value('v')
        .map_or(Ok(-1), |text| text.parse().map_err(|_| Failure::Usage))
}

/// Lists a node and everything below it, by depth and name.
pub(super) async fn subtree(client: &Client, root: &str) -> Result<Vec<String>, ClientError> {
    let mut paths = vec![root.to_owned()];
    let mut asked = 0;
    while let Some(path) = paths.get(asked).cloned() {
        match client.children(&path, false).await {
            Ok((children, _)) => {
                let parent = if path == "/" { "" } else { &path };
                let children = children.iter().map(|child| format!("{parent}/{child}"));
                paths.extend(children);
                asked += 1;
            }
            // Gone since its parent was asked.
            Err(error) if error.is_no_node() && path != root => {
                paths.remove(asked);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_sorted_as_zookeepers_and_found() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        assert!(find("getAcl").is_some());
        assert!(find("getacl").is_none());
        assert!(
            help()
                .lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("\taddWatch [-m mode] path"))
        );
    }
}
