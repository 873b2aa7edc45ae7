//! Apache Kafka's and ZooKeeper's own programs, on the class paths that `./test` made.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Output, Process};
use super::skip::skip;

/// A release of Apache Kafka whose tools the tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    V3_9,
    V4_1,
    /// The newest clients, without broker and tools.
    Newest,
}

impl Release {
    fn name(self) -> &'static str {
        match self {
            Release::V3_9 => "kafka-3.9",
            Release::V4_1 => "kafka-4.1",
            Release::Newest => "clients-4.4",
        }
    }
}

/// The jars of one release.
#[derive(Clone)]
pub struct Kafka {
    pub release: Release,
    jars: Jars,
}

impl Kafka {
    /// Finds the jars of a release. Without them the test is skipped by name, or fails where `./test` had to make them.
    pub fn find(release: Release) -> Option<Kafka> {
        Jars::find(release.name()).map(|jars| Kafka { release, jars })
    }
}

impl std::ops::Deref for Kafka {
    type Target = Jars;

    fn deref(&self) -> &Jars {
        &self.jars
    }
}

/// A class path with programs to run.
#[derive(Clone)]
pub struct Jars {
    class_path: String,
}

impl Jars {
    /// Finds the jars of a folder in `tests/java`. Without them the test is skipped by name, or fails where `./test` had
    /// to make them.
    pub fn find(name: &str) -> Option<Jars> {
        let file = target_dir().join("java").join(format!("{name}.cp"));
        if std::env::var_os("TROUPE_NO_JAVA").is_some() {
            skip("it runs Java programs, which ./test --no-java leaves out");
            return None;
        }
        match std::fs::read_to_string(&file) {
            Ok(class_path) => Some(Jars {
                class_path: class_path.trim().to_owned(),
            }),
            Err(error) => {
                let why = format!(
                    "no class path of {name} ({}: {error}); ./test makes it",
                    file.display()
                );
                assert!(std::env::var_os("TROUPE_REQUIRE_JAVA").is_none(), "{why}");
                skip(&why);
                None
            }
        }
    }

    /// The same class path without the jars whose names begin so.
    pub fn without(&self, name: &str) -> Jars {
        let is_kept = |jar: &&str| {
            let file = Path::new(jar).file_name().unwrap_or_default();
            !file.to_string_lossy().starts_with(name)
        };
        let kept: Vec<_> = self.class_path.split(':').filter(is_kept).collect();
        Jars {
            class_path: kept.join(":"),
        }
    }

    /// A command that runs `class`, quiet but for warnings on standard error.
    pub fn command(&self, class: &str) -> Command {
        self.command_with(
            class,
            &["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"],
            "log4j.properties",
        )
    }

    /// A command that runs `class` with the given options of the virtual machine and log configuration.
    pub fn command_with(&self, class: &str, options: &[&str], log4j: &str) -> Command {
        let log4j = manifest_dir().join("tests/java").join(log4j);
        let mut command = Command::new("java");
        command
            .args(options)
            .arg("-XX:-UsePerfData")
            .arg(format!("-Dlog4j.configuration=file:{}", log4j.display()))
            .args(["-cp", &self.class_path, class]);
        command
    }

    /// A command that runs a program of `tests/java/programs` from its source.
    pub fn program(&self, name: &str) -> Command {
        let source = manifest_dir().join("tests/java/programs").join(name);
        self.command(&source.display().to_string())
    }

    /// Runs `class` to its end with nothing on standard input.
    pub fn run(&self, class: &str, arguments: &[&str]) -> Output {
        self.run_with_input(class, arguments, b"")
    }

    /// Runs `class` to its end with `input` on standard input.
    pub fn run_with_input(&self, class: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(class);
        command.args(arguments);
        let mut process = Process::spawn(class, command);
        process.feed(input);
        process.finish()
    }
}

/// Where cargo builds, and where `./test` puts its class paths.
pub fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo's tmp is inside of target")
        .to_owned()
}

pub fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
