//! Gathers values from `server.properties`, the environment and the command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use java_properties::{LineContent, PropertiesError, PropertiesIter};

use super::{BrokerConfig, InvalidConfig, Origin, Values, table};

/// Tells why a configuration could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the file is not `key=value`.
    #[error("{path}, line {line}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// An `--override` is not `key=value`.
    #[error("--override {0}: expected key=value")]
    Override(String),
    /// A value does not fit.
    #[error("{}{error}", .origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default())]
    Invalid {
        /// What was given and what is expected.
        error: InvalidConfig,
        /// Where it was given.
        origin: Option<Origin>,
    },
}

/// Loads a broker's configuration: the command line over the environment over the file over the defaults.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &[String],
) -> Result<BrokerConfig, LoadError> {
    let mut values = Values::default();
    if let Some(path) = file {
        read_file(path, &mut values)?;
    }
    read_environment(environment, &mut values);
    read_overrides(overrides, &mut values)?;
    BrokerConfig::from_values(values)
        .map_err(|(error, origin)| LoadError::Invalid { error, origin })
}

/// Sets what the command line says, as `key=value`; the later wins.
pub(super) fn read_overrides(overrides: &[String], values: &mut Values) -> Result<(), LoadError> {
    for text in overrides {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| LoadError::Override(text.clone()))?;
        values.set(name.trim(), value.trim(), Origin::Override);
    }
    Ok(())
}

/// Sets what a file of the format of Java's `Properties` holds.
pub fn read_file(path: &Path, values: &mut Values) -> Result<(), LoadError> {
    let shared: Arc<Path> = path.into();
    for (line, name, value) in properties_of(path)? {
        let path = Arc::clone(&shared);
        values.set(name, value.trim(), Origin::File { path, line });
    }
    Ok(())
}

/// Reads a file of the format of Java's `Properties`; of a key that is there twice, the last counts.
pub fn read_map(path: &Path) -> Result<BTreeMap<String, String>, LoadError> {
    let properties = properties_of(path)?.into_iter();
    Ok(properties.map(|(_, name, value)| (name, value)).collect())
}

fn properties_of(path: &Path) -> Result<Vec<Property>, LoadError> {
    let content = std::fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&content).map_err(|error| LoadError::Syntax {
        path: path.to_owned(),
        line: error.line,
        message: error.message,
    })
}

/// A line, counted from 1, with its key and value.
pub(crate) type Property = (usize, String, String);

/// Text that is not in the format of Java's `Properties`.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub(crate) struct Malformed {
    line: usize,
    message: String,
}

/// Reads text in the format of Java's `Properties`.
pub(crate) fn parse(content: &[u8]) -> Result<Vec<Property>, Malformed> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    // The blank is nothing in that format. It keeps the crate from taking the text for one with another mark, in which a
    // character that is cut off at the end makes it panic.
    let reader = b" ".chain(content);
    let mut properties = Vec::new();
    for line in PropertiesIter::new(reader) {
        let line = line.map_err(|error| Malformed {
            line: error.line_number().unwrap_or_default(),
            message: description(&error),
        })?;
        let number = line.line_number();
        if let LineContent::KVPair(name, value) = line.consume_content() {
            properties.push((number, name, value));
        }
    }
    Ok(properties)
}

/// Returns what is wrong, without the number of the line, which the crate puts behind.
fn description(error: &PropertiesError) -> String {
    let text = error.to_string();
    let description = text.split(" (line_number").next();
    description.map_or_else(String::new, str::to_owned)
}

/// Variables that belong to Kafka's start scripts and images, not to the broker.
const SCRIPT_VARIABLES: [&str; 24] = [
    "KAFKA_CLUSTER_ID",
    "KAFKA_DEBUG",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_GID",
    "KAFKA_HEAP_OPTS",
    "KAFKA_HOME",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_LOG4J_CMD_OPTS",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_TOOLS_ROOT_LOGLEVEL",
    "KAFKA_MODE",
    "KAFKA_OPTS",
    "KAFKA_PID",
    "KAFKA_SCALA_VERSION",
    "KAFKA_STORAGE_ADDITIONAL_ARGS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_UID",
    "KAFKA_USER",
    "KAFKA_VERSION",
];

/// Takes variables such as `KAFKA_LOG_DIRS` for `log.dirs`, as Kafka's container images do:
/// `_` stands for `.`, `__` for `_`, `___` for `-`. `TROUPE_DATA_DIR` stands for `troupe.data.dir`.
fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    values: &mut Values,
) {
    let variables: BTreeMap<_, _> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    for (variable, value) in variables {
        if is_service_link(&variable, &value) {
            continue;
        }
        if let Some(key) = key_of(&variable) {
            values.set(key, value.trim(), Origin::Environment(variable));
        }
    }
}

/// Recognizes what Kubernetes and Docker links set where a service is called kafka: `KAFKA_PORT=tcp://10.0.0.1:9092`,
/// `KAFKA_SERVICE_HOST`, `KAFKA_PORT_9092_TCP_ADDR`.
fn is_service_link(variable: &str, value: &str) -> bool {
    variable.starts_with("KAFKA_SERVICE_")
        || variable.starts_with("KAFKA_PORT_")
        || (variable == "KAFKA_PORT" && value.contains("://"))
}

fn key_of(variable: &str) -> Option<String> {
    let own = variable.strip_prefix("TROUPE_").map(|_| dotted(variable));
    if let Some(key) = own {
        return table::broker_key(&key).map(|key| key.name.to_owned());
    }
    let rest = variable
        .strip_prefix("KAFKA_")
        .filter(|rest| !rest.is_empty())?;
    if SCRIPT_VARIABLES.contains(&variable) {
        return None;
    }
    // Kafka has one key with a capital letter, and two that begin with its own name.
    let known = |name: String| {
        table::broker_keys()
            .find(|key| key.name.eq_ignore_ascii_case(&name))
            .map(|key| key.name)
    };
    let key = known(dotted(rest)).or_else(|| known(dotted(variable)));
    Some(key.map_or_else(|| dotted(rest), str::to_owned))
}

fn dotted(variable: &str) -> String {
    variable
        .to_ascii_lowercase()
        .replace("___", "-")
        .replace("__", "\u{0}")
        .replace('_', ".")
        .replace('\u{0}', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let file =
            file("# comment\nnum.partitions=1\nnum.io.threads = 2\nnum.network.threads: 3\n");
        let environment =
            environment(&[("KAFKA_NUM_PARTITIONS", "4"), ("KAFKA_NUM_IO_THREADS", "5")]);
        let config = load(
            Some(file.path()),
            environment,
            &["num.partitions=6".to_owned()],
        )
        .unwrap();
        assert_eq!(
            (
                config.num_partitions,
                config.num_io_threads,
                config.num_network_threads
            ),
            (6, 5, 3)
        );
    }

    #[test]
    fn a_bad_value_names_file_line_value_and_what_was_expected() {
        let file = file("\n! another comment\nlog.dirs=/a,\\\n  /b\nnum.partitions=lots\n");
        let error = load(Some(file.path()), environment(&[]), &[]).unwrap_err();
        let expected = format!(
            "{}, line 5: Invalid value lots for configuration num.partitions: Not a number of type INT",
            file.path().display()
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_bad_listener_is_located_too() {
        let file = file("listeners=PLAINTEXT:9092\n");
        let error = load(Some(file.path()), environment(&[]), &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(", line 1: Invalid value PLAINTEXT:9092"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_key_keeps_its_line() {
        let file = file("a=b\nnmu.partitions=3\n");
        let config = load(Some(file.path()), environment(&[]), &[]).unwrap();
        let unknown: Vec<_> = config
            .unknown_keys()
            .map(|(name, origin)| format!("{name} {origin}"))
            .collect();
        let path = file.path().display();
        assert_eq!(
            unknown,
            [
                format!("a {path}, line 1"),
                format!("nmu.partitions {path}, line 2")
            ]
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(
            Some(Path::new("/nowhere/server.properties")),
            environment(&[]),
            &[],
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot read /nowhere/server.properties: "),
            "{error}"
        );
    }

    #[test]
    fn whatever_a_file_holds_is_read_or_refused() {
        let keys = |content: &[u8]| {
            let properties = parse(content).unwrap();
            let keys = properties.into_iter().map(|(line, name, _)| (line, name));
            keys.collect::<Vec<_>>()
        };
        let first = |name: &str| vec![(1, name.to_owned())];
        assert_eq!(keys(b"\xef\xbb\xbfa=b"), first("a"));
        // As Java reads it: byte by byte.
        assert_eq!(keys(b"\xff\xfe=b"), first("\u{ff}\u{fe}"));
        assert_eq!(keys(b"\xef\xbb\xbfa=\xc3"), first("a"));
        assert_eq!(keys(b""), []);
        let error = parse(b"a=b\nc=\\u12\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "line 2: Malformed \\uxxxx encoding: not enough digits."
        );
    }

    #[test]
    fn an_override_needs_an_equals_sign() {
        let error = load(None, environment(&[]), &["num.partitions".to_owned()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--override num.partitions: expected key=value"
        );
    }

    #[test]
    fn variables_of_the_scripts_are_left_alone() {
        assert_eq!(key_of("KAFKA_HEAP_OPTS"), None);
        assert_eq!(key_of("KAFKA_"), None);
        assert_eq!(key_of("PATH"), None);
        assert_eq!(key_of("TROUPE_ANYTHING"), None);
    }

    #[test]
    fn links_to_a_service_called_kafka_are_left_alone() {
        let environment = environment(&[
            ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
            ("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("KAFKA_SERVICE_HOST", "10.0.0.1"),
        ]);
        assert_eq!(
            load(None, environment, &[]).unwrap().values,
            Values::default()
        );
    }

    #[test]
    fn variables_become_keys() {
        let key = |variable| key_of(variable).unwrap();
        assert_eq!(key("KAFKA_LOG_DIRS"), "log.dirs");
        assert_eq!(
            key("KAFKA_ZOOKEEPER_CLIENTCNXNSOCKET"),
            "zookeeper.clientCnxnSocket"
        );
        assert_eq!(
            key("KAFKA_KAFKA_METRICS_REPORTERS"),
            "kafka.metrics.reporters"
        );
        assert_eq!(key("KAFKA_SOME___THING__ELSE"), "some-thing_else");
        assert_eq!(key("TROUPE_DATA_DIR"), "troupe.data.dir");
    }
}
