//! Hints to the current leader in the answers of Produce and Fetch, ShareFetch and ShareAcknowledge (KIP-951).

use super::StrBytes;
use super::messages::{BrokerId, share_acknowledge_response, share_fetch_response};
use super::wire::Writer;

/// The leader of a partition as its broker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    /// The broker id, -1 without a leader.
    pub leader_id: i32,
    /// The epoch of that leadership.
    pub leader_epoch: i32,
}

impl LeaderIdAndEpoch {
    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        out.i32(self.leader_id);
        out.i32(self.leader_epoch);
        out.no_tagged_fields();
    }
}

/// Where a leader named in an answer can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker id.
    pub node_id: i32,
    /// The host that the broker advertises.
    pub host: String,
    /// The port that the broker advertises.
    pub port: i32,
    /// The rack of the broker.
    pub rack: Option<String>,
}

impl NodeEndpoint {
    /// Writes a list of endpoints.
    pub(crate) fn write_all(endpoints: &[NodeEndpoint], out: &mut Writer<'_>) {
        out.length(Some(endpoints.len()));
        for endpoint in endpoints {
            out.i32(endpoint.node_id);
            out.string(&endpoint.host);
            out.i32(endpoint.port);
            out.nullable_string(endpoint.rack.as_deref());
            out.no_tagged_fields();
        }
    }
}

/// Makes hints those of a message that the schema crate encodes: it has types of its own for each.
macro_rules! hints_of {
    ($response:ident) => {
        impl From<LeaderIdAndEpoch> for $response::LeaderIdAndEpoch {
            fn from(leader: LeaderIdAndEpoch) -> Self {
                Self::default()
                    .with_leader_id(leader.leader_id)
                    .with_leader_epoch(leader.leader_epoch)
            }
        }

        impl From<NodeEndpoint> for $response::NodeEndpoint {
            fn from(endpoint: NodeEndpoint) -> Self {
                Self::default()
                    .with_node_id(BrokerId(endpoint.node_id))
                    .with_host(StrBytes::from_string(endpoint.host))
                    .with_port(endpoint.port)
                    .with_rack(endpoint.rack.map(StrBytes::from_string))
            }
        }
    };
}

hints_of!(share_fetch_response);
hints_of!(share_acknowledge_response);
