//! What a handler gets with its request.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::affinity::Affinity;
use super::fetch_session::FetchSessions;
use crate::broker::BrokerContext;

/// The circumstances of one request. Cheap to make and to clone.
#[derive(Clone)]
pub struct RequestContext {
    /// The broker.
    pub broker: Arc<BrokerContext>,
    /// Version of the API that the client speaks; one that the dispatch table serves.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<Arc<str>>,
    /// The address at which the client reached this broker.
    pub local_addr: SocketAddr,
    /// The client's address.
    pub peer_addr: SocketAddr,
    /// Name of the listener that took the connection, as `PLAINTEXT`.
    pub listener: Arc<str>,
    /// Incremental fetch sessions, shared by all connections.
    pub(crate) sessions: Arc<FetchSessions>,
    /// Where the requests of this connection go.
    pub(crate) affinity: Rc<RefCell<Affinity>>,
}
