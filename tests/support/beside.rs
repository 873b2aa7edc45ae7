//! What coordinates a broker under test, if not the broker itself.

use std::sync::Mutex;

use super::zookeeper::{Apache, Ensemble};

/// Apache ZooKeeper beside one broker.
pub enum Beside {
    /// Nothing: the broker runs its own service.
    Nothing,
    /// One server.
    Apache(Apache),
    /// Three servers, of which the leader is killed when the broker has started.
    Ensemble(Mutex<Ensemble>),
}

impl Beside {
    /// Reads `TROUPE_TEST_ZOOKEEPER`, and starts what it names.
    pub fn from_environment() -> Beside {
        let jars = "TROUPE_TEST_ZOOKEEPER needs the class path that ./test makes";
        match std::env::var("TROUPE_TEST_ZOOKEEPER").as_deref() {
            Err(_) | Ok("embedded") => Beside::Nothing,
            Ok("apache") => Beside::Apache(Apache::start().expect(jars)),
            Ok("ensemble") => Beside::Ensemble(Mutex::new(Ensemble::start().expect(jars))),
            Ok(other) => {
                panic!("TROUPE_TEST_ZOOKEEPER={other}: it is embedded, apache or ensemble")
            }
        }
    }

    /// Where the broker finds it.
    pub fn connect(&self) -> Option<String> {
        match self {
            Beside::Nothing => None,
            Beside::Apache(apache) => Some(format!("127.0.0.1:{}", apache.port())),
            Beside::Ensemble(ensemble) => Some(ensemble.lock().unwrap().connect("")),
        }
    }

    /// A port for ZooKeeper's clients.
    pub fn port(&self) -> Option<u16> {
        match self {
            Beside::Nothing => None,
            Beside::Apache(apache) => Some(apache.port()),
            Beside::Ensemble(ensemble) => ensemble.lock().unwrap().running().first().copied(),
        }
    }

    /// Takes the leader away, once, and waits for the next one.
    pub fn disturb(&self) {
        if let Beside::Ensemble(ensemble) = self {
            let mut ensemble = ensemble.lock().unwrap();
            if ensemble.is_whole() {
                ensemble.kill_leader();
                ensemble.leader();
            }
        }
    }
}
