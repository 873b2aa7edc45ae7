//! A raw ZooKeeper client that shows what really comes over the wire, and Apache ZooKeeper to compare with.

#![allow(unused_imports, reason = "each test binary uses its own part of this")]

mod client;
mod operation;
mod reply;
mod server;

pub use client::{Client, Session};
pub use operation::{Auth, Op, Since, WatchLists, open_acl};
pub use reply::{Message, render};
pub use server::{Apache, four_letter_word};
