//! `--command-config`: a file of settings for the connection.

use std::path::{Path, PathBuf};

use troupe_actors::config::properties::{self, LoadError};

/// Tells why a file of settings is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandConfigError {
    #[error(transparent)]
    Unreadable(#[from] LoadError),
    #[error("{0}: security.protocol={1} is not supported yet")]
    Security(PathBuf, String),
}

/// Refuses a file that cannot be read, or asks for a secured connection: there is none yet, and saying nothing would
/// mislead. Other settings have no effect.
pub(crate) fn check(path: Option<&Path>) -> Result<(), CommandConfigError> {
    let Some(path) = path else {
        return Ok(());
    };
    let settings = properties::read_map(path)?;
    match settings.get("security.protocol").map(String::as_str) {
        None | Some("PLAINTEXT") => Ok(()),
        Some(other) => Err(CommandConfigError::Security(
            path.to_owned(),
            other.to_owned(),
        )),
    }
}
