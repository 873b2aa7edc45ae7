//! Transactional batches in a produce request: whose they may be, and that their transaction is open (KIP-890).

use std::collections::BTreeSet;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::produce::ProduceRequest;
use troupe_protocol::kafka::records::batch::BatchHeader;

use super::Ready;
use crate::gateway::handlers::open_transaction::{self, Begun};
use crate::gateway::request::RequestContext;
use crate::partition::Answer;
use crate::transactions::Producer;

/// The first version whose producers know TRANSACTION_ABORTABLE.
const FIRST_WITH_ABORTABLE: i16 = 11;
/// The first version that adds partitions to the transaction by writing to them.
const FIRST_THAT_ADDS: i16 = 12;

/// Judges the transactional batches of a request as a whole.
///
/// # Errors
/// TRANSACTIONAL_ID_AUTHORIZATION_FAILED when the request names no transactional id, INVALID_PRODUCER_ID_MAPPING when
/// they are of several producers.
pub(super) fn check(request: &ProduceRequest) -> Answer<()> {
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    let headers = partitions
        .filter_map(|partition| partition.records.as_deref())
        .filter_map(|records| BatchHeader::parse(records).ok())
        .filter(|header| header.attributes.is_transactional());
    let producers: BTreeSet<_> = headers
        .map(|header| (header.producer_id, header.producer_epoch))
        .collect();
    if !producers.is_empty() && request.transactional_id.is_none() {
        Err(ErrorCode::TransactionalIdAuthorizationFailed)
    } else if producers.len() > 1 {
        Err(ErrorCode::InvalidProducerIdMapping)
    } else {
        Ok(())
    }
}

/// Makes sure that the transaction of these batches is open where they go, and notes that on each of those that belong to
/// it, or what its producer is told when it is not.
pub(super) async fn verify(cx: &RequestContext, transactional_id: &str, batches: Vec<&mut Ready>) {
    let batches = batches.into_iter();
    let mut batches: Vec<_> = batches
        .filter(|ready| ready.header.attributes.is_transactional())
        .collect();
    // They are all of one producer: `check` has seen to that.
    let Some(header) = batches.first().map(|first| first.header) else {
        return;
    };
    let begun = Begun {
        transactional_id,
        producer: Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
        },
        adds: cx.version >= FIRST_THAT_ADDS,
    };
    let partitions = batches.iter();
    let partitions: Vec<_> = partitions
        .map(|ready| (&ready.replica, ready.header.base_sequence))
        .collect();
    let verified = open_transaction::verify(cx, &begun, &partitions).await;
    for (ready, verified) in batches.iter_mut().zip(verified) {
        ready.verification = verified.map_err(|error| told(error, cx.version));
    }
}

/// Says in the words of Produce what a coordinator answered. NOT_ENOUGH_REPLICAS is what makes producers of any age send a
/// batch again without asking for metadata.
fn told(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < FIRST_WITH_ABORTABLE => {
            ErrorCode::InvalidTxnState
        }
        ErrorCode::ConcurrentTransactions if version < FIRST_THAT_ADDS => {
            ErrorCode::NotEnoughReplicas
        }
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator
        | ErrorCode::NetworkException => ErrorCode::NotEnoughReplicas,
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use troupe_protocol::kafka::produce::{ProducePartition, ProduceTopic};
    use uuid::Uuid;

    use super::*;
    use crate::partition::testing::{batch, transactional};

    fn request(transactional_id: Option<&str>, batches: Vec<BytesMut>) -> ProduceRequest {
        let partitions = (0..).zip(batches).map(|(index, records)| ProducePartition {
            index,
            records: Some(records),
        });
        ProduceRequest {
            transactional_id: transactional_id.map(str::to_owned),
            acks: -1,
            timeout_ms: 1_000,
            topics: vec![ProduceTopic {
                name: "t".to_owned(),
                topic_id: Uuid::nil(),
                partitions: partitions.collect(),
            }],
        }
    }

    #[test]
    fn a_transaction_is_of_one_producer_with_a_transactional_id() {
        let of = |id, epoch| transactional("a", (id, epoch, 0));
        assert_eq!(check(&request(None, vec![batch(&["a"], 1, None)])), Ok(()));
        assert_eq!(check(&request(Some("x"), vec![of(7, 0), of(7, 0)])), Ok(()));
        assert_eq!(
            check(&request(None, vec![of(7, 0)])),
            Err(ErrorCode::TransactionalIdAuthorizationFailed)
        );
        for other in [of(8, 0), of(7, 1)] {
            assert_eq!(
                check(&request(Some("x"), vec![of(7, 0), other])),
                Err(ErrorCode::InvalidProducerIdMapping)
            );
        }
    }

    #[test]
    fn older_producers_are_told_what_they_know() {
        use ErrorCode::{
            ConcurrentTransactions, InvalidProducerEpoch, InvalidTxnState, NotCoordinator,
            NotEnoughReplicas, ProducerFenced, TransactionAbortable,
        };
        for (version, error, expected) in [
            (10, TransactionAbortable, InvalidTxnState),
            (11, TransactionAbortable, TransactionAbortable),
            (11, ConcurrentTransactions, NotEnoughReplicas),
            (12, ConcurrentTransactions, ConcurrentTransactions),
            (12, NotCoordinator, NotEnoughReplicas),
            (12, ProducerFenced, InvalidProducerEpoch),
        ] {
            assert_eq!(told(error, version), expected, "{version} {error}");
        }
    }
}
