//! Hints to the current leader in Produce and Fetch answers (KIP-951).

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
