//! Which batches a read_committed reader must not see.

use std::collections::BTreeSet;

use troupe_protocol::kafka::records::batch::BatchHeader;

/// Lists the first and last offsets of batches that belong to aborted transactions. `aborted` are producer id and first
/// offset of each, `headers` the batches that were read, in order.
pub(super) fn aborted_batches(headers: &[BatchHeader], aborted: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut transactions = aborted.to_vec();
    transactions.sort_by_key(|&(_, first)| first);
    let mut transactions = transactions.into_iter().peekable();
    let mut open = BTreeSet::new();
    let mut batches = Vec::new();
    for header in headers {
        let last = header.last_offset();
        while let Some((producer, _)) = transactions.next_if(|&(_, first)| first <= last) {
            open.insert(producer);
        }
        if header.attributes.is_control() {
            // The next marker of an aborted transaction is the one that aborted it.
            open.remove(&header.producer_id);
        } else if header.attributes.is_transactional() && open.contains(&header.producer_id) {
            batches.push((header.base_offset, last));
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use troupe_protocol::kafka::records::batch::assign_offset;
    use troupe_protocol::kafka::records::builder::BatchBuilder;
    use troupe_protocol::kafka::records::record::Record;

    use super::*;

    fn header(offset: i64, builder: BatchBuilder) -> BatchHeader {
        let record = Record {
            offset: 0,
            timestamp: 0,
            key: Some(Bytes::from_static(b"\0\0\0\0")),
            value: None,
            headers: Vec::new(),
        };
        let mut batch = builder.build_from(&[record]).unwrap();
        assign_offset(&mut batch, offset, 0);
        BatchHeader::parse(&batch).unwrap()
    }

    fn of(producer: i64) -> BatchBuilder {
        BatchBuilder::new()
            .transactional(true)
            .producer(producer, 0, 0)
    }

    #[test]
    fn a_transaction_is_aborted_up_to_its_marker() {
        let headers = [
            header(0, of(1)),
            header(1, of(2)),
            header(2, BatchBuilder::new()),
            header(3, of(1).control(true)),
            header(4, of(1)),
            header(5, of(2)),
        ];
        assert_eq!(
            aborted_batches(&headers, &[(2, 5), (1, 0)]),
            [(0, 0), (5, 5)]
        );
        assert_eq!(aborted_batches(&headers, &[]), []);
    }
}
