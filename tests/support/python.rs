//! Programs in Python, with the packages that `./test` installed.

use std::process::Command;

use super::java::{manifest_dir, target_dir};
use super::skip::skip;

/// Returns a command that runs a program of `tests/python`. Without its packages the test is skipped by name, or fails
/// where `./test` had to install them.
pub fn program(name: &str) -> Option<Command> {
    let packages = target_dir().join("python");
    if !packages.join("requirements.txt").exists() {
        let why = format!(
            "no Python packages in {}; ./test installs them",
            packages.display()
        );
        assert!(std::env::var_os("TROUPE_REQUIRE_PYTHON").is_none(), "{why}");
        skip(&why);
        return None;
    }
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages);
    command.arg(manifest_dir().join("tests/python").join(name));
    Some(command)
}
