//! Why a request, or a connection, came to nothing.

use std::io;

use troupe_protocol::zookeeper::jute::JuteError;

/// Tells why no session could begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The text names no server.
    #[error("{0}: expected HOST:PORT, more of them after commas, and a chroot such as /kafka")]
    NoHost(String),
    /// A host has no address.
    #[error("cannot find {0}: {1}")]
    Unresolved(String, io::Error),
}

/// Tells why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server's code.
    #[error("KeeperErrorCode = {}", name(*.0))]
    Code(i32),
    /// Whether it was done is unknown.
    #[error("KeeperErrorCode = ConnectionLoss")]
    ConnectionLoss,
    /// The session is over.
    #[error("KeeperErrorCode = Session expired")]
    Expired,
    /// The session was closed.
    #[error("Not connected")]
    Closed,
    /// What came is no reply to what was asked.
    #[error("the reply cannot be read: {0}")]
    Reply(#[from] JuteError),
}

/// Codes that the tools look at.
pub(crate) mod code {
    pub(crate) const BAD_ARGUMENTS: i32 = -8;
    pub(crate) const NO_NODE: i32 = -101;
    pub(crate) const NO_AUTH: i32 = -102;
    pub(crate) const BAD_VERSION: i32 = -103;
    pub(crate) const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    pub(crate) const NODE_EXISTS: i32 = -110;
    pub(crate) const NOT_EMPTY: i32 = -111;
    pub(crate) const INVALID_ACL: i32 = -114;
    pub(crate) const AUTH_FAILED: i32 = -115;
}

impl ClientError {
    /// Returns whether the node is not there.
    pub fn is_no_node(&self) -> bool {
        *self == Self::Code(code::NO_NODE)
    }

    /// Returns whether the node was there before.
    pub fn is_node_exists(&self) -> bool {
        *self == Self::Code(code::NODE_EXISTS)
    }

    /// Says it as ZooKeeper's command line does, of a path.
    pub fn about(&self, path: &str) -> String {
        match self {
            Self::Code(code) => about(*code, path),
            other => other.to_string(),
        }
    }
}

fn about(error: i32, path: &str) -> String {
    let what = match error {
        code::NO_NODE => "Node does not exist: ",
        code::NO_CHILDREN_FOR_EPHEMERALS => "Ephemerals cannot have children: ",
        code::NODE_EXISTS => "Node already exists: ",
        code::NOT_EMPTY => "Node not empty: ",
        code::INVALID_ACL => "Acl is not valid : ",
        code::NO_AUTH => "Insufficient permission : ",
        code::BAD_ARGUMENTS => "Arguments are not valid : ",
        code::BAD_VERSION => "version No is not valid : ",
        other => return format!("KeeperErrorCode = {} for {path}", name(other)),
    };
    format!("{what}{path}")
}

/// Returns the words of `KeeperException` for a code.
fn name(error: i32) -> String {
    let name = match error {
        -1 => "SystemError",
        -2 => "RuntimeInconsistency",
        -5 => "MarshallingError",
        -6 => "Unimplemented",
        -7 => "OperationTimeout",
        code::BAD_ARGUMENTS => "BadArguments",
        code::NO_NODE => "NoNode",
        code::NO_AUTH => "NoAuth",
        code::BAD_VERSION => "BadVersion",
        code::NO_CHILDREN_FOR_EPHEMERALS => "NoChildrenForEphemerals",
        code::NODE_EXISTS => "NodeExists",
        code::NOT_EMPTY => "Directory not empty",
        -112 => "Session expired",
        -113 => "Invalid callback",
        code::INVALID_ACL => "InvalidACL",
        code::AUTH_FAILED => "AuthFailed",
        -118 => "Session moved",
        -119 => "Not a read-only call",
        -121 => "No such watcher",
        -123 => "Reconfig is disabled",
        other => return format!("Unknown error {other}"),
    };
    name.to_owned()
}
