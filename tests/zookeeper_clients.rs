//! Clients of ZooKeeper that we did not write, against the embedded service: Apache's shells of two ages, kazoo, Curator,
//! the `zookeeper-client` crate, and Kafka's topic tool of 2015.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use rdkafka::producer::BaseRecord;
use support::clients::{Producer, read_whole};
use support::java::Jars;
use support::process::{HANG_GUARD, Output, Process};
use support::python;
use support::server::{Kind, Server};
use support::wire::Wire;
use support::zookeeper::{Apache, Client, Op};

const SHELL: &str = "org.apache.zookeeper.ZooKeeperMain";

/// Commands that both ages of the shell know.
const COMMON: &str = "\
create /cli one
create /cli/child two
create -s /cli/seq- x
create -e /cli/mine x
create -s -e /cli/mine- x
create /cli/child again
create /none/child x
get /cli
get /cli/none
set /cli three
set /cli/none x
stat /cli
stat /cli/none
ls /cli
ls /none
getAcl /cli
setAcl /cli/seq-0000000001 world:anyone:r
set /cli/seq-0000000001 refused
addauth digest owner:secret
setAcl /cli/child auth:owner:secret:crdwa
getAcl /cli/child
sync /cli
delete /cli
delete /cli/mine
delete /cli/none
delete /zookeeper
";

/// Commands of today.
const TODAY: &str = "\
get -s /cli/child
set -s /cli/child four
set -v 9 /cli/child five
ls -s /cli
ls -R /cli
create -c /cli/container
create -t 90000000 /cli/ttl
create /cli/container/inside x
get -w /cli/child
set /cli/child watched
ls -w /cli
create /cli/another
stat -w /cli/another
delete /cli/another
addWatch -m PERSISTENT_RECURSIVE /cli
create /cli/deep
create /cli/deep/er
delete /cli/deep/er
removewatches /cli
getEphemerals /cli
getEphemerals
getAllChildrenNumber /cli
delete -v 7 /cli/deep
config
deleteall /cli
ls /cli
quit
";

/// Commands of the shell that Kafka 0.8.2.1 has.
const OF_2014: &str = "\
ls2 /cli
get /cli/child watch
set /cli/child watched
ls /cli watch
create /cli/another x
rmr /cli
ls /cli
quit
";

#[test]
fn the_shell_of_today_says_the_same_as_beside_apache_zookeeper() {
    let Some(jars) = Jars::find("zookeeper-3.9") else {
        return;
    };
    let said = compare_shells(&jars, &[COMMON, TODAY].concat());
    for expected in [
        "Created /cli/seq-0000000001",
        "Node already exists: /cli/child",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}

#[test]
fn the_shell_of_2014_says_the_same_as_beside_apache_zookeeper() {
    let Some(jars) = Jars::find("kafka-0.8") else {
        return;
    };
    // With jline it echoes what it reads, in pieces, between which its other threads write.
    let said = compare_shells(&jars.without("jline"), &[COMMON, OF_2014].concat());
    assert!(said.contains("Created /cli/seq-0000000001"), "{said}");
}

/// Runs a shell on Troupe and on Apache ZooKeeper; returns what it said on both.
fn compare_shells(jars: &Jars, commands: &str) -> String {
    let Some(apache) = Apache::start() else {
        return String::new();
    };
    let troupe = troupe();
    let run = |port: u16| {
        let server = format!("127.0.0.1:{port}");
        let output = jars.run_with_input(SHELL, &["-server", &server], commands.as_bytes());
        Transcript::of(&output, port)
    };
    let (ours, theirs) = (run(troupe.zookeeper_port()), run(apache.port()));
    for (ours, theirs) in [
        (&ours.said, &theirs.said),
        (&ours.complaints, &theirs.complaints),
        (&ours.events, &theirs.events),
    ] {
        let (ours, theirs) = (ours.join("\n"), theirs.join("\n"));
        assert!(
            ours == theirs,
            "troupe says\n{ours}\n\nzookeeper says\n{theirs}"
        );
    }
    ours.said.join("\n") + &ours.complaints.join("\n")
}

/// How the lines begin that a shell writes when they come, also between two lines of an answer.
const FROM_ANOTHER_THREAD: [&str; 3] = ["WATCHER", "WatchedEvent", "Sync returned"];

/// What a shell wrote, without times and numbers of transactions.
#[derive(Debug)]
struct Transcript {
    said: Vec<String>,
    complaints: Vec<String>,
    /// From another thread, so at no certain place among the rest.
    events: Vec<String>,
}

impl Transcript {
    fn of(output: &Output, port: u16) -> Transcript {
        let (events, said): (Vec<_>, Vec<_>) = lines(&output.stdout(), port)
            .into_iter()
            .partition(|line| FROM_ANOTHER_THREAD.iter().any(|it| line.starts_with(it)));
        Transcript {
            said,
            complaints: lines(&output.stderr(), port),
            events,
        }
    }
}

fn lines(text: &str, port: u16) -> Vec<String> {
    const CHANGING: [&str; 5] = ["cZxid", "ctime", "mZxid", "mtime", "pZxid"];
    text.replace(&format!(":{port}"), ":PORT")
        .lines()
        // Log lines begin with their time.
        .filter(|line| !line.is_empty() && !line.starts_with('['))
        .map(|line| {
            let name = line.split(" = ").next().unwrap_or(line);
            let line = line.split(" zxid: ").next().unwrap_or(line);
            if CHANGING.contains(&name) {
                name.to_owned()
            } else if let Some((before, _)) = line.split_once("ephemeralOwner = 0x1") {
                format!("{before}ephemeralOwner = its own")
            } else {
                line.to_owned()
            }
        })
        .collect()
}

fn troupe() -> Server {
    Server::with().kind(Kind::Troupe).start()
}

#[test]
fn the_recipes_of_kazoo_hold() {
    let Some(mut command) = python::program("zookeeper_recipes.py") else {
        return;
    };
    let server = troupe();
    command.arg(format!("127.0.0.1:{}", server.zookeeper_port()));
    let said = Process::spawn("kazoo", command).finish().succeeded();
    assert_eq!(said.stdout().matches("ok ").count(), 12, "{}", said.text());
}

#[test]
fn the_recipes_of_curator_hold() {
    let Some(jars) = Jars::find("zookeeper-3.9") else {
        return;
    };
    let server = troupe();
    let mut command = jars.program("CuratorRecipes.java");
    command.arg(format!("127.0.0.1:{}", server.zookeeper_port()));
    let said = Process::spawn("curator", command).finish().succeeded();
    assert_eq!(said.stdout().matches("ok ").count(), 12, "{}", said.text());
}

#[test]
fn the_crate_locks_watches_and_keeps_its_session() {
    use zookeeper_client::{Acls, AddWatchMode, CreateMode, EventType, LockOptions, LockPrefix};
    let server = troupe();
    let address = format!("127.0.0.1:{}", server.zookeeper_port());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let one = zookeeper_client::Client::connect(&address).await.unwrap();
        let two = zookeeper_client::Client::connect(&address).await.unwrap();
        let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
        one.mkdir("/crate/locks", &open).await.unwrap();
        let mut watcher = two
            .watch("/crate", AddWatchMode::PersistentRecursive)
            .await
            .unwrap();
        one.create("/crate/node", b"x", &open).await.unwrap();
        let event = watcher.changed().await;
        assert_eq!(
            (event.event_type, event.path.as_str()),
            (EventType::NodeCreated, "/crate/node")
        );
        let options = LockOptions::new(Acls::anyone_all());
        let prefix = || LockPrefix::new_curator("/crate/locks", "lock-").unwrap();
        let held = one.lock(prefix(), b"one", options.clone()).await.unwrap();
        let waiting = tokio::spawn(async move {
            let prefix = LockPrefix::new_curator("/crate/locks", "lock-").unwrap();
            let lock = two.lock(prefix, b"two", options).await.unwrap();
            lock.set_data("/crate/node", b"two", None).await.unwrap();
            two.clone()
        });
        held.set_data("/crate/node", b"one", None).await.unwrap();
        drop(held);
        let two = waiting.await.unwrap();
        assert_eq!(two.get_data("/crate/node").await.unwrap().0, b"two");
        let mut multi = two.new_multi_writer();
        multi.add_check_version("/crate/node", 2).unwrap();
        multi.add_delete("/crate/node", None).unwrap();
        multi.commit().await.unwrap();
        assert_eq!(one.check_stat("/crate/node").await.unwrap(), None);
    });
}

#[test]
fn topics_of_the_tool_of_2015_are_served_and_keep_their_ids() {
    let Some(jars) = Jars::find("kafka-0.8") else {
        return;
    };
    let server = troupe();
    let zookeeper = format!("localhost:{}", server.zookeeper_port());
    let tool = |arguments: &[&str]| {
        let arguments = [&["--zookeeper", &zookeeper], arguments].concat();
        jars.run("kafka.admin.TopicCommand", &arguments)
            .succeeded()
            .stdout()
    };
    let said = tool(&[
        "--create",
        "--topic",
        "old",
        "--partitions",
        "1",
        "--replication-factor",
        "1",
    ]);
    assert_eq!(said, "Created topic \"old\".\n");
    assert_eq!(tool(&["--list"]), "old\n");
    let created = wait_for_topic(&server, "old", |topic| topic.partitions.len() == 1);
    assert!(!created.topic_id.is_nil());

    let said = tool(&["--alter", "--topic", "old", "--partitions", "3"]);
    assert!(said.ends_with("Adding partitions succeeded!\n"), "{said}");
    let altered = wait_for_topic(&server, "old", |topic| topic.partitions.len() == 3);
    assert_eq!(altered.topic_id, created.topic_id);
    let mut producer = Producer::new(&server, &[]);
    producer.send(
        BaseRecord::to("old")
            .partition(2)
            .payload(b"in the new one"),
    );
    assert_eq!(producer.flush_all_taken(), [(2, 0)]);
    assert_eq!(read_whole(&server, "old", 2, &[]).len(), 1);

    tool(&[
        "--alter",
        "--topic",
        "old",
        "--config",
        "retention.ms=60000",
    ]);
    let said = tool(&["--describe", "--topic", "old"]);
    let head = "Topic:old\tPartitionCount:3\tReplicationFactor:1\tConfigs:retention.ms=60000";
    assert!(said.starts_with(head), "{said}");
    assert!(said.contains("Partition: 2\tLeader: "), "{said}");
    let mut client = Client::connect(server.zookeeper_port(), 10_000);
    let node = client.call(&Op::GetData("/brokers/topics/old".to_owned(), false));
    assert!(node.text().contains("topic_id"), "{}", node.text());

    let said = tool(&["--delete", "--topic", "old"]);
    assert!(
        said.starts_with("Topic old is marked for deletion."),
        "{said}"
    );
    wait_for(|| topic(&server, "old").error_code != 0, "the topic goes");
    assert!(!tool(&["--list"]).contains("old"));
}

fn topic(server: &Server, name: &str) -> MetadataResponseTopic {
    let name = TopicName(StrBytes::from_string(name.to_owned()));
    let wanted = MetadataRequestTopic::default().with_name(Some(name));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![wanted]))
        .with_allow_auto_topic_creation(false);
    let mut topics = Wire::connect(server).call(12, &request).topics;
    assert_eq!(topics.len(), 1);
    topics.remove(0)
}

/// Waits until a topic is as wanted and all its partitions have leaders.
fn wait_for_topic(
    server: &Server,
    name: &str,
    wanted: impl Fn(&MetadataResponseTopic) -> bool,
) -> MetadataResponseTopic {
    let led = |topic: &MetadataResponseTopic| {
        let mut partitions = topic.partitions.iter();
        partitions.all(|partition| partition.error_code == 0 && partition.leader_id.0 >= 0)
    };
    wait_for(
        || {
            let topic = topic(server, name);
            topic.error_code == 0 && wanted(&topic) && led(&topic)
        },
        "the topic is served",
    );
    topic(server, name)
}

fn wait_for(condition: impl Fn() -> bool, what: &str) {
    let deadline = Instant::now() + HANG_GUARD;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
