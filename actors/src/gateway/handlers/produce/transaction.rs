//! Transactional batches in a produce request: whose they may be, and that their transaction is open (KIP-890).

use std::collections::BTreeSet;

use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::produce::ProduceRequest;
use troupe_protocol::kafka::records::batch::BatchHeader;

use crate::gateway::handlers::open_transaction::{self, Begun};
use crate::gateway::request::RequestContext;
use crate::partition::{Answer, PartitionHandle, Verification};
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

/// Makes sure that the transaction of a batch is open, with the coordinator's word when the partition does not know it.
///
/// # Errors
/// What the producer is told when it is not.
pub(super) async fn verify(
    cx: &RequestContext,
    transactional_id: Option<&str>,
    partition: &PartitionHandle,
    header: &BatchHeader,
) -> Answer<Verification> {
    let Some(transactional_id) = transactional_id.filter(|_| header.attributes.is_transactional())
    else {
        return Ok(Verification::NotNeeded);
    };
    let begun = Begun {
        transactional_id,
        producer: Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
        },
        sequence: header.base_sequence,
        partition,
        adds: cx.version >= FIRST_THAT_ADDS,
    };
    let verified = open_transaction::verify(cx, begun).await;
    verified.map_err(|error| told(error, cx.version))
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
