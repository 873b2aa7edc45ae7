//! A member of a classic group.

use std::sync::Arc;

use bytes::Bytes;

use super::records::MemberValue;

/// Marks a request that waits for its answer; unique per coordinator.
pub type Ticket = u64;

/// A protocol that a member offers, as an assignor's name with the member's subscription for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// Its name, as `range`.
    pub name: Arc<str>,
    /// What the member has to say for it; opaque here.
    pub metadata: Bytes,
}

/// One member.
#[derive(Debug, Clone)]
pub struct Member {
    /// Member id.
    pub id: Arc<str>,
    /// Name of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where its client is, as `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// How long it may take to join again, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// How long it may stay silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// What it offers, best first.
    pub protocols: Vec<Protocol>,
    /// What the leader gave it.
    pub assignment: Bytes,
    /// Whether it has not seen the end of a join phase yet.
    pub is_new: bool,
    /// Its JoinGroup that waits.
    pub awaiting_join: Option<Ticket>,
    /// Its SyncGroup that waits.
    pub awaiting_sync: Option<Ticket>,
    /// When its session ends, on the monotonic clock in milliseconds.
    pub expires_ms: i64,
}

impl Member {
    /// Returns when the session ends. It does not while the member waits for an answer; a new member's request is the
    /// exception, as its client may be long gone.
    pub fn deadline_ms(&self) -> Option<i64> {
        let waits = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        (self.is_new || !waits).then_some(self.expires_ms)
    }

    /// Starts the session timeout again.
    pub fn touch(&mut self, now_ms: i64) {
        self.expires_ms = now_ms.saturating_add(i64::from(self.session_timeout_ms));
    }

    /// Tells whether the member offers a protocol.
    pub fn supports(&self, name: &str) -> bool {
        self.protocols.iter().any(|offered| *offered.name == *name)
    }

    /// Returns what the member says for a protocol.
    pub fn metadata(&self, name: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|offered| *offered.name == *name)
            .map_or_else(Bytes::new, |offered| offered.metadata.clone())
    }

    /// Returns the member as it is stored, with what it says for the chosen protocol.
    pub fn value(&self, protocol: &str, assignment: Bytes) -> MemberValue {
        MemberValue {
            id: self.id.to_string(),
            instance_id: self.instance_id.as_deref().map(str::to_owned),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// Takes a member up again from what is stored; its session starts at `now_ms`.
    pub fn restored(value: MemberValue, protocol: &str, now_ms: i64) -> Self {
        let mut member = Self {
            id: value.id.into(),
            instance_id: value.instance_id.map(Arc::from),
            client_id: value.client_id.into(),
            client_host: value.client_host.into(),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: vec![Protocol {
                name: protocol.into(),
                metadata: value.subscription,
            }],
            assignment: value.assignment,
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
            expires_ms: 0,
        };
        member.touch(now_ms);
        member
    }
}
