//! Troupe's coordination service, alone.

use std::path::Path;

use tempfile::TempDir;

use crate::support::process::Process;
use crate::support::server::troupe;

/// A running service.
pub struct Service {
    // Before the directory, so that nothing writes there any more when it is removed.
    pub process: Process,
    pub port: u16,
    _temporary: Option<TempDir>,
}

impl Service {
    /// Starts a service with a directory of its own.
    pub fn start() -> Service {
        let temporary = TempDir::new().expect("a temporary directory");
        let data = format!("dataDir={}", temporary.path().display());
        let started = Self::try_start(None, &[&data, "clientPort=0", "maxClientCnxns=0"]);
        let mut service = started.unwrap_or_else(|said| panic!("{said}"));
        service._temporary = Some(temporary);
        service
    }

    /// Starts a service by a file and settings, or returns what it said instead.
    pub fn try_start(file: Option<&Path>, overrides: &[&str]) -> Result<Service, String> {
        let mut command = troupe();
        command.arg("zookeeper").args(file);
        for setting in overrides {
            command.args(["--override", setting]);
        }
        let process = Process::spawn("troupe zookeeper", command);
        let port = process.wait_for(|stdout, _| {
            stdout.contains("Next: ").then_some(())?;
            let line = stdout.lines().next()?;
            line.rsplit(':').next()?.parse().ok()
        })?;
        Ok(Service {
            process,
            port,
            _temporary: None,
        })
    }

    /// Where a client connects.
    pub fn connect(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
