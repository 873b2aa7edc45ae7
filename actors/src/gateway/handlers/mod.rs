//! One file per API family. A handler never fails: errors are codes in its response.

pub(crate) mod api_versions;
pub(crate) mod cluster;
pub(crate) mod common;
pub(crate) mod configs;
pub(crate) mod fetch;
mod leaders;
pub(crate) mod metadata;
pub(crate) mod produce;
pub(crate) mod topics;
