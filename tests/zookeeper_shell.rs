//! `troupe zookeeper-shell` beside ZooKeeper's own shell: the same lines, against either service.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::process::Command;

use support::java::Jars;
use support::process::{Output, Process};
use support::server::{Server, troupe};
use support::zookeeper::{Apache, Service};

/// Each command as it is meant, and as it is not. ZooKeeper's own `help` and `version` name what only it has.
const SCRIPT: &str = "\
ls /
create /a hello
create /a again
create /n
get /n
get -s /a
get -b /a
get -x /a
get /missing
set /a world
set -v 7 /a x
set -s /a y
set -b /a aGVsbG8=
create -e /e eph
create /e/child
create -s /seq- s
create -e -s /es- s
create -c /cont
create /a/b 1
create /a/b/c 2
create /a/d 1 world:anyone:r
ls -R /a
ls -s /a
ls -w /a
create /a/w z
get -w /a
set /a q
stat /a
stat -w /a
stat /missing
stat -w /later
create /later
delete /a
delete -v 9 /a/w
delete /a/w
delete /nothere
deleteall /a
deleteall /nothere
getAcl /n
getAcl -s /n
whoami
setAcl /n world:anyone:r
setAcl /n world:anyone
set /later 1
setAcl -s -v 0 /later world:anyone:cdrwa
setAcl -v 0 /later world:anyone:r
create /acl d digest:user:xyz:cdrwa
get /acl
sync /n
sync
getEphemerals
getEphemerals /e
getAllChildrenNumber /
getAllChildrenNumber
addWatch /cont
create /cont/x
delete /cont/x
addWatch -m bogus /n
addWatch -m PERSISTENT /n
removewatches /cont
removewatches -d /n
removewatches /n
removewatches /zzz
history
redo 4
redo 999
printwatches
printwatches off
printwatches on
foo
ls
ls nopath
ls /bad/
ls /bad//x
get
set /n
create
create relative
create /deep/er
create -e -c /x
create -t abc /x
delete
create \"/with space\" \"data with space\"
get \"/with space\"
addauth digest user:password
create /mine d auth::cdrwa
get /mine
quit
ls /
";

/// The lines that a shell wrote, without those of the machine and the moment, and events apart: the Java shell prints
/// them whenever its other thread gets to it.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    stdout: Vec<String>,
    events: Vec<String>,
    stderr: Vec<String>,
}

impl Said {
    fn of(output: &Output) -> Said {
        let text = output.stdout();
        let (events, stdout) = text
            .lines()
            .filter(|line| !line.is_empty() && *line != "WATCHER::")
            .filter(|line| !line.starts_with("Connecting to ") && !line.starts_with("JLine "))
            .map(timeless)
            .partition(|line| line.starts_with("WatchedEvent "));
        Said {
            code: output.status.code(),
            stdout,
            events,
            stderr: output
                .stderr()
                .lines()
                // The list of all commands is another one.
                .filter(|line| !line.is_empty() && !line.starts_with(['[', '\t']))
                .map(str::to_owned)
                .collect(),
        }
    }
}

fn timeless(line: &str) -> String {
    let zxids = [
        "cZxid = ",
        "mZxid = ",
        "pZxid = ",
        "ctime = ",
        "mtime = ",
        "ephemeralOwner = ",
    ];
    let shown = |label: &&&str| line.starts_with(**label) && !line.ends_with("= 0x0");
    if let Some(label) = zxids.iter().find(shown) {
        return (*label).to_owned();
    }
    match line.split_once(" zxid: ") {
        Some((event, "-1")) => format!("{event} without zxid"),
        Some((event, _)) => event.to_owned(),
        None => line.to_owned(),
    }
}

fn ours(port: u16, words: &[&str], input: &str) -> Output {
    let mut command = troupe();
    command
        .arg("zookeeper-shell")
        .arg(format!("127.0.0.1:{port}"));
    run(command, words, input)
}

fn apaches(java: &Jars, port: u16, words: &[&str], input: &str) -> Output {
    let mut command = java.command("org.apache.zookeeper.ZooKeeperMain");
    command.args(["-server", &format!("127.0.0.1:{port}")]);
    run(command, words, input)
}

fn run(mut command: Command, words: &[&str], input: &str) -> Output {
    command.args(words).env("TZ", "UTC");
    let mut process = Process::spawn("shell", command);
    process.feed(input.as_bytes());
    process.finish()
}

#[test]
fn it_says_what_zookeepers_own_shell_says() {
    let Some(java) = Jars::find("zookeeper-3.9") else {
        return;
    };
    let start = || Apache::start().expect("the jars are there");
    let expected = Said::of(&apaches(&java, start().port(), &[], SCRIPT));
    assert!(
        expected.events.len() > 8 && expected.stdout.len() > 100,
        "{expected:#?}"
    );
    assert_eq!(Said::of(&ours(start().port(), &[], SCRIPT)), expected);
    assert_eq!(
        Said::of(&ours(Service::start().port, &[], SCRIPT)),
        expected
    );
    let their_shell = apaches(&java, Service::start().port, &[], SCRIPT);
    assert_eq!(Said::of(&their_shell), expected);
}

#[test]
fn one_command_leaves_with_its_code() {
    let Some(java) = Jars::find("zookeeper-3.9") else {
        return;
    };
    let server = Server::start();
    let port = server.zookeeper_port();
    for words in [
        &["ls", "/"][..],
        &["ls", "-R", "/brokers"],
        &["get", "/nope"],
        &["foo", "bar"],
        &["ls"],
        &["whoami"],
        &["getEphemerals"],
        &["get", "-s", "/brokers/ids/0"],
        &["create", "-s", "/one-", "1"],
    ] {
        let (mut expected, mut found) = (
            Said::of(&apaches(&java, port, words, "")),
            Said::of(&ours(port, words, "")),
        );
        // Each sequential node has a name of its own, and a command that asks nothing may end before the session begins.
        for said in [&mut expected, &mut found] {
            said.events.clear();
            said.stderr
                .retain(|line| !line.starts_with("Created /one-"));
        }
        assert_eq!(found, expected, "{words:?}");
    }
}

/// A chroot is what the client calls the root.
#[test]
fn a_chroot_is_the_root() {
    let server = Server::start();
    let shell = |chroot: &str, words: &[&str]| {
        let mut command = troupe();
        let address = format!("127.0.0.1:{}{chroot}", server.zookeeper_port());
        command.arg("zookeeper-shell").arg(address).args(words);
        Process::spawn("shell", command).finish().succeeded()
    };
    shell("", &["create", "/root"]);
    let created = shell("/root", &["create", "/leaf", "data"]);
    assert!(
        created.stderr().contains("Created /leaf"),
        "{}",
        created.text()
    );
    assert!(
        shell("/root", &["ls", "-R", "/"])
            .stdout()
            .ends_with("\n/\n/leaf\n")
    );
    assert!(
        shell("", &["get", "/root/leaf"])
            .stdout()
            .ends_with("\ndata\n")
    );
}

#[test]
fn a_service_that_is_not_there_is_said() {
    let port = support::server::free_port();
    let output = ours(port, &["ls", "/"], "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr(), "KeeperErrorCode = ConnectionLoss\n");
}
