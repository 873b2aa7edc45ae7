//! A raw ZooKeeper client that shows what really comes over the wire, and services to ask: Troupe alone, and
//! Apache ZooKeeper to compare with.

#![allow(unused_imports, reason = "each test binary uses its own part of this")]

mod client;
mod ensemble;
mod operation;
mod reply;
mod server;
mod service;

pub use client::{Client, Session};
pub use ensemble::Ensemble;
pub use operation::{Auth, Op, Since, WatchLists, open_acl};
pub use reply::{Message, render};
pub use server::{Apache, four_letter_word};
pub use service::Service;
