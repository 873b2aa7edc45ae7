//! A broker in a process of its own: Troupe, or Apache Kafka to prove a test by.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use rustix::process::Signal;
use tempfile::TempDir;

use super::beside::Beside;
use super::java::{Kafka, Release};
use super::process::{HANG_GUARD, Output, Process};
use super::wire::Wire;

/// Which broker the tests run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The binary of this package.
    Troupe,
    /// Apache Kafka 3.9.1 in ZooKeeper mode, with Apache ZooKeeper beside it.
    Kafka,
}

impl Kind {
    /// Reads `TROUPE_TEST_SERVER`.
    pub fn from_environment() -> Kind {
        match std::env::var("TROUPE_TEST_SERVER").as_deref() {
            Err(_) | Ok("troupe") => Kind::Troupe,
            Ok("kafka-3.9") => Kind::Kafka,
            Ok(other) => panic!("TROUPE_TEST_SERVER={other}: it is troupe or kafka-3.9"),
        }
    }
}

/// How a server is to be started.
#[derive(Clone, Default)]
pub struct Options {
    kind: Option<Kind>,
    production: bool,
    properties: BTreeMap<String, String>,
    directory: Option<PathBuf>,
}

impl Options {
    /// Sets a property of `server.properties`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Options {
        self.properties.insert(key.to_owned(), value.to_string());
        self
    }

    /// Starts this broker whatever `TROUPE_TEST_SERVER` says.
    pub fn kind(mut self, kind: Kind) -> Options {
        self.kind = Some(kind);
        self
    }

    /// Gives Apache Kafka and ZooKeeper the virtual machine options of their own start scripts, and not those of a
    /// small test.
    pub fn production(mut self) -> Options {
        self.production = true;
        self
    }

    /// Keeps the data in `directory` and not in one that goes with the server.
    pub fn directory(mut self, directory: &Path) -> Options {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Starts a server that must come up.
    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|said| panic!("{said}"))
    }

    /// Starts a server, or returns what it said instead of coming up.
    pub fn try_start(self) -> Result<Server, String> {
        let temporary = tempfile::Builder::new()
            .prefix("troupe-test-")
            .tempdir()
            .expect("a temporary directory");
        let directory = self
            .directory
            .clone()
            .unwrap_or_else(|| temporary.path().to_owned());
        let kind = self.kind.unwrap_or_else(Kind::from_environment);
        let (port, zookeeper_port) = match kind {
            Kind::Troupe => (0, 0),
            Kind::Kafka => (free_port(), free_port()),
        };
        let beside = match kind {
            Kind::Troupe if !self.properties.contains_key("zookeeper.connect") => {
                Beside::from_environment()
            }
            _ => Beside::Nothing,
        };
        let mut server = Server {
            kind,
            production: self.production,
            properties: self.properties,
            directory,
            port,
            zookeeper_port,
            process: None,
            zookeeper: None,
            beside,
            _temporary: temporary,
        };
        server.try_start()?;
        Ok(server)
    }
}

/// A running broker. It is killed, and its data removed, when this is dropped.
pub struct Server {
    kind: Kind,
    production: bool,
    properties: BTreeMap<String, String>,
    directory: PathBuf,
    port: u16,
    zookeeper_port: u16,
    // Before the directory, so that nothing writes there any more when it is removed.
    process: Option<Process>,
    zookeeper: Option<Process>,
    beside: Beside,
    _temporary: TempDir,
}

impl Server {
    /// Starts a server with Kafka's defaults.
    pub fn start() -> Server {
        Options::default().start()
    }

    /// Describes a server that differs from the defaults.
    pub fn with() -> Options {
        Options::default()
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn zookeeper_port(&self) -> u16 {
        self.beside.port().unwrap_or(self.zookeeper_port)
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process id of the broker.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// The process ids of the broker and of all that it needs beside it.
    pub fn process_ids(&self) -> Vec<u32> {
        self.process
            .iter()
            .chain(&self.zookeeper)
            .map(Process::id)
            .collect()
    }

    /// Returns whether the server advertises an API.
    pub fn advertises(&self, api_key: i16) -> bool {
        let response = Wire::connect(self).call(0, &ApiVersionsRequest::default());
        response.api_keys.iter().any(|api| api.api_key == api_key)
    }

    /// Everything that the server wrote to its standard output and error since it started.
    pub fn said(&self) -> String {
        self.process.as_ref().map(Process::said).unwrap_or_default()
    }

    /// Waits until the broker has said `text`.
    #[track_caller]
    pub fn wait_until_said(&self, text: &str) {
        let process = self.process.as_ref().expect("the server runs");
        let said = process.wait_for(|stdout, stderr| {
            (stdout.contains(text) || stderr.contains(text)).then_some(())
        });
        said.unwrap_or_else(|said| panic!("{text:?} is not in what it said: {said}"));
    }

    /// Where the partition directories are: the directory with `meta.properties`.
    pub fn log_directory(&self) -> PathBuf {
        find_log_directory(&self.directory)
            .expect("a started server has meta.properties in its log directory")
    }

    /// The directory of one partition.
    pub fn partition_directory(&self, topic: &str, partition: i32) -> PathBuf {
        self.log_directory().join(format!("{topic}-{partition}"))
    }

    /// The directory this server was given.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A figure in kB of `/proc/PID/status`, such as `VmRSS` or `VmHWM`.
    pub fn memory_kb(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))
            .expect("a Linux process");
        let line = status
            .lines()
            .find(|line| line.starts_with(figure))
            .expect("this figure is in the status");
        line.split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .expect("a number of kB")
    }

    /// Ends the broker at once, as `kill -9` does.
    pub fn kill(&mut self) -> Output {
        self.process.take().expect("the server runs").kill()
    }

    /// Asks the broker to shut down and waits until it has.
    pub fn terminate(&mut self) -> Output {
        self.process.take().expect("the server runs").terminate()
    }

    /// Sends the broker a signal that ends it, and waits until it has.
    pub fn signal(&mut self, signal: Signal) -> Output {
        let process = self.process.take().expect("the server runs");
        process.signal(signal);
        process.finish()
    }

    /// Starts the broker again after [`Server::kill`] or [`Server::terminate`], on the same ports and data.
    pub fn restart(&mut self) {
        let deadline = Instant::now() + HANG_GUARD;
        while let Err(said) = self.try_start() {
            // Kafka does not take over its own registration while its earlier session lives.
            let session_lives = self.kind == Kind::Kafka && said.contains("NodeExistsException");
            assert!(session_lives && Instant::now() < deadline, "{said}");
        }
    }

    /// Sets a property for the next start.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        self.properties.insert(key.to_owned(), value.to_string());
    }

    /// Returns whether the broker still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    fn try_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "the server runs already");
        match self.kind {
            Kind::Troupe => self.start_troupe(),
            Kind::Kafka => self.start_kafka(),
        }
    }

    fn start_troupe(&mut self) -> Result<(), String> {
        let mut command = troupe();
        command.arg("server").arg("--data").arg(&self.directory);
        command.args(["--port", &self.port.to_string()]);
        command.args(["--zookeeper-port", &self.zookeeper_port.to_string()]);
        let beside = self.beside.connect();
        if let Some(connect) = &beside {
            // The number that it takes where it coordinates itself.
            command.args(["--override", "broker.id=0"]);
            let connect = format!("zookeeper.connect={connect}");
            command.args(["--override", &connect]);
        }
        for (key, value) in &self.properties {
            command.arg("--override").arg(format!("{key}={value}"));
        }
        let process = Process::spawn("troupe", command);
        let embedded = beside.is_none() && !self.properties.contains_key("zookeeper.connect");
        (self.port, self.zookeeper_port) =
            process.wait_for(|stdout, _| announced_ports(stdout, embedded))?;
        self.process = Some(process);
        self.beside.disturb();
        Ok(())
    }

    fn start_kafka(&mut self) -> Result<(), String> {
        let kafka = Kafka::find(Release::V3_9)
            .ok_or("Apache Kafka needs the class path that ./test makes")?;
        if self.zookeeper.is_none() {
            self.zookeeper = Some(self.start_zookeeper(&kafka)?);
        }
        let properties = self.directory.join("server.properties");
        let mut lines = format!(
            "broker.id=0\nlisteners=PLAINTEXT://127.0.0.1:{}\nlog.dirs={}\nzookeeper.connect=127.0.0.1:{}\n\
             zookeeper.connection.timeout.ms=18000\nzookeeper.session.timeout.ms=6000\noffsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n",
            self.port,
            self.directory.join("logs").display(),
            self.zookeeper_port
        );
        for (key, value) in &self.properties {
            lines.push_str(&format!("{key}={value}\n"));
        }
        std::fs::write(&properties, lines).unwrap();
        let options = self.virtual_machine(&["-Xmx1G", "-Xms1G"], "-Xmx512m");
        let mut command = kafka.command_with("kafka.Kafka", &options, "log4j-info.properties");
        command.arg(&properties);
        let process = Process::spawn("kafka", command);
        process.wait_for(|_, stderr| {
            stderr
                .contains("started (kafka.server.KafkaServer)")
                .then_some(())
        })?;
        self.process = Some(process);
        self.wait_for_metadata();
        Ok(())
    }

    /// Waits until Apache Kafka's broker knows its controller and leads its partitions: it says that it has started
    /// before that, and librdkafka's admin client, once told that there is no controller, does not ask again for
    /// minutes.
    fn wait_for_metadata(&self) {
        let has_partitions = std::fs::read_dir(self.log_directory())
            .unwrap()
            .flatten()
            .any(|entry| entry.path().is_dir());
        let deadline = Instant::now() + HANG_GUARD;
        let mut wire = Wire::connect(self);
        loop {
            let metadata = wire.call(9, &MetadataRequest::default().with_topics(None));
            let led = metadata
                .topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .all(|partition| partition.leader_id.0 >= 0);
            if metadata.controller_id.0 >= 0 && led && metadata.topics.is_empty() != has_partitions
            {
                return;
            }
            assert!(Instant::now() < deadline, "Kafka has no metadata");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The options of kafka-run-class.sh with the heap that a start script sets, or those of a small test.
    fn virtual_machine<'a>(&self, heap: &[&'a str], small_heap: &'a str) -> Vec<&'a str> {
        let collector = [
            "-server",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35",
            "-XX:+ExplicitGCInvokesConcurrent",
            "-XX:MaxInlineLevel=15",
            "-Djava.awt.headless=true",
        ];
        if self.production {
            [heap, &collector].concat()
        } else {
            vec![small_heap, "-XX:+UseSerialGC"]
        }
    }

    fn start_zookeeper(&self, kafka: &Kafka) -> Result<Process, String> {
        let directory = self.directory.join("zookeeper");
        std::fs::create_dir_all(&directory).unwrap();
        let config = directory.join("zoo.cfg");
        let lines = format!(
            "tickTime=2000\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             admin.enableServer=false\n",
            directory.display(),
            self.zookeeper_port
        );
        std::fs::write(&config, lines).unwrap();
        let class = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
        let options = self.virtual_machine(&["-Xmx512M", "-Xms512M"], "-Xmx128m");
        let mut command = kafka.command_with(class, &options, "log4j-info.properties");
        command.arg(&config);
        let process = Process::spawn("zookeeper", command);
        process.wait_for(|_, stderr| stderr.contains("binding to port").then_some(()))?;
        Ok(process)
    }
}

/// The `troupe` binary of this build.
pub fn troupe() -> Command {
    Command::new(env!("CARGO_BIN_EXE_troupe"))
}

/// Reads the ports of the Kafka and ZooKeeper listeners off the lines that the server prints when it is ready. A server
/// that does not embed its ZooKeeper has 0 for the second.
pub fn announced_ports(stdout: &str, embedded: bool) -> Option<(u16, u16)> {
    // A line without its end may lack the last digits of the port.
    let whole = &stdout[..=stdout.rfind('\n')?];
    let port = announced_port(whole, "kafka protocol")?;
    Some(match embedded {
        true => (port, announced_port(whole, "zookeeper protocol")?),
        false => (port, 0),
    })
}

fn announced_port(stdout: &str, label: &str) -> Option<u16> {
    let line = stdout
        .lines()
        .find(|line| line.to_lowercase().contains(label))?;
    let (_, after) = line.rsplit_once(':')?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn find_log_directory(directory: &Path) -> Option<PathBuf> {
    if directory.join("meta.properties").exists() {
        return Some(directory.to_owned());
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    entries
        .iter()
        .filter(|path| path.is_dir())
        .find_map(|path| find_log_directory(path))
}

/// A port that was free a moment ago: for servers that cannot be asked to take one themselves.
pub fn free_port() -> u16 {
    free_ports(1)[0]
}

/// As [`free_port`], several that differ.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    // Bound all at once: one that is free again may come a second time.
    let listeners: Vec<TcpListener> = listeners.collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
    listeners.iter().map(port).collect()
}
