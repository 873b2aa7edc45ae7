//! The actors of Troupe and the pure cores that decide for them.

pub mod log;
pub mod partition;
pub mod runtime;
pub mod storage;

pub mod config;
