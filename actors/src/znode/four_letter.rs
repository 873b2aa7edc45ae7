//! The texts that answer four-letter words.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use troupe_protocol::zookeeper::four_letter::Word;

use super::service::Service;
use super::statistics::Statistics;

/// The version that monitors and tools are told: that of the ZooKeeper whose behaviour this is.
pub(super) const VERSION: &str = "3.9.3-troupe";
/// What is answered when the store has failed.
pub const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// What `conf` tells.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect.
    pub client_addr: SocketAddr,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// The tick, in milliseconds.
    pub tick_time_ms: i32,
    /// Connections per address, 0 for any number.
    pub max_client_cnxns: usize,
    /// The words that are answered; all without a list.
    pub four_letter_words: Option<Vec<String>>,
}

impl Settings {
    /// Returns whether a word is answered.
    pub(super) fn allows(&self, word: Word) -> bool {
        let name = name(word);
        self.four_letter_words
            .as_ref()
            .is_none_or(|words| words.contains(&name))
    }
}

fn name(word: Word) -> String {
    format!("{word:?}").to_ascii_lowercase()
}

/// Answers a word.
pub fn answer(
    word: Word,
    service: &Service,
    statistics: &Statistics,
    settings: &Settings,
) -> String {
    if !settings.allows(word) {
        let name = name(word);
        return format!("{name} is not executed because it is not in the whitelist.\n");
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match word {
        Word::Ruok => write!(text, "imok"),
        Word::Isro => write!(text, "rw"),
        Word::Srvr => version(&mut text).and_then(|()| server(&mut text, service, statistics)),
        Word::Stat => version(&mut text)
            .and_then(|()| clients(&mut text, service))
            .and_then(|()| server(&mut text, service, statistics)),
        Word::Mntr => monitor(&mut text, service, statistics),
        Word::Conf => conf(&mut text, service, settings),
        Word::Cons => connections(&mut text, service),
        Word::Dump => dump(&mut text, service),
        Word::Envi => envi(&mut text),
        Word::Wchs => watch_summary(&mut text, service),
        Word::Wchc => watches_by_session(&mut text, service),
        Word::Wchp => watches_by_path(&mut text, service),
        Word::Crst => writeln!(text, "Connection stats reset."),
        Word::Srst => writeln!(text, "Server stats reset."),
    };
    text
}

fn version(text: &mut String) -> std::fmt::Result {
    writeln!(text, "Zookeeper version: {VERSION}")
}

fn server(text: &mut String, service: &Service, statistics: &Statistics) -> std::fmt::Result {
    let (min, mean, max) = statistics.latency_ms();
    writeln!(text, "Latency min/avg/max: {min}/{mean:.4}/{max}")?;
    writeln!(text, "Received: {}", statistics.received)?;
    writeln!(text, "Sent: {}", statistics.sent)?;
    writeln!(text, "Connections: {}", service.clients().len())?;
    writeln!(text, "Outstanding: 0")?;
    writeln!(text, "Zxid: 0x{:x}", service.zxid())?;
    writeln!(text, "Mode: standalone")?;
    writeln!(text, "Node count: {}", service.tree().len())
}

fn clients(text: &mut String, service: &Service) -> std::fmt::Result {
    writeln!(text, "Clients:")?;
    for client in service.clients().values() {
        writeln!(text, " /{}[1](queued=0,recved=0,sent=0)", client.peer)?;
    }
    writeln!(text)
}

fn connections(text: &mut String, service: &Service) -> std::fmt::Result {
    for client in service.clients().values() {
        let timeout_ms = service
            .sessions()
            .get(client.session)
            .map_or(0, |session| session.timeout_ms);
        writeln!(
            text,
            " /{}[1](queued=0,recved=0,sent=0,sid=0x{:x},to={timeout_ms})",
            client.peer, client.session
        )?;
    }
    writeln!(text)
}

fn monitor(text: &mut String, service: &Service, statistics: &Statistics) -> std::fmt::Result {
    let (_, mean, _) = statistics.latency_ms();
    writeln!(text, "zk_version\t{VERSION}")?;
    writeln!(text, "zk_server_state\tstandalone")?;
    writeln!(text, "zk_avg_latency\t{mean:.4}")?;
    for (key, value) in figures(service, statistics) {
        writeln!(text, "zk_{key}\t{value}")?;
    }
    Ok(())
}

/// Lists what monitors follow, by ZooKeeper's names.
pub(super) fn figures(
    service: &Service,
    statistics: &Statistics,
) -> impl Iterator<Item = (&'static str, u64)> {
    let (min, _, max) = statistics.latency_ms();
    let tree = service.tree();
    let ephemerals: usize = tree.ephemerals().values().map(|paths| paths.len()).sum();
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    [
        ("max_latency", max),
        ("min_latency", min),
        ("packets_received", statistics.received),
        ("packets_sent", statistics.sent),
        ("num_alive_connections", service.clients().len() as u64),
        ("outstanding_requests", 0),
        ("znode_count", tree.len() as u64),
        ("watch_count", service.watches().len() as u64),
        ("ephemerals_count", ephemerals as u64),
        ("approximate_data_size", tree.data_bytes() as u64),
        ("global_sessions", service.sessions().iter().count() as u64),
        ("open_file_descriptor_count", files as u64),
        ("max_file_descriptor_count", limit.unwrap_or(u64::MAX)),
    ]
    .into_iter()
}

fn conf(text: &mut String, service: &Service, settings: &Settings) -> std::fmt::Result {
    let range = service.sessions().range();
    writeln!(text, "clientPort={}", settings.client_addr.port())?;
    writeln!(text, "dataDir={}", settings.data_dir.display())?;
    writeln!(text, "dataLogDir={}", settings.data_dir.display())?;
    writeln!(text, "tickTime={}", settings.tick_time_ms)?;
    writeln!(text, "maxClientCnxns={}", settings.max_client_cnxns)?;
    writeln!(text, "minSessionTimeout={}", range.min_ms)?;
    writeln!(text, "maxSessionTimeout={}", range.max_ms)?;
    writeln!(text, "serverId=0")
}

fn envi(text: &mut String) -> std::fmt::Result {
    writeln!(text, "Environment:")?;
    writeln!(text, "zookeeper.version={VERSION}")?;
    writeln!(text, "os.name={}", std::env::consts::OS)?;
    writeln!(text, "os.arch={}", std::env::consts::ARCH)
}

fn dump(text: &mut String, service: &Service) -> std::fmt::Result {
    let tree = service.tree();
    writeln!(text, "SessionTracker dump:")?;
    for (id, session) in service.sessions().iter() {
        writeln!(text, "\t0x{id:x}\t{}ms", session.timeout_ms)?;
    }
    writeln!(
        text,
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):",
        tree.ephemerals().len()
    )?;
    for (session, paths) in tree.ephemerals() {
        writeln!(text, "0x{session:x}:")?;
        for path in paths {
            writeln!(text, "\t{}", String::from_utf8_lossy(path))?;
        }
    }
    Ok(())
}

fn watch_summary(text: &mut String, service: &Service) -> std::fmt::Result {
    let watches = service.watches();
    writeln!(
        text,
        "{} connections watching {} paths\nTotal watches:{}",
        watches.by_connection().len(),
        watches.by_path().len(),
        watches.len()
    )
}

fn watches_by_session(text: &mut String, service: &Service) -> std::fmt::Result {
    for (connection, paths) in service.watches().by_connection() {
        let session = service.clients().get(&connection);
        writeln!(text, "0x{:x}", session.map_or(0, |client| client.session))?;
        for path in paths {
            writeln!(text, "\t{}", String::from_utf8_lossy(path))?;
        }
    }
    // As in ZooKeeper, which ends these two with an empty line.
    writeln!(text)
}

fn watches_by_path(text: &mut String, service: &Service) -> std::fmt::Result {
    for (path, connections) in service.watches().by_path() {
        writeln!(text, "{}", String::from_utf8_lossy(path))?;
        for connection in connections {
            let session = service.clients().get(connection);
            writeln!(text, "\t0x{:x}", session.map_or(0, |client| client.session))?;
        }
    }
    // As in ZooKeeper, which ends these two with an empty line.
    writeln!(text)
}
