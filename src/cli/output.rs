//! Lines for the user. A reader that has gone away is no error.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to standard output.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Writes a line to standard error.
pub(crate) fn error(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a prompt, without a line end.
pub(crate) fn prompt(text: &str) {
    let mut out = io::stdout();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}
