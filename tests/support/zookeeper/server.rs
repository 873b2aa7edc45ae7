//! Apache ZooKeeper 3.9, standalone.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::java::Jars;
use crate::support::process::{HANG_GUARD, Process};
use crate::support::server::free_port;

/// A running Apache ZooKeeper. It is killed, and its data removed, when this is dropped.
pub struct Apache {
    port: u16,
    jars: Jars,
    options: Vec<String>,
    // Before the directory, so that nothing writes there any more when it is removed.
    process: Option<Process>,
    temporary: TempDir,
}

impl Apache {
    /// Starts a server; without its jars the test is skipped by name.
    ///
    /// Nodes with a time to live are on, as in Troupe.
    pub fn start() -> Option<Apache> {
        Some(Self::start_with(
            &Jars::find("zookeeper-3.9")?,
            &["-Xmx256m", "-XX:+UseSerialGC", "-Dzookeeper.forceSync=no"],
        ))
    }

    /// Starts a server with options of the virtual machine.
    pub fn start_with(jars: &Jars, options: &[&str]) -> Apache {
        let temporary = tempfile::Builder::new()
            .prefix("troupe-test-zookeeper-")
            .tempdir()
            .expect("a temporary directory");
        let mut apache = Apache {
            port: free_port(),
            jars: jars.clone(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            process: None,
            temporary,
        };
        apache.restart();
        apache
    }

    /// Asks the server to end and waits until it has.
    pub fn terminate(&mut self) {
        self.process.take().expect("the server runs").terminate();
    }

    /// Starts the server again after [`Apache::terminate`], on the same port and data.
    pub fn restart(&mut self) {
        let config = write_config(self.temporary.path(), self.port);
        let mut options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        options.push("-Dzookeeper.extendedTypesEnabled=true");
        let class = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
        let mut command = self
            .jars
            .command_with(class, &options, "log4j-info.properties");
        command.arg(&config);
        let process = Process::spawn("zookeeper", command);
        process
            .wait_for(|_, stderr| {
                stderr
                    .contains("PrepRequestProcessor (sid:0) started")
                    .then_some(())
            })
            .unwrap_or_else(|said| panic!("{said}"));
        self.process = Some(process);
        wait_until_serving(self.port);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }
}

/// It begins to serve a little after it says so, and a connection before that can end its only thread for new ones.
fn wait_until_serving(port: u16) {
    let deadline = Instant::now() + HANG_GUARD;
    while !four_letter_word(port, "srvr").is_ok_and(|answer| answer.contains("Mode:")) {
        assert!(Instant::now() < deadline, "ZooKeeper does not serve");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a server answers to a four-letter word.
pub fn four_letter_word(port: u16, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(HANG_GUARD))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    // A server that has had enough may reset the connection.
    let _ = stream.read_to_string(&mut answer);
    Ok(answer)
}

fn write_config(directory: &Path, port: u16) -> PathBuf {
    let config = directory.join("zoo.cfg");
    let lines = format!(
        "tickTime=3000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
         admin.enableServer=false\n4lw.commands.whitelist=*\n",
        directory.display()
    );
    std::fs::write(&config, lines).expect("a file in a temporary directory");
    config
}
