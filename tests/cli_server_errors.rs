//! What stops a server before it starts.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

/// Runs a server that must not start, and returns what it said.
fn refused(
    directory: &Path,
    properties: &str,
    environment: &[(&str, &str)],
    flags: &[&str],
) -> String {
    let file = directory.join("server.properties");
    std::fs::write(&file, properties).unwrap();
    let mut command = Command::cargo_bin("troupe").unwrap();
    command
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(directory);
    let output = command
        .arg("server")
        .arg("server.properties")
        .args(flags)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_bad_value_in_the_file_names_file_line_value_and_what_was_expected() {
    let directory = TempDir::new().unwrap();
    let stderr = refused(
        directory.path(),
        "# a comment\nnum.partitions=many\n",
        &[],
        &[],
    );
    let expected = "troupe: server.properties, line 2: Invalid value many for configuration num.partitions: Not a \
                    number of type INT\n";
    assert_eq!(stderr, expected);
}

#[test]
fn a_bad_variable_and_a_bad_flag_are_named() {
    let directory = TempDir::new().unwrap();
    let stderr = refused(
        directory.path(),
        "",
        &[("KAFKA_LOG_CLEANUP_POLICY", "shred")],
        &[],
    );
    let expected = "troupe: environment variable KAFKA_LOG_CLEANUP_POLICY: Invalid value shred for configuration \
                    log.cleanup.policy: String must be one of: compact, delete\n";
    assert_eq!(stderr, expected);
    let stderr = refused(
        directory.path(),
        "",
        &[],
        &["--override", "log.segment.bytes=1"],
    );
    let expected = "troupe: command line: Invalid value 1 for configuration log.segment.bytes: Value must be at least \
                    14\n";
    assert_eq!(stderr, expected);
}

#[test]
fn a_missing_file_is_named() {
    let mut command = Command::cargo_bin("troupe").unwrap();
    let output = command
        .args(["server", "/nowhere/server.properties"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("troupe: cannot read /nowhere/server.properties: "),
        "{stderr}"
    );
}

#[test]
fn a_data_directory_that_is_a_file_is_named() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("taken"), "").unwrap();
    let stderr = refused(directory.path(), "", &[], &["--override", "log.dirs=taken"]);
    assert!(
        stderr.contains("troupe: cannot use log directory taken: "),
        "{stderr}"
    );
}
