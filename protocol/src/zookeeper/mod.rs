//! The ZooKeeper wire protocol.
