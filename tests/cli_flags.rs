//! What the command line says of flags that are wrong, before any broker is asked.

#![allow(clippy::unwrap_used, reason = "tests")]

use assert_cmd::Command;

fn troupe(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("troupe").unwrap();
    let output = command.env_clear().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn help_names_every_tool() {
    let (code, stdout, _) = troupe(&["--help"]);
    assert_eq!(code, 0);
    for word in [
        "server",
        "topics",
        "consumer-groups",
        "transactions",
        "cluster",
        "configs",
        "get-offsets",
        "delete-records",
        "log-dirs",
        "leader-election",
        "reassign-partitions",
        "broker-api-versions",
        "console-producer",
        "console-consumer",
        "--override",
        "9092",
    ] {
        assert!(stdout.contains(word), "{word} is not in {stdout}");
    }
}

#[test]
fn an_unknown_flag_is_named_and_the_nearest_suggested() {
    for tool in [
        &["topics", "--list", "--bootstrap-sever", "x:1"][..],
        &["server", "--overide", "a=b"][..],
    ] {
        let (code, _, stderr) = troupe(tool);
        assert_eq!(code, 1, "{stderr}");
        assert!(
            stderr.contains("unexpected argument") && stderr.contains("a similar argument exists"),
            "{stderr}"
        );
    }
}

#[test]
fn topics_need_exactly_one_action() {
    let (code, stdout, stderr) = troupe(&["topics", "--bootstrap-server", "localhost:1"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    let expected = "Command must include exactly one action: --list, --describe, --create, --alter or --delete\n";
    assert!(stderr.starts_with(expected), "{stderr}");
}

#[test]
fn a_bad_topic_configuration_is_refused_with_kafkas_text() {
    let flags = [
        "topics",
        "--create",
        "--topic",
        "t",
        "--bootstrap-server",
        "localhost:1",
        "--config",
    ];
    let (code, stdout, stderr) = troupe(&[&flags[..], &["retention.sm=1"]].concat());
    let expected =
        "Error while executing topic command : Unknown topic config name: retention.sm\n";
    assert_eq!((code, stdout.as_str()), (1, expected));
    assert!(
        stderr.contains("ERROR") && stderr.contains("retention.sm"),
        "{stderr}"
    );
}

#[test]
fn log_levels_that_make_no_sense_are_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_troupe"));
    command.env_clear().env("RUST_LOG", "troupe=loud");
    let output = command.args(["topics", "--list"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = "RUST_LOG=troupe=loud has no effect: ";
    assert!(stderr.starts_with(expected), "{stderr}");
}

#[test]
fn an_unreachable_broker_is_named() {
    let (code, stdout, _) = troupe(&["topics", "--list", "--bootstrap-server", "127.0.0.1:1"]);
    assert_eq!(code, 1);
    let expected = "Error while executing topic command : Cannot connect to 127.0.0.1:1: ";
    assert!(stdout.starts_with(expected), "{stdout}");
}

#[cfg(feature = "clients")]
#[test]
fn a_group_shares_the_partitions_itself() {
    let flags = [
        "console-consumer",
        "--bootstrap-server",
        "localhost:1",
        "--topic",
        "t",
        "--group",
        "g",
        "--partition",
        "0",
    ];
    let (code, _, stderr) = troupe(&flags);
    assert_eq!(
        (code, stderr.as_str()),
        (
            1,
            "Options group and partition cannot be specified together.\n"
        )
    );
}

#[cfg(feature = "clients")]
#[test]
fn an_offset_needs_a_partition() {
    let flags = [
        "console-consumer",
        "--bootstrap-server",
        "localhost:1",
        "--topic",
        "t",
        "--offset",
        "5",
    ];
    let (code, _, stderr) = troupe(&flags);
    assert_eq!(
        (code, stderr.as_str()),
        (1, "The partition is required when offset is specified.\n")
    );
}
