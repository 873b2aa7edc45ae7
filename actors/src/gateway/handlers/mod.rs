//! One file per API family. A handler never fails: errors are codes in its response.

pub(crate) mod api_versions;
pub(crate) mod cluster;
pub(crate) mod common;
pub(crate) mod configs;
pub(crate) mod consumer_group;
pub(crate) mod control;
pub(crate) mod delete_records;
pub(crate) mod describe_producers;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod group_admin;
pub(crate) mod group_membership;
pub(crate) mod init_producer_id;
mod leaders;
pub(crate) mod list_offsets;
pub(crate) mod log_dirs;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
mod open_transaction;
pub(crate) mod produce;
pub(crate) mod share;
pub(crate) mod topics;
pub(crate) mod transaction_admin;
pub(crate) mod transactions;
pub(crate) mod txn_offset_commit;
