//! InitProducerId: ids for idempotent (KIP-98) and transactional producers.

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::transactions::fenced_below;
use crate::gateway::request::RequestContext;
use crate::partition::Answer;
use crate::transactions::Producer;
use crate::transactions::transaction::{Init, NO_PRODUCER_EPOCH, NO_PRODUCER_ID};

/// First version that knows PRODUCER_FENCED.
const FIRST_WITH_FENCED: i16 = 4;

/// Gives a new id with epoch 0; also to a producer that names its former id, as Kafka does. A transactional id keeps its
/// producer id, and gets the next epoch.
pub(crate) async fn handle(
    cx: RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let given = init(&cx, &request).await;
    let (error, producer) = match given {
        Ok(producer) => (ErrorCode::None, producer),
        Err(error) => {
            let nobody = Producer {
                id: NO_PRODUCER_ID,
                epoch: NO_PRODUCER_EPOCH,
            };
            (fenced_below(FIRST_WITH_FENCED, cx.version, error), nobody)
        }
    };
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
}

async fn init(cx: &RequestContext, request: &InitProducerIdRequest) -> Answer<Producer> {
    let expected = match (*request.producer_id, request.producer_epoch) {
        (NO_PRODUCER_ID, NO_PRODUCER_EPOCH) => None,
        (id @ 0.., epoch @ 0..) => Some(Producer { id, epoch }),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    match &request.transactional_id {
        None => {
            let id = cx.broker.producer_ids.next().await?;
            Ok(Producer { id, epoch: 0 })
        }
        Some(id) => {
            let init = Init {
                timeout_ms: request.transaction_timeout_ms,
                expected,
            };
            cx.broker.transactions.init(id, init).await
        }
    }
}
