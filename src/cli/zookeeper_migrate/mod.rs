//! `troupe zookeeper-migrate`: copies a tree of znodes from one service to another, while no broker runs.
//!
//! Data (null stays apart from empty) and ACLs are copied. Versions, times and transaction numbers begin anew, as the
//! target counts them. Ephemeral nodes stay behind, for they belong to a session, and so does `/zookeeper`, which each
//! service has for itself. Containers and nodes with a time to live become persistent ones: no service shows which they
//! are. Sequential nodes keep their names, and later ones are numbered after them.

mod copy;
mod tree;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::output;
use crate::znode_client::{Client, ClientError, ConnectError, ConnectString};
use tree::Tree;

/// Where live brokers are.
const BROKERS: &str = "/brokers/ids";
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct MigrateCommand {
    /// The service to copy from.
    #[arg(long, value_name = "HOST:PORT[/CHROOT]")]
    from: String,
    /// The service to copy to; the chroot is created there.
    #[arg(long, value_name = "HOST:PORT[/CHROOT]")]
    to: String,
    /// Say what would be copied, and copy nothing.
    #[arg(long)]
    dry_run: bool,
    /// Copy over what the target has already; what only the target has stays.
    #[arg(long)]
    force: bool,
    /// Prove a name to both services, such as digest:user:password, for nodes that are not open to anyone; can be repeated.
    #[arg(long, value_name = "SCHEME:PROOF")]
    auth: Vec<String>,
}

/// Tells why nothing, or not everything, was copied.
#[derive(Debug, thiserror::Error)]
enum MigrateError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot reach {0}")]
    Unreachable(String),
    #[error("--auth {0}: expected SCHEME:PROOF, such as digest:user:password")]
    Auth(String),
    #[error("{what} has live brokers ({ids}); stop them first")]
    Brokers { what: String, ids: String },
    #[error(
        "{what} is not empty: it has {names}; choose another chroot, or copy over it with --force"
    )]
    NotEmpty { what: String, names: String },
    #[error("{0} does not exist")]
    NoSource(String),
    #[error("{what}: {message}")]
    Request { what: String, message: String },
    #[error("{0}: its ACL is shown masked; prove a name that may administrate it with --auth")]
    Masked(String),
}

impl MigrateError {
    /// Says which service failed at a path.
    fn at(what: &str, path: &str) -> impl Fn(ClientError) -> Self {
        let (what, path) = (what.to_owned(), path.to_owned());
        move |error| match error {
            ClientError::ConnectionLoss => Self::Unreachable(what.clone()),
            error => Self::Request {
                what: what.clone(),
                message: error.about(&path),
            },
        }
    }
}

pub(crate) fn run(command: &MigrateCommand) -> ExitCode {
    match actix_rt::System::new().block_on(migrate(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(format_args!("Error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn migrate(command: &MigrateCommand) -> Result<(), MigrateError> {
    let source = connect(&command.from, &command.auth, false).await?;
    refuse_brokers(&source, &command.from).await?;
    let tree = Tree::read(&source, &command.from).await?;
    for path in &tree.left_out {
        output::line(format_args!("Left out {path}, which is ephemeral"));
    }
    let bytes: usize = tree.nodes().map(|node| node.size()).sum();
    let nodes = tree.nodes().count();
    let (from, to) = (&command.from, &command.to);
    if command.dry_run {
        for node in tree.nodes() {
            output::line(format_args!("{} ({} bytes)", node.path, node.size()));
        }
        output::line(format_args!(
            "Would copy {nodes} znodes with {bytes} bytes from {from} to {to}"
        ));
    } else {
        let target = connect(to, &command.auth, true).await?;
        refuse_brokers(&target, to).await?;
        if !command.force {
            refuse_tree(&target, to).await?;
        }
        copy::write(&target, to, &tree).await?;
        target.close().await;
        output::line(format_args!(
            "Copied {nodes} znodes with {bytes} bytes from {from} to {to}"
        ));
    }
    source.close().await;
    Ok(())
}

/// Begins a session, and sees to it that there is a service; creates the chroot if asked to.
async fn connect(
    connect: &str,
    auths: &[String],
    create_chroot: bool,
) -> Result<Client, MigrateError> {
    let parsed = ConnectString::parse(connect)?;
    if create_chroot && !parsed.chroot().is_empty() {
        let whole = begin(&parsed.without_chroot(), connect, auths).await?;
        copy::make_path(&whole, connect, parsed.chroot()).await?;
        whole.close().await;
    }
    begin(&parsed, connect, auths).await
}

async fn begin(
    parsed: &ConnectString,
    connect: &str,
    auths: &[String],
) -> Result<Client, MigrateError> {
    let client = Client::start(parsed, SESSION_TIMEOUT, |_| ()).await?;
    for auth in auths {
        let (scheme, proof) = auth
            .split_once(':')
            .ok_or_else(|| MigrateError::Auth(auth.clone()))?;
        let proved = client.auth(scheme, proof.as_bytes()).await;
        proved.map_err(MigrateError::at(connect, "/"))?;
    }
    match client.exists("/", false).await {
        Ok(_) => Ok(client),
        Err(error) if error.is_no_node() => Err(MigrateError::NoSource(connect.to_owned())),
        Err(error) => Err(MigrateError::at(connect, "/")(error)),
    }
}

async fn refuse_brokers(client: &Client, what: &str) -> Result<(), MigrateError> {
    match client.children(BROKERS, false).await {
        Ok((ids, _)) if ids.is_empty() => Ok(()),
        Ok((ids, _)) => Err(MigrateError::Brokers {
            what: what.to_owned(),
            ids: ids.join(", "),
        }),
        Err(error) if error.is_no_node() => Ok(()),
        Err(error) => Err(MigrateError::at(what, BROKERS)(error)),
    }
}

async fn refuse_tree(target: &Client, what: &str) -> Result<(), MigrateError> {
    let (mut names, _) = target
        .children("/", false)
        .await
        .map_err(MigrateError::at(what, "/"))?;
    names.retain(|name| name != "zookeeper");
    if names.is_empty() {
        return Ok(());
    }
    Err(MigrateError::NotEmpty {
        what: what.to_owned(),
        names: names.join(", "),
    })
}
