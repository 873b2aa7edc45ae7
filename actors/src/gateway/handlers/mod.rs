//! One file per API family. A handler never fails: errors are codes in its response.

pub(crate) mod api_versions;
pub(crate) mod cluster;
pub(crate) mod common;
pub(crate) mod configs;
mod leaders;
pub(crate) mod log_dirs;
pub(crate) mod metadata;
pub(crate) mod produce;
pub(crate) mod topics;
