//! One file per API family. A handler never fails: errors are codes in its response.

pub(crate) mod api_versions;
