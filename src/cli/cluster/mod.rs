//! `troupe cluster`: tells of a cluster as kafka-cluster does, and starts one.
//!
//! Output is that of Kafka 3.9, of list-endpoints that of 4.1; only brokers can be asked, there are no KRaft controllers.

mod child;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::describe_cluster_response::DescribeClusterBroker;
use troupe_protocol::kafka::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, UnregisterBrokerRequest,
};

use super::client::AdminClient;
use super::tool::{self, Brokers, ToolError};
use super::{exceptions, output};
pub(crate) use child::stop_with_parent;

/// Tell of a cluster, or start one.
#[derive(Debug, Args)]
pub(crate) struct ClusterCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tell the id of the cluster.
    ClusterId(Connection),
    /// List where the brokers are.
    ListEndpoints(Endpoints),
    /// Unregister a broker, which only clusters without ZooKeeper know.
    Unregister(Unregistration),
    /// Start several brokers and their coordination service.
    Start(start::StartFlags),
}

#[derive(Debug, Args)]
struct Connection {
    /// The brokers to connect to: host:port,host:port.
    #[arg(long, short, value_name = "SERVERS")]
    bootstrap_server: String,
    /// A file of settings for the connection.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Connection {
    async fn connect(self) -> Result<AdminClient, ToolError> {
        let brokers = Brokers {
            bootstrap_server: Some(self.bootstrap_server),
            command_config: self.config,
            zookeeper: None,
        };
        brokers.connect().await
    }
}

#[derive(Debug, Args)]
struct Endpoints {
    #[command(flatten)]
    connection: Connection,
    /// List the brokers that take no requests, too.
    #[arg(long)]
    include_fenced_brokers: bool,
}

#[derive(Debug, Args)]
struct Unregistration {
    #[command(flatten)]
    connection: Connection,
    /// The id of the broker.
    #[arg(long, short)]
    id: i32,
}

/// Runs the command.
pub(crate) fn run(command: ClusterCommand) -> ExitCode {
    match command.action {
        Action::ClusterId(connection) => tool::run("", cluster_id(connection)),
        Action::ListEndpoints(flags) => tool::run("", list_endpoints(flags)),
        Action::Unregister(flags) => tool::run("", unregister(flags)),
        Action::Start(flags) => start::run(&flags),
    }
}

async fn describe(
    client: &mut AdminClient,
    fenced: bool,
) -> Result<DescribeClusterResponse, ToolError> {
    let request = DescribeClusterRequest::default()
        .with_endpoint_type(1)
        .with_include_fenced_brokers(fenced);
    let response = client.any().call(request).await?;
    check(response.error_code, response.error_message.as_ref())?;
    Ok(response)
}

fn check(code: i16, message: Option<&troupe_protocol::kafka::StrBytes>) -> Result<(), ToolError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        _ => Err(ToolError::Told(exceptions::told(code, message))),
    }
}

async fn cluster_id(connection: Connection) -> Result<(), ToolError> {
    let mut client = connection.connect().await?;
    let described = describe(&mut client, false).await?;
    output::line(match described.cluster_id.as_str() {
        "" => "No cluster ID found. The Kafka version is probably too old.".to_owned(),
        id => format!("Cluster ID: {id}"),
    });
    Ok(())
}

async fn list_endpoints(flags: Endpoints) -> Result<(), ToolError> {
    let mut client = flags.connection.connect().await?;
    let mut brokers = describe(&mut client, flags.include_fenced_brokers)
        .await?
        .brokers;
    brokers.sort_by_key(|broker| broker.broker_id);
    for line in table(&brokers) {
        output::line(line);
    }
    Ok(())
}

/// Lays the brokers out; host and rack are as wide as the longest.
fn table(brokers: &[DescribeClusterBroker]) -> Vec<String> {
    let longest = |lengths: Vec<usize>, without| lengths.into_iter().max().unwrap_or(without);
    let hosts = brokers.iter().map(|broker| broker.host.len()).collect();
    let racks = brokers.iter().filter_map(|broker| broker.rack.as_ref());
    let racks = racks.map(|rack| rack.len()).collect();
    let (host_width, rack_width) = (longest(hosts, 100), longest(racks, 10));
    let row = |cells: [&str; 6]| {
        let [id, host, port, rack, state, endpoint] = cells;
        format!(
            "{id:<10} {host:<host_width$} {port:<10} {rack:<rack_width$} {state:<10} {endpoint:<15}"
        )
    };
    let header = row(["ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE"]);
    let rows = brokers.iter().map(|broker| {
        row([
            &broker.broker_id.0.to_string(),
            broker.host.as_str(),
            &broker.port.to_string(),
            broker.rack.as_ref().map_or("null", |rack| rack.as_str()),
            if broker.is_fenced {
                "fenced"
            } else {
                "unfenced"
            },
            "broker",
        ])
    });
    [header].into_iter().chain(rows).collect()
}

async fn unregister(flags: Unregistration) -> Result<(), ToolError> {
    let mut client = flags.connection.connect().await?;
    if !client.supports::<UnregisterBrokerRequest>() {
        output::line("The target cluster does not support the broker unregistration API.");
        return Ok(());
    }
    let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(flags.id));
    let response = client.controller().await?.call(request).await?;
    check(response.error_code, response.error_message.as_ref())?;
    output::line(format_args!("Broker {} is no longer registered.", flags.id));
    Ok(())
}
