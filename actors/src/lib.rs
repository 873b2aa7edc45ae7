//! The actors of Troupe and the pure cores that decide for them.

pub mod broker;
mod broker_client;
pub mod config;
pub mod controller;
pub mod coordination;
pub mod gateway;
pub mod groups;
mod internal_topic;
pub mod log;
pub mod log_manager;
pub mod metadata;
pub mod network;
pub mod partition;
mod peers;
pub mod replica_manager;
pub mod replication;
pub mod runtime;
pub mod share;
pub mod storage;
pub mod transactions;
pub mod uuid_text;
pub mod znode;
pub mod znode_client;
