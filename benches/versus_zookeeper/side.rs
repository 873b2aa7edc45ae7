//! One of the two services that are compared.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::measure::{cpu_seconds, memory_mb};
use crate::support::java::Jars;
use crate::support::process::HANG_GUARD;
use crate::support::zookeeper::{Apache, Client, Service};

/// The sides in the order in which they take turns.
pub(crate) const SIDES: [&str; 2] = ["troupe", "zookeeper"];

pub(crate) enum Side {
    Troupe(Troupe),
    Apache(Apache),
}

/// `troupe zookeeper` with a directory that outlives its process.
pub(crate) struct Troupe {
    // Before the directory, so that nothing writes there any more when it is removed.
    service: Option<Service>,
    directory: TempDir,
}

impl Side {
    pub(crate) fn start(name: &str) -> Side {
        Self::start_timed(name).0
    }

    /// Starts a side; returns the seconds until it has granted a session as well.
    pub(crate) fn start_timed(name: &str) -> (Side, f64) {
        let started = Instant::now();
        let side = match name {
            "troupe" => Side::Troupe(Troupe::start()),
            _ => Side::Apache(Apache::start_with(
                &Jars::find("zookeeper-3.9").expect("tests/java/fetch has made the class paths"),
                OPTIONS,
            )),
        };
        wait_for_session(side.port());
        (side, started.elapsed().as_secs_f64())
    }

    /// Ends the side as it ends in operation and starts it again; returns the seconds until it has granted a session.
    pub(crate) fn restart(&mut self) -> f64 {
        match self {
            Side::Troupe(troupe) => troupe.terminate(),
            Side::Apache(apache) => apache.terminate(),
        }
        let started = Instant::now();
        match self {
            Side::Troupe(troupe) => troupe.restart(),
            Side::Apache(apache) => apache.restart(),
        }
        wait_for_session(self.port());
        started.elapsed().as_secs_f64()
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Side::Troupe(_) => SIDES[0],
            Side::Apache(_) => SIDES[1],
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Side::Troupe(troupe) => troupe.service().port,
            Side::Apache(apache) => apache.port(),
        }
    }

    fn id(&self) -> u32 {
        match self {
            Side::Troupe(troupe) => troupe.service().process.id(),
            Side::Apache(apache) => apache.id(),
        }
    }

    /// The CPU time of the process so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.id())
    }

    /// The resident memory of the process, a while after anything happened.
    pub(crate) fn settled_memory_mb(&self) -> f64 {
        std::thread::sleep(Duration::from_secs(3));
        memory_mb(self.id(), "VmRSS")
    }

    /// The most resident memory that the process ever had.
    pub(crate) fn peak_memory_mb(&self) -> f64 {
        memory_mb(self.id(), "VmHWM")
    }
}

impl Troupe {
    fn start() -> Troupe {
        let directory = TempDir::new().expect("a temporary directory");
        let mut troupe = Troupe {
            service: None,
            directory,
        };
        troupe.restart();
        troupe
    }

    fn terminate(&mut self) {
        let service = self.service.take().expect("the service runs");
        service.process.terminate().succeeded();
    }

    fn restart(&mut self) {
        let data = format!("dataDir={}", self.directory.path().display());
        let settings = [&data, "clientPort=0", "maxClientCnxns=0"];
        let started = Service::try_start(None, &settings);
        self.service = Some(started.unwrap_or_else(|said| panic!("{said}")));
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("the service runs")
    }
}

/// The heap of ZooKeeper's own start script.
const OPTIONS: &[&str] = &["-Xmx1000m"];

fn wait_for_session(port: u16) {
    let deadline = Instant::now() + HANG_GUARD;
    while Client::try_connect(port, 30_000).is_err() {
        assert!(Instant::now() < deadline, "no session");
        std::thread::sleep(Duration::from_millis(1));
    }
}
