//! The scripts of `bin/`, called as those of Apache Kafka are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::process::{HANG_GUARD, Output, Process};
use tempfile::TempDir;

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A script of `bin/`, in the directory that has `bin/` and `config/`, as a handout types it.
fn script(name: &str) -> Command {
    let mut command = Command::new(format!("bin/{name}"));
    command
        .current_dir(home())
        .env("TROUPE", env!("CARGO_BIN_EXE_troupe"));
    command
}

fn run(name: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = script(name);
    command.args(arguments);
    let mut process = Process::spawn(name, command);
    process.feed(input.as_bytes());
    process.finish()
}

/// Returns the port that a line such as `Kafka protocol on localhost:9092` ends with.
fn port(said: &str, line: &str) -> Option<u16> {
    let whole = &said[..said.rfind('\n')?];
    let line = whole.lines().find(|said| said.starts_with(line))?;
    line.rsplit(':').next()?.parse().ok()
}

/// Starts what a `*-server-start.sh` starts with a file of `config/`, and returns its port as well.
fn start(name: &str, file: &str, overrides: &[String], line: &str) -> (Process, u16) {
    let mut command = script(name);
    command.arg(file);
    for pair in overrides {
        command.args(["--override", pair]);
    }
    let process = Process::spawn(name, command);
    let port = process
        .wait_for(|stdout, _| port(stdout, line))
        .unwrap_or_else(|said| panic!("{said}"));
    (process, port)
}

fn start_zookeeper(directory: &Path) -> (Process, u16) {
    let overrides = [
        format!("dataDir={}", directory.join("zookeeper").display()),
        "clientPort=0".to_owned(),
    ];
    start(
        "zookeeper-server-start.sh",
        "config/zookeeper.properties",
        &overrides,
        "ZooKeeper protocol",
    )
}

fn start_broker(directory: &Path, zookeeper_port: u16) -> (Process, u16) {
    start_broker_of("server", directory, zookeeper_port)
}

/// Starts the broker of a file in `config/`, at another port and in another place.
fn start_broker_of(file: &str, directory: &Path, zookeeper_port: u16) -> (Process, u16) {
    let overrides = [
        format!("log.dirs={}", directory.join(file).display()),
        "listeners=PLAINTEXT://:0".to_owned(),
        format!("zookeeper.connect=localhost:{zookeeper_port}"),
        "zookeeper.session.timeout.ms=6000".to_owned(),
    ];
    let file = format!("config/{file}.properties");
    start("kafka-server-start.sh", &file, &overrides, "Kafka protocol")
}

#[test]
fn a_conversation_as_handouts_have_it() {
    let directory = TempDir::new().unwrap();
    let (_zookeeper, zookeeper_port) = start_zookeeper(directory.path());
    let (_broker, port) = start_broker(directory.path(), zookeeper_port);
    let zookeeper = format!("localhost:{zookeeper_port}");
    let broker = format!("localhost:{port}");

    let created = run(
        "kafka-topics.sh",
        &[
            "--create",
            "--zookeeper",
            &zookeeper,
            "--replication-factor",
            "1",
            "--partitions",
            "1",
            "--topic",
            "Hello-Kafka",
        ],
        "",
    );
    assert_eq!(created.succeeded().stdout(), "Created topic Hello-Kafka.\n");
    let listed = run(
        "kafka-topics.sh",
        &["--list", "--zookeeper", &zookeeper],
        "",
    );
    assert_eq!(listed.succeeded().stdout(), "Hello-Kafka\n");
    let produce = ["--broker-list", &broker, "--topic", "Hello-Kafka"];
    run(
        "kafka-console-producer.sh",
        &produce,
        "Hello\nMy first message\n",
    )
    .succeeded();
    let consume = [
        "--zookeeper",
        &zookeeper,
        "--topic",
        "Hello-Kafka",
        "--from-beginning",
        "--max-messages",
        "2",
        "--group",
        "students",
    ];
    let consumed = run("kafka-console-consumer.sh", &consume, "").succeeded();
    assert_eq!(consumed.stdout(), "Hello\nMy first message\n");
    let groups = run(
        "kafka-consumer-groups.sh",
        &["--list", "--bootstrap-server", &broker],
        "",
    );
    assert_eq!(groups.succeeded().stdout(), "students\n");
    let transactions = run(
        "kafka-transactions.sh",
        &["--bootstrap-server", &broker, "list"],
        "",
    );
    transactions.succeeded();
    let ids = run(
        "zookeeper-shell.sh",
        &[&zookeeper, "ls", "/brokers/ids"],
        "",
    )
    .succeeded();
    assert!(ids.stdout().ends_with("[0]\n"), "{}", ids.stdout());
}

/// Returns what stands after a label such as `Leader: ` in the line of the only partition.
fn field<'t>(described: &'t str, label: &str) -> &'t str {
    let partition = described.lines().nth(1).unwrap_or_default();
    let mut fields = partition.split('\t');
    let field = fields.find_map(|field| field.strip_prefix(label));
    field.unwrap_or_else(|| panic!("no {label} in {described}"))
}

#[test]
fn three_brokers_of_which_the_leader_is_killed() {
    let directory = TempDir::new().unwrap();
    let (_zookeeper, zookeeper_port) = start_zookeeper(directory.path());
    let mut brokers: Vec<_> = ["server", "server-one", "server-two"]
        .map(|file| start_broker_of(file, directory.path(), zookeeper_port))
        .into();
    let zookeeper = format!("localhost:{zookeeper_port}");
    let create = [
        "--create",
        "--zookeeper",
        &zookeeper,
        "--topic",
        "Multibrokerapplication",
    ];
    let shape = ["--replication-factor", "3", "--partitions", "1"];
    run("kafka-topics.sh", &[&create[..], &shape].concat(), "").succeeded();
    let describe = || {
        let arguments = ["--describe", "--zookeeper", &zookeeper];
        let named = ["--topic", "Multibrokerapplication"];
        let described = run("kafka-topics.sh", &[&arguments[..], &named].concat(), "");
        described.succeeded().stdout()
    };
    let described = describe();
    assert_eq!(
        field(&described, "Isr: ").split(',').count(),
        3,
        "{described}"
    );
    let say = |port: u16, line: &str| {
        let broker = format!("localhost:{port}");
        let produce = [
            "--broker-list",
            &broker,
            "--topic",
            "Multibrokerapplication",
        ];
        let all = ["--request-required-acks", "-1"];
        run(
            "kafka-console-producer.sh",
            &[&produce[..], &all].concat(),
            line,
        )
        .succeeded();
    };
    say(brokers[0].1, "before\n");

    let leader: usize = field(&described, "Leader: ").parse().unwrap();
    brokers.remove(leader).0.kill();
    let deadline = Instant::now() + HANG_GUARD;
    let followed = loop {
        let now = describe();
        let isr: Vec<_> = field(&now, "Isr: ").split(',').collect();
        if field(&now, "Leader: ") != leader.to_string() && isr.len() == 2 {
            break now;
        }
        assert!(Instant::now() < deadline, "{now}");
    };
    assert_ne!(field(&followed, "Leader: "), "none", "{followed}");
    say(brokers[0].1, "after\n");
    let consume = [
        "--zookeeper",
        &zookeeper,
        "--topic",
        "Multibrokerapplication",
    ];
    let both = ["--from-beginning", "--max-messages", "2"];
    let consumed = run(
        "kafka-console-consumer.sh",
        &[&consume[..], &both].concat(),
        "",
    );
    assert_eq!(consumed.succeeded().stdout(), "before\nafter\n");
}

#[test]
fn a_tool_leaves_with_the_code_of_the_program() {
    let failed = run("kafka-topics.sh", &["--nonsense"], "");
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        failed.stderr().contains("--nonsense"),
        "{}",
        failed.stderr()
    );
}

#[test]
fn without_a_file_the_starters_tell_how_they_are_used() {
    for (name, usage) in [
        (
            "kafka-server-start.sh",
            "USAGE: bin/kafka-server-start.sh [-daemon] server.properties [--override property=value]*\n",
        ),
        (
            "zookeeper-server-start.sh",
            "USAGE: bin/zookeeper-server-start.sh [-daemon] zookeeper.properties\n",
        ),
    ] {
        for arguments in [&[][..], &["-daemon"]] {
            let told = run(name, arguments, "");
            assert_eq!(told.status.code(), Some(1));
            assert_eq!(told.stderr(), usage);
        }
    }
}

#[test]
fn a_program_that_is_not_built_is_said() {
    let directory = TempDir::new().unwrap();
    for name in ["troupe-run.sh", "kafka-topics.sh"] {
        let bin = directory.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy(home().join("bin").join(name), bin.join(name)).unwrap();
    }
    let mut command = Command::new("bin/kafka-topics.sh");
    command
        .arg("--list")
        .current_dir(directory.path())
        .env_remove("TROUPE")
        .env("PATH", "/usr/bin:/bin");
    let told = Process::spawn("kafka-topics.sh", command).finish();
    assert_eq!(told.status.code(), Some(1));
    let expected = format!(
        "troupe is not built yet: run 'cargo build --release' in {}, or name the program in the variable TROUPE\n",
        directory.path().canonicalize().unwrap().display()
    );
    assert_eq!(told.stderr(), expected);
}

/// A directory with a `ps` that sees no other processes than those that have its name in their arguments: whatever else
/// runs on this machine is not to be stopped.
fn narrow_ps(directory: &Path) -> PathBuf {
    let bin = directory.join("narrow");
    std::fs::create_dir(&bin).unwrap();
    let ps = bin.join("ps");
    let text = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin ps \"$@\" | grep -F '{}' | grep -v grep\n",
        directory.display()
    );
    std::fs::write(&ps, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&ps, mode).unwrap();
    bin
}

fn stop(name: &str, directory: &Path) -> Output {
    let path = format!("{}:/usr/bin:/bin", directory.join("narrow").display());
    let mut command = script(name);
    command.env("PATH", path);
    Process::spawn(name, command).finish()
}

#[test]
fn the_stoppers_stop_each_its_own() {
    let directory = TempDir::new().unwrap();
    narrow_ps(directory.path());
    let (mut zookeeper, zookeeper_port) = start_zookeeper(directory.path());
    let (broker, _) = start_broker(directory.path(), zookeeper_port);
    stop("kafka-server-stop.sh", directory.path()).succeeded();
    let ended = broker.finish().succeeded();
    assert!(ended.stderr().contains("stopped"), "{}", ended.stderr());
    assert!(zookeeper.is_running());
    let none = stop("kafka-server-stop.sh", directory.path());
    assert_eq!(none.status.code(), Some(1));
    assert_eq!(none.stdout(), "No kafka server to stop\n");
    stop("zookeeper-server-stop.sh", directory.path()).succeeded();
    zookeeper.finish().succeeded();
    let none = stop("zookeeper-server-stop.sh", directory.path());
    assert_eq!(none.stdout(), "No zookeeper server to stop\n");
}

#[test]
fn a_daemon_goes_on_alone_and_says_what_it_says_in_a_file() {
    let directory = TempDir::new().unwrap();
    narrow_ps(directory.path());
    let logs = directory.path().join("said");
    let mut command = script("zookeeper-server-start.sh");
    command
        .args(["-daemon", "config/zookeeper.properties"])
        .args(["--override", "clientPort=0", "--override"])
        .arg(format!("dataDir={}", directory.path().display()))
        .env("LOG_DIR", &logs);
    Process::spawn("zookeeper-server-start.sh", command)
        .finish()
        .succeeded();
    let said = |wanted: &str| {
        let deadline = Instant::now() + HANG_GUARD;
        loop {
            let said = std::fs::read_to_string(logs.join("zookeeper.out")).unwrap_or_default();
            if said.contains(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{wanted:?} is not in {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    said("Data in ");
    stop("zookeeper-server-stop.sh", directory.path()).succeeded();
    said("stopped");
}
