//! `troupe cluster start`: several brokers and their coordination service, each a process of its own.

use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use clap::Args;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use super::super::output;
use super::child::Child;
use crate::signals::Termination;

#[derive(Debug, Args)]
pub(super) struct StartFlags {
    /// How many brokers.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    brokers: u16,
    /// The directory for all data.
    #[arg(long, value_name = "DIR", default_value = "./troupe-cluster")]
    data: PathBuf,
    /// The port of the first broker, those of the others follow; 0 for free ones.
    #[arg(long, value_name = "N", default_value_t = 9092)]
    port: u16,
    /// The port for ZooKeeper clients, 0 for a free one.
    #[arg(long, value_name = "N", default_value_t = 2181)]
    zookeeper_port: u16,
    /// Set any key of server.properties for all brokers; can be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Tells why the cluster did not start or had to end.
#[derive(Debug, thiserror::Error)]
enum ClusterError {
    #[error("cannot start {0}: {1}")]
    Spawn(String, io::Error),
    #[error("{0} did not start")]
    NotReady(String),
    #[error("there is no port after 65535 for broker {0}")]
    Port(u16),
    #[error("{0}")]
    Ended(String),
    #[error(transparent)]
    Runtime(#[from] io::Error),
}

/// Runs a cluster until it is told to stop. It leaves with 1 when a part of it did not start, or ended by itself.
pub(super) fn run(flags: &StartFlags) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve(flags)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(format_args!("troupe: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(flags: &StartFlags) -> Result<(), ClusterError> {
    let mut termination = Termination::watch();
    let mut cluster = Cluster::default();
    let started = tokio::select! {
        started = cluster.start(flags) => started.map(|()| true),
        () = termination.signal() => Ok(false),
    };
    let result = match started {
        Ok(true) => tokio::select! {
            result = cluster.watch() => result,
            () = termination.signal() => Ok(()),
        },
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    tokio::select! {
        () = cluster.stop() => {}
        () = termination.signal() => {
            output::error("stopping at once: the next start will check the logs");
            std::process::exit(1);
        }
    }
    match (result, cluster.lost) {
        (Ok(()), Some(lost)) => Err(ClusterError::Ended(lost)),
        (result, _) => result,
    }
}

/// The processes of a cluster.
#[derive(Default)]
struct Cluster {
    coordination: Option<Child>,
    brokers: Vec<Child>,
    /// The last broker that ended by itself.
    lost: Option<String>,
}

impl Cluster {
    /// Starts everything, and says where it is when all of it is ready.
    async fn start(&mut self, flags: &StartFlags) -> Result<(), ClusterError> {
        let arguments = [
            "zookeeper".to_owned(),
            "--data".to_owned(),
            flags.data.join("zookeeper").display().to_string(),
            format!("--override=clientPort={}", flags.zookeeper_port),
            "--override=maxClientCnxns=0".to_owned(),
        ];
        let coordination = self.coordination.insert(child("coordination", &arguments)?);
        let said = coordination.ready().await;
        let said = said.ok_or_else(|| ClusterError::NotReady(coordination.name.clone()))?;
        let zookeeper = address(&said, "ZooKeeper protocol on ");
        for id in 0..flags.brokers {
            let arguments = broker_arguments(flags, id, &zookeeper)?;
            self.brokers
                .push(child(&format!("broker {id}"), &arguments)?);
        }
        let said = join_all(self.brokers.iter_mut().map(Child::ready)).await;
        let mut addresses = Vec::new();
        for (broker, said) in self.brokers.iter().zip(said) {
            let said = said.ok_or_else(|| ClusterError::NotReady(broker.name.clone()))?;
            addresses.push(address(&said, "Kafka protocol on "));
        }
        for (broker, address) in self.brokers.iter().zip(&addresses) {
            let (name, id) = (&broker.name, broker.id);
            output::line(format_args!(
                "{name} (process {id}): Kafka protocol on {address}"
            ));
        }
        let replicas = flags.brokers.min(3);
        output::line(format_args!("ZooKeeper protocol on {zookeeper}"));
        output::line(format_args!(
            "Data in {}. Next: troupe topics --create --topic demo --replication-factor {replicas} --bootstrap-server {}",
            flags.data.display(),
            addresses.join(",")
        ));
        Ok(())
    }

    /// Says when a broker ends by itself; returns when there is nothing left to do.
    async fn watch(&mut self) -> Result<(), ClusterError> {
        loop {
            let coordination = async {
                match &mut self.coordination {
                    Some(child) => child.ended().await,
                    None => std::future::pending().await,
                }
            };
            let (at, status) = tokio::select! {
                status = coordination => {
                    let ended = ended("coordination", None, status);
                    return Err(ClusterError::Ended(format!("{ended}, and without it nothing goes on")));
                }
                broker = first_to_end(&mut self.brokers) => broker,
            };
            let broker = self.brokers.remove(at);
            let what = ended(&broker.name, Some(broker.id), status);
            if self.brokers.is_empty() {
                return Err(ClusterError::Ended(format!("{what}, the last one")));
            }
            output::error(format_args!("troupe: {what}; the others go on"));
            self.lost = Some(what);
        }
    }

    /// Stops the brokers, and when they have handed over what they lead, their coordination.
    async fn stop(&mut self) {
        self.brokers.iter().for_each(Child::stop);
        join_all(self.brokers.iter_mut().map(Child::ended)).await;
        if let Some(coordination) = &mut self.coordination {
            coordination.stop();
            // It is gone in any case.
            let _ = coordination.ended().await;
        }
    }
}

fn child(name: &str, arguments: &[String]) -> Result<Child, ClusterError> {
    Child::start(name.to_owned(), arguments)
        .map_err(|error| ClusterError::Spawn(name.to_owned(), error))
}

fn broker_arguments(
    flags: &StartFlags,
    id: u16,
    zookeeper: &str,
) -> Result<Vec<String>, ClusterError> {
    let port = match flags.port {
        0 => 0,
        first => first.checked_add(id).ok_or(ClusterError::Port(id))?,
    };
    let data = flags.data.join(format!("broker-{id}"));
    let mut arguments = vec![
        "server".to_owned(),
        "--data".to_owned(),
        data.display().to_string(),
        format!("--port={port}"),
        format!("--override=broker.id={id}"),
        format!("--override=zookeeper.connect={zookeeper}"),
    ];
    let overrides = flags.overrides.iter();
    arguments.extend(overrides.map(|pair| format!("--override={pair}")));
    Ok(arguments)
}

/// Finds an address in what a process said.
fn address(said: &[String], before: &str) -> String {
    let mut lines = said.iter();
    let address = lines.find_map(|line| line.strip_prefix(before));
    address.unwrap_or_default().to_owned()
}

async fn first_to_end(brokers: &mut [Child]) -> (usize, Option<ExitStatus>) {
    let ends = brokers.iter_mut().enumerate();
    let mut ends: FuturesUnordered<_> = ends
        .map(|(at, broker)| async move { (at, broker.ended().await) })
        .collect();
    match ends.next().await {
        Some(first) => first,
        None => std::future::pending().await,
    }
}

fn ended(name: &str, id: Option<u32>, status: Option<ExitStatus>) -> String {
    let process = id.map_or(String::new(), |id| format!(" (process {id})"));
    match status {
        Some(status) => format!("{name}{process} has ended by itself, {status}"),
        None => format!("{name}{process} has ended by itself"),
    }
}
