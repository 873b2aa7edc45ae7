//! A server's first lines, what a second one is told, and how it goes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

fn troupe(data: &Path, port: u16, zookeeper_port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_troupe"));
    command
        .env_clear()
        .arg("--data")
        .arg(data)
        .args(["--port", &port.to_string()]);
    command.args(["--zookeeper-port", &zookeeper_port.to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running server with the lines that it printed when it was ready.
struct Server {
    child: Child,
    lines: Vec<String>,
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut child = troupe(data, 0, 0).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = stdout.lines().take(3).map(Result::unwrap).collect();
        Self { child, lines }
    }

    fn port(&self, line: usize) -> u16 {
        self.lines[line]
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and returns the exit code and the log.
    fn terminate(&mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_server_says_where_it_is_and_stops_cleanly() {
    let directory = TempDir::new().unwrap();
    let mut server = Server::start(directory.path());
    let (port, zookeeper_port) = (server.port(0), server.port(1));
    let data = directory.path().join("logs");
    assert_eq!(
        server.lines,
        [
            format!("Kafka protocol on localhost:{port}"),
            format!("ZooKeeper protocol on localhost:{zookeeper_port}"),
            format!(
                "Data in {}. Next: troupe topics --create --topic demo --bootstrap-server localhost:{port}",
                data.display()
            ),
        ]
    );
    let (code, log) = server.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(data.join(".kafka_cleanshutdown").exists());
}

#[test]
fn a_second_server_is_told_who_has_the_directory_or_the_port() {
    let directory = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    let server = Server::start(directory.path());
    let holder = format!("process {} (troupe)", server.id());
    let same_directory = refusal(&troupe(directory.path(), 0, 0).output().unwrap());
    let expected = format!(
        "troupe: {} is in use by {holder};",
        directory.path().join("logs").display()
    );
    assert!(same_directory.starts_with(&expected), "{same_directory}");
    let same_port = refusal(&troupe(other.path(), server.port(0), 0).output().unwrap());
    assert!(
        same_port.contains(&format!("port {} is held by {holder}", server.port(0))),
        "{same_port}"
    );
    let same_port = refusal(&troupe(other.path(), 0, server.port(1)).output().unwrap());
    assert!(
        same_port.contains(&format!("port {} is held by {holder}", server.port(1))),
        "{same_port}"
    );
}
