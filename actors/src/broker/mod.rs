//! A broker: everything put together.

mod context;
mod producer_ids;

pub use context::BrokerContext;
pub use producer_ids::ProducerIds;
