//! What the admin server's commands answer. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::four_letter::{Settings, VERSION, figures};
use super::super::service::Service;
use super::super::statistics::Statistics;

/// What a command is asked about.
pub struct Subject<'a> {
    /// The service.
    pub service: &'a Service,
    /// Its traffic.
    pub statistics: &'a Statistics,
    /// How it runs.
    pub settings: &'a Settings,
    /// Time since it began, in milliseconds.
    pub uptime_ms: i64,
    /// Whether its store works.
    pub is_serving: bool,
}

type Command = (
    &'static str,
    &'static [&'static str],
    fn(&Subject<'_>) -> Value,
);

/// The commands: name, shorter names, answer.
const COMMANDS: &[Command] = &[
    ("configuration", &["conf", "config"], configuration),
    ("connection_stat_reset", &["crst"], nothing),
    ("connections", &["cons"], connections),
    ("dirs", &[], dirs),
    ("dump", &[], dump),
    ("environment", &["env", "envi"], environment),
    ("is_read_only", &["isro"], is_read_only),
    ("monitor", &["mntr"], monitor),
    ("ruok", &[], nothing),
    ("server_stats", &["srvr"], server_stats),
    ("stat_reset", &["srst"], nothing),
    ("stats", &["stat"], stats),
    ("voting_view", &[], voting_view),
    ("watch_summary", &["wchs"], watch_summary),
    ("watches", &["wchc"], watches),
    ("watches_by_path", &["wchp"], watches_by_path),
];

/// Lists the commands.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name)
}

/// Returns whether a command sets the statistics back.
pub fn resets(name: &str) -> bool {
    ["connection_stat_reset", "crst", "stat_reset", "srst"].contains(&name)
}

/// Answers a command, by any of its names; every answer has its name and an error, null for none.
pub fn answer(name: &str, subject: &Subject<'_>) -> Value {
    let known = COMMANDS
        .iter()
        .find(|(command, others, _)| *command == name || others.contains(&name));
    let (mut answer, command, error) = match known {
        None => (json!({}), name, json!(format!("Unknown command: {name}"))),
        Some((command, ..)) if !subject.is_serving && *command != "ruok" => {
            let error = "This ZooKeeper instance is not currently serving requests";
            (json!({}), *command, json!(error))
        }
        Some((command, _, answer)) => (answer(subject), *command, Value::Null),
    };
    if let Value::Object(fields) = &mut answer {
        fields.insert("command".to_owned(), json!(command));
        fields.insert("error".to_owned(), error);
    }
    answer
}

fn nothing(_: &Subject<'_>) -> Value {
    json!({})
}

fn is_read_only(_: &Subject<'_>) -> Value {
    json!({"read_only": false})
}

fn voting_view(_: &Subject<'_>) -> Value {
    json!({"current_config": {}})
}

fn configuration(subject: &Subject<'_>) -> Value {
    let (settings, range) = (subject.settings, subject.service.sessions().range());
    json!({
        "client_port": settings.client_addr.port(),
        "data_dir": settings.data_dir,
        "data_log_dir": settings.data_dir,
        "tick_time": settings.tick_time_ms,
        "max_client_cnxns": settings.max_client_cnxns,
        "min_session_timeout": range.min_ms,
        "max_session_timeout": range.max_ms,
        "server_id": 0,
        "client_port_listen_backlog": -1,
    })
}

fn connections(subject: &Subject<'_>) -> Value {
    let service = subject.service;
    let connection = |client: &super::super::service::Client| {
        let session = service.sessions().get(client.session);
        json!({
            "remote_socket_address": client.peer.to_string(),
            "outstanding_requests": 0,
            "session_id": client.session,
            "session_timeout": session.map_or(0, |session| session.timeout_ms),
        })
    };
    let connections: Vec<_> = service.clients().values().map(connection).collect();
    json!({"connections": connections, "secure_connections": []})
}

fn dirs(subject: &Subject<'_>) -> Value {
    let size = directory_size(subject);
    json!({"datadir_size": size, "logdir_size": size})
}

fn directory_size(subject: &Subject<'_>) -> u64 {
    let mut left = vec![subject.settings.data_dir.clone()];
    let mut size = 0;
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => left.push(entry.path()),
                Ok(metadata) => size += metadata.len(),
                Err(_) => {}
            }
        }
    }
    size
}

fn dump(subject: &Subject<'_>) -> Value {
    let service = subject.service;
    let mut expiries: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (id, session) in service.sessions().iter() {
        let expiry = session.deadline_ms().to_string();
        expiries.entry(expiry).or_default().push(id);
    }
    let ephemerals = service.tree().ephemerals();
    let ephemerals = ephemerals
        .iter()
        .map(|(session, paths)| (session.to_string(), texts(paths)));
    json!({
        "expiry_time_to_session_ids": expiries,
        "session_id_to_ephemeral_paths": ephemerals.collect::<Map<_, _>>(),
    })
}

fn environment(_: &Subject<'_>) -> Value {
    json!({
        "zookeeper.version": VERSION,
        "os.name": std::env::consts::OS,
        "os.arch": std::env::consts::ARCH,
    })
}

fn monitor(subject: &Subject<'_>) -> Value {
    let (_, mean, _) = subject.statistics.latency_ms();
    let mut answer = Map::new();
    answer.insert("version".to_owned(), json!(VERSION));
    answer.insert("server_state".to_owned(), json!("standalone"));
    answer.insert("avg_latency".to_owned(), json!(mean));
    answer.insert("uptime".to_owned(), json!(subject.uptime_ms));
    for (name, value) in figures(subject.service, subject.statistics) {
        answer.insert(name.to_owned(), json!(value));
    }
    Value::Object(answer)
}

fn server_stats(subject: &Subject<'_>) -> Value {
    let (service, statistics) = (subject.service, subject.statistics);
    let (min, mean, max) = statistics.latency_ms();
    let size = directory_size(subject);
    json!({
        "version": VERSION,
        "read_only": false,
        "server_stats": {
            "packets_sent": statistics.sent,
            "packets_received": statistics.received,
            "data_dir_size": size,
            "log_dir_size": size,
            "last_processed_zxid": service.zxid(),
            "outstanding_requests": 0,
            "server_state": "standalone",
            "avg_latency": mean,
            "max_latency": max,
            "min_latency": min,
            "num_alive_client_connections": service.clients().len(),
            "uptime": subject.uptime_ms,
        },
        "node_count": service.tree().len(),
    })
}

fn stats(subject: &Subject<'_>) -> Value {
    let mut answer = server_stats(subject);
    if let (Value::Object(answer), Value::Object(connections)) = (&mut answer, connections(subject))
    {
        answer.extend(connections);
    }
    answer
}

fn watch_summary(subject: &Subject<'_>) -> Value {
    let watches = subject.service.watches();
    json!({
        "num_connections": watches.by_connection().len(),
        "num_paths": watches.by_path().len(),
        "num_total_watches": watches.len(),
    })
}

fn watches(subject: &Subject<'_>) -> Value {
    let by_connection = subject.service.watches().by_connection();
    let by_session: Map<_, _> = by_connection
        .into_iter()
        .map(|(connection, paths)| (session(subject, connection).to_string(), texts(paths)))
        .collect();
    json!({"session_id_to_watched_paths": by_session})
}

fn watches_by_path(subject: &Subject<'_>) -> Value {
    let mut by_path: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (path, connections) in subject.service.watches().by_path() {
        let sessions = connections
            .iter()
            .map(|&connection| session(subject, connection));
        by_path.entry(text(path)).or_default().extend(sessions);
    }
    json!({"path_to_session_ids": by_path})
}

fn session(subject: &Subject<'_>, connection: u64) -> i64 {
    let client = subject.service.clients().get(&connection);
    client.map_or(0, |client| client.session)
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn texts<'a>(paths: impl IntoIterator<Item = &'a bytes::Bytes>) -> Value {
    paths.into_iter().map(|path| text(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::znode::service::Now;
    use crate::znode::sessions::TimeoutRange;
    use crate::znode::store::Contents;

    fn ask(name: &str, is_serving: bool) -> Value {
        let now = Now {
            wall_ms: 1,
            monotonic_ms: 1,
        };
        let range = TimeoutRange::of_tick(2000);
        let service = Service::restore(&Contents::new(), range, now).unwrap();
        let settings = Settings {
            client_addr: "127.0.0.1:2181".parse().unwrap(),
            data_dir: "/nowhere".into(),
            tick_time_ms: 2000,
            max_client_cnxns: 60,
            four_letter_words: None,
        };
        let subject = Subject {
            service: &service,
            statistics: &Statistics::default(),
            settings: &settings,
            uptime_ms: 7,
            is_serving,
        };
        answer(name, &subject)
    }

    #[test]
    fn every_command_has_its_name_and_no_error() {
        for name in names() {
            let answer = ask(name, true);
            assert_eq!(answer["command"], name);
            assert_eq!(answer["error"], Value::Null);
        }
        assert_eq!(ask("mntr", true), ask("monitor", true));
        assert_eq!(ask("conf", true)["tick_time"], 2000);
    }

    #[test]
    fn what_is_unknown_or_not_served_is_an_error() {
        assert_eq!(
            ask("nonsense", true),
            json!({"command": "nonsense", "error": "Unknown command: nonsense"})
        );
        let error = "This ZooKeeper instance is not currently serving requests";
        assert_eq!(
            ask("srvr", false),
            json!({"command": "server_stats", "error": error})
        );
        assert_eq!(ask("ruok", false)["error"], Value::Null);
    }
}
