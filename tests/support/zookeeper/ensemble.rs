//! Three Apache ZooKeeper 3.9 servers that elect a leader.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::server::four_letter_word;
use crate::support::java::Jars;
use crate::support::process::{HANG_GUARD, Process};
use crate::support::server::free_ports;

const SERVERS: usize = 3;

/// A running ensemble. It is killed, and its data removed, when this is dropped.
pub struct Ensemble {
    ports: Vec<u16>,
    // Before the directory, so that nothing writes there any more when it is removed.
    processes: Vec<Option<Process>>,
    _temporary: TempDir,
}

impl Ensemble {
    /// Starts three servers; without their jars the test is skipped by name.
    pub fn start() -> Option<Ensemble> {
        let java = Jars::find("zookeeper-3.9")?;
        let temporary = tempfile::Builder::new()
            .prefix("troupe-test-ensemble-")
            .tempdir()
            .expect("a temporary directory");
        // For clients, for followers and for elections; the second is not bound before its server leads.
        let mut ports = free_ports(3 * SERVERS);
        let among_themselves = ports.split_off(SERVERS);
        let servers: String = (1..=SERVERS)
            .zip(among_themselves.chunks(2))
            .map(|(id, ports)| format!("server.{id}=127.0.0.1:{}:{}\n", ports[0], ports[1]))
            .collect();
        let start = |(index, port): (usize, &u16)| {
            let directory = temporary.path().join(index.to_string());
            Some(start_server(&java, &directory, index + 1, *port, &servers))
        };
        let processes = ports.iter().enumerate().map(start).collect();
        let ensemble = Ensemble {
            ports,
            processes,
            _temporary: temporary,
        };
        ensemble.leader();
        Some(ensemble)
    }

    /// Where clients connect: all servers, and a chroot.
    pub fn connect(&self, chroot: &str) -> String {
        let hosts: Vec<_> = self
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        format!("{}{chroot}", hosts.join(","))
    }

    /// The ports of the servers that run.
    pub fn running(&self) -> Vec<u16> {
        let ports = self.ports.iter().zip(&self.processes);
        ports
            .filter(|(_, process)| process.is_some())
            .map(|(port, _)| *port)
            .collect()
    }

    /// Whether all servers run.
    pub fn is_whole(&self) -> bool {
        self.processes.iter().all(Option::is_some)
    }

    /// Waits until one of the running servers leads and all others follow it; returns its port.
    pub fn leader(&self) -> u16 {
        let deadline = Instant::now() + HANG_GUARD;
        loop {
            let mode = |port: &u16| {
                let answer = four_letter_word(*port, "srvr").ok()?;
                let mode = answer
                    .lines()
                    .find_map(|line| line.strip_prefix("Mode: "))?;
                Some(mode.to_owned())
            };
            let running = self.running();
            let modes: Vec<_> = running.iter().map(mode).collect();
            let leader = modes
                .iter()
                .position(|mode| mode.as_deref() == Some("leader"));
            if let Some(leader) = leader
                && modes.iter().all(Option::is_some)
            {
                return running[leader];
            }
            assert!(Instant::now() < deadline, "there is no leader: {modes:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the leader, and does not wait for the next one.
    pub fn kill_leader(&mut self) {
        let leader = self.leader();
        let index = self.ports.iter().position(|port| *port == leader);
        let process = index.and_then(|index| self.processes[index].take());
        process.expect("the leader runs").kill();
    }
}

fn start_server(java: &Jars, directory: &Path, id: usize, port: u16, servers: &str) -> Process {
    std::fs::create_dir_all(directory).expect("a directory in a temporary one");
    std::fs::write(directory.join("myid"), id.to_string()).expect("a file there");
    let config = directory.join("zoo.cfg");
    let lines = format!(
        "tickTime=1000\ninitLimit=20\nsyncLimit=10\ndataDir={}\nclientPort={port}\n\
         clientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         4lw.commands.whitelist=srvr\n{servers}",
        directory.display()
    );
    std::fs::write(&config, lines).expect("a file there");
    let options = [
        "-Xmx128m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dzookeeper.forceSync=no",
    ];
    let class = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    let mut command = java.command_with(class, &options, "log4j-info.properties");
    command.arg(&config);
    Process::spawn("zookeeper of an ensemble", command)
}
