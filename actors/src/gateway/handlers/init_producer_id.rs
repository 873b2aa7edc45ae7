//! InitProducerId: ids for idempotent producers (KIP-98).
//!
//! There is no transaction coordinator yet: with a transactional id the answer is COORDINATOR_NOT_AVAILABLE.

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::gateway::request::RequestContext;

/// Gives a new id with epoch 0; also to a producer that names its former id, as Kafka does.
pub(crate) async fn handle(
    cx: RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let given = match request.transactional_id {
        None => cx.broker.producer_ids.next().await,
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::CoordinatorNotAvailable),
    };
    let (error, id, epoch) = match given {
        Ok(id) => (ErrorCode::None, id, 0),
        Err(error) => (error, -1, -1),
    };
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
}
