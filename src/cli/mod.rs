//! The command line: one file per tool.

mod broker_api_versions;
mod client;
mod cluster;
mod command_config;
mod configs;
#[cfg(feature = "clients")]
mod console_consumer;
#[cfg(feature = "clients")]
mod console_producer;
mod coordinator;
mod delete_records;
mod exceptions;
mod get_offsets;
mod groups;
mod include_list;
mod leader_election;
#[cfg(feature = "clients")]
mod librdkafka;
mod log_dirs;
mod log_offsets;
mod logging;
pub(crate) mod output;
mod reassign_partitions;
mod tool;
mod topics;
mod transactions;
mod zookeeper;
mod zookeeper_migrate;
mod zookeeper_shell;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::coordination::{self, ZookeeperOptions};
use crate::server::{self, ServerOptions};
use logging::LogFormat;

/// A Kafka broker that starts in a moment and needs nothing else.
///
/// Without a command, troupe runs a server: Kafka clients of any age connect to port 9092, and what expects a
/// ZooKeeper beside its Kafka finds one on port 2181. Data goes to ./troupe-data.
#[derive(Debug, Parser)]
#[command(name = "troupe", version, args_conflicts_with_subcommands = true, after_help = FIRST_STEPS)]
struct Cli {
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

const FIRST_STEPS: &str = "\
First steps, in three terminals:
  troupe
  troupe console-consumer --bootstrap-server localhost:9092 --topic demo --from-beginning
  troupe console-producer --bootstrap-server localhost:9092 --topic demo

`troupe COMMAND --help` tells the flags of a command; they are those of Kafka's own tools.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker, with its coordination service unless zookeeper.connect names another.
    Server(ServerCommand),
    /// Run the coordination service alone (zookeeper-server-start).
    Zookeeper(ZookeeperCommand),
    /// Create, list, describe, change and delete topics (kafka-topics).
    Topics(topics::TopicsCommand),
    /// List, describe, delete and reset consumer groups (kafka-consumer-groups).
    ConsumerGroups(groups::GroupsCommand),
    /// List, describe and abort transactions, and find hanging ones (kafka-transactions).
    Transactions(transactions::TransactionsCommand),
    /// Tell of a cluster (kafka-cluster), or start one of several brokers.
    Cluster(cluster::ClusterCommand),
    /// Describe and alter the configuration of topics and brokers (kafka-configs).
    Configs(configs::ConfigsCommand),
    /// Tell where logs end, begin, or are at a time (kafka-get-offsets).
    GetOffsets(get_offsets::GetOffsetsCommand),
    /// Delete the records of partitions before given offsets (kafka-delete-records).
    DeleteRecords(delete_records::DeleteRecordsCommand),
    /// Describe the log directories of brokers (kafka-log-dirs).
    LogDirs(log_dirs::LogDirsCommand),
    /// Tell which APIs the brokers have (kafka-broker-api-versions).
    BrokerApiVersions(broker_api_versions::BrokerApiVersionsCommand),
    /// Elect leaders of partitions (kafka-leader-election).
    LeaderElection(leader_election::LeaderElectionCommand),
    /// Move partitions to other brokers (kafka-reassign-partitions).
    ReassignPartitions(reassign_partitions::ReassignPartitionsCommand),
    /// Look at the tree of a ZooKeeper, and change it (zookeeper-shell).
    ZookeeperShell(zookeeper_shell::ShellCommand),
    /// Copy the tree of a ZooKeeper to another one.
    ZookeeperMigrate(zookeeper_migrate::MigrateCommand),
    /// Send each line of standard input as a record (kafka-console-producer).
    #[cfg(feature = "clients")]
    ConsoleProducer(console_producer::ConsoleProducerCommand),
    /// Print the records of a topic (kafka-console-consumer).
    #[cfg(feature = "clients")]
    ConsoleConsumer(console_consumer::ConsoleConsumerCommand),
}

#[derive(Debug, Args)]
struct ServerCommand {
    /// A server.properties file, as Kafka has them.
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: ServerFlags,
}

#[derive(Debug, Args)]
struct ZookeeperCommand {
    /// A zookeeper.properties file, as Kafka and ZooKeeper have them.
    file: Option<PathBuf>,
    /// The directory of the tree, dataDir [default: ./troupe-data/zookeeper].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Set any key of zookeeper.properties; can be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl ZookeeperCommand {
    fn options(self) -> ZookeeperOptions {
        let data = self.data.map(|data| format!("dataDir={}", data.display()));
        ZookeeperOptions {
            file: self.file,
            overrides: data.into_iter().chain(self.overrides).collect(),
        }
    }
}

#[derive(Debug, Args)]
struct ServerFlags {
    /// The directory for all data [default: ./troupe-data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The port for Kafka clients, 0 for a free one [default: 9092].
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// The port for ZooKeeper clients, 0 for a free one [default: 2181].
    #[arg(long, value_name = "N")]
    zookeeper_port: Option<u16>,
    /// Set any key of server.properties; can be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl ServerFlags {
    fn options(self, file: Option<PathBuf>) -> ServerOptions {
        let mut overrides = Vec::new();
        if let Some(data) = self.data {
            overrides.push(format!("troupe.data.dir={}", data.display()));
            overrides.push(format!("log.dirs={}", data.join("logs").display()));
        }
        overrides.extend(
            self.port
                .map(|port| format!("listeners=PLAINTEXT://:{port}")),
        );
        overrides.extend(
            self.zookeeper_port
                .map(|port| format!("troupe.zookeeper.port={port}")),
        );
        overrides.extend(self.overrides);
        ServerOptions { file, overrides }
    }
}

/// Runs what the arguments say, the first of which is the name of the program.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a closed standard output.
            let _ = error.print();
            // Kafka's tools leave with 1 where clap would with 2.
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli.command {
        None => run_server(cli.server, None),
        Some(Command::Server(command)) => run_server(command.flags, command.file),
        Some(Command::Zookeeper(command)) => {
            cluster::stop_with_parent();
            logging::start_for_server(command.log_format);
            coordination::run(&command.options())
        }
        Some(Command::Topics(command)) => run_tool(|| topics::run(&command)),
        Some(Command::ConsumerGroups(command)) => run_tool(|| groups::run(&command)),
        Some(Command::Transactions(command)) => run_tool(|| transactions::run(&command)),
        Some(Command::Cluster(command)) => run_tool(|| cluster::run(command)),
        Some(Command::Configs(command)) => run_tool(|| configs::run(command)),
        Some(Command::GetOffsets(command)) => run_tool(|| get_offsets::run(command)),
        Some(Command::DeleteRecords(command)) => run_tool(|| delete_records::run(command)),
        Some(Command::LogDirs(command)) => run_tool(|| log_dirs::run(command)),
        Some(Command::BrokerApiVersions(command)) => run_tool(|| broker_api_versions::run(command)),
        Some(Command::LeaderElection(command)) => run_tool(|| leader_election::run(command)),
        Some(Command::ReassignPartitions(command)) => {
            run_tool(|| reassign_partitions::run(&command))
        }
        Some(Command::ZookeeperShell(command)) => run_tool(|| zookeeper_shell::run(&command)),
        Some(Command::ZookeeperMigrate(command)) => run_tool(|| zookeeper_migrate::run(&command)),
        #[cfg(feature = "clients")]
        Some(Command::ConsoleProducer(command)) => run_tool(|| console_producer::run(&command)),
        #[cfg(feature = "clients")]
        Some(Command::ConsoleConsumer(command)) => run_tool(|| console_consumer::run(&command)),
    }
}

fn run_server(flags: ServerFlags, file: Option<PathBuf>) -> ExitCode {
    cluster::stop_with_parent();
    logging::start_for_server(flags.log_format);
    server::run(&flags.options(file))
}

fn run_tool(tool: impl FnOnce() -> ExitCode) -> ExitCode {
    logging::start_for_tool();
    tool()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    fn options(arguments: &[&str]) -> ServerOptions {
        let cli = Cli::try_parse_from(["troupe"].iter().chain(arguments)).unwrap();
        match cli.command {
            None => cli.server.options(None),
            Some(Command::Server(command)) => command.flags.options(command.file),
            Some(_) => panic!("not a server"),
        }
    }

    #[test]
    fn flags_are_overrides_and_explicit_ones_win() {
        let options = options(&[
            "--port",
            "0",
            "--data",
            "/d",
            "--zookeeper-port",
            "1",
            "--override",
            "log.dirs=/x",
        ]);
        assert_eq!(
            options.overrides,
            [
                "troupe.data.dir=/d",
                "log.dirs=/d/logs",
                "listeners=PLAINTEXT://:0",
                "troupe.zookeeper.port=1",
                "log.dirs=/x"
            ]
        );
    }

    #[test]
    fn a_server_takes_a_file_and_flags_in_any_order() {
        let options = options(&[
            "server",
            "--override",
            "a=b",
            "config/server.properties",
            "--override",
            "c=d",
        ]);
        assert_eq!(
            options.file,
            Some(PathBuf::from("config/server.properties"))
        );
        assert_eq!(options.overrides, ["a=b", "c=d"]);
    }
}
