//! `--command-config`: a file of settings for the connection.

use std::path::{Path, PathBuf};

/// Tells why a file of settings is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandConfigError {
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, String),
    #[error("{0}: security.protocol={1} is not supported yet")]
    Security(PathBuf, String),
}

/// Refuses a file that cannot be read, or asks for a secured connection: there is none yet, and saying nothing would
/// mislead. Other settings have no effect.
pub(crate) fn check(path: Option<&Path>) -> Result<(), CommandConfigError> {
    let Some(path) = path else {
        return Ok(());
    };
    let unreadable = |error: String| CommandConfigError::Unreadable(path.to_owned(), error);
    let content = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let settings = java_properties::read(content.as_slice());
    let settings = settings.map_err(|error| unreadable(error.to_string()))?;
    match settings.get("security.protocol").map(String::as_str) {
        None | Some("PLAINTEXT") => Ok(()),
        Some(other) => Err(CommandConfigError::Security(
            path.to_owned(),
            other.to_owned(),
        )),
    }
}
