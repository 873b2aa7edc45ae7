//! Rebuilds groups and offsets from the records of a partition of `__consumer_offsets`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use troupe_protocol::kafka::records::batch::BatchHeader;
use troupe_protocol::kafka::records::control::EndTxnMarker;
use troupe_protocol::kafka::records::record::Record;

use super::consumer::group::{ConsumerConfig, Step};
use super::consumer::records as consumer_records;
use super::consumer::stored::Stored;
use super::consumer::topics::Topics;
use super::entry::{Entry, Kind};
use super::group::{Group, Now};
use super::offsets::{CommittedOffset, Offsets, TopicPartition};
use super::open_transactions::OpenTransactions;
use super::records::{GroupValue, Key, decode_group_value, decode_key, decode_offset_value};
use super::share::group::ShareGroup;
use super::share::records::ShareRecord;
use crate::internal_topic::fields::CorruptRecord;
use crate::internal_topic::{ReplayError, replay};
use crate::partition::PartitionHandle;

/// Takes records in the order of the log; the last one about something counts.
#[derive(Debug, Default)]
pub(super) struct Loader {
    groups: BTreeMap<String, GroupValue>,
    consumers: BTreeMap<String, Stored>,
    shares: BTreeMap<String, ShareGroup>,
    offsets: BTreeMap<String, Offsets>,
    open: OpenTransactions,
}

impl Loader {
    /// Takes a record of a batch.
    pub(super) fn take(
        &mut self,
        batch: &BatchHeader,
        record: &Record,
    ) -> Result<(), CorruptRecord> {
        if batch.attributes.is_control() {
            self.end_transaction(batch.producer_id, record);
            Ok(())
        } else if batch.attributes.is_transactional() {
            self.take_transactional(batch.producer_id, record)
        } else {
            self.take_settled(record.key.as_ref(), record.value.as_ref())
        }
    }

    /// Takes out what open transactions have committed.
    pub(super) fn open_transactions(&mut self) -> OpenTransactions {
        std::mem::take(&mut self.open)
    }

    /// Returns the groups as they were.
    pub(super) fn finish(mut self, config: &ConsumerConfig, now: Now) -> BTreeMap<Arc<str>, Entry> {
        let mut groups = BTreeMap::new();
        let topics = Topics::default();
        let step = Step::new(config, now, &topics);
        for (id, stored) in self.consumers {
            if stored.is_group() {
                let offsets = self.offsets.remove(&id).unwrap_or_default();
                let id: Arc<str> = id.into();
                let group = stored.finish(Arc::clone(&id), &step);
                groups.insert(id, Entry::new(Kind::Consumer(group), offsets));
            }
        }
        for (id, mut share) in self.shares {
            if share.epoch() > 0 {
                share.restored(now.monotonic_ms);
                let entry = Entry::new(Kind::Share(share), Offsets::default());
                groups.insert(id.into(), entry);
            }
        }
        for (id, value) in self.groups {
            let offsets = self.offsets.remove(&id).unwrap_or_default();
            let id: Arc<str> = id.into();
            let group = Group::restored(Arc::clone(&id), value, now);
            groups.insert(id, Entry::new(Kind::Classic(group), offsets));
        }
        for (id, offsets) in self.offsets {
            if !offsets.is_empty() {
                let id: Arc<str> = id.into();
                let group = Group::new(Arc::clone(&id), now);
                groups.insert(id, Entry::new(Kind::Classic(group), offsets));
            }
        }
        groups
    }

    /// Takes a record of a transaction; all but offsets mean nothing.
    fn take_transactional(
        &mut self,
        producer_id: i64,
        record: &Record,
    ) -> Result<(), CorruptRecord> {
        if let Some((group, partition, committed)) = offset_of(record)? {
            let group = group.into();
            self.open.begin(&group, std::iter::once(&partition));
            self.open
                .written(producer_id, &group, [(partition, committed)]);
        }
        Ok(())
    }

    fn end_transaction(&mut self, producer_id: i64, marker: &Record) {
        let key = marker.key.as_deref().unwrap_or_default();
        let value = marker.value.as_deref().unwrap_or_default();
        let committed = EndTxnMarker::parse(key, value).is_some_and(|marker| marker.commit);
        for (group, partition, offset) in self.open.end(producer_id, committed) {
            let offsets = self.offsets.entry(group.to_string()).or_default();
            offsets.put(partition, offset);
        }
    }

    /// Takes a record of no transaction.
    fn take_settled(
        &mut self,
        key: Option<&Bytes>,
        value: Option<&Bytes>,
    ) -> Result<(), CorruptRecord> {
        match decode_key(key.ok_or(CorruptRecord::Truncated)?)? {
            Key::Offset {
                group,
                topic,
                partition,
            } => {
                let partition = (topic.into(), partition);
                let committed = value.map(|value| decode_offset_value(value)).transpose()?;
                self.open.superseded(&group, &partition);
                let offsets = self.offsets.entry(group).or_default();
                match committed {
                    Some(committed) => offsets.put(partition, committed),
                    None => offsets.remove(&partition),
                }
            }
            Key::Group(group) => match value {
                Some(value) => {
                    let value = decode_group_value(value)?;
                    // A group is of the kind that was stored last.
                    self.consumers.remove(&group);
                    self.groups.insert(group, value);
                }
                None => {
                    self.groups.remove(&group);
                }
            },
            Key::Other(version) if consumer_records::is_key(version) => {
                let (group, record) = consumer_records::Record::decode(
                    key.map_or(&[], |key| key),
                    value.map(|v| &**v),
                )?;
                if matches!(record, consumer_records::Record::Epoch(Some(_))) {
                    self.groups.remove(&group);
                }
                self.consumers.entry(group).or_default().replay(record);
            }
            Key::Other(_) => self.take_share(key, value)?,
        }
        Ok(())
    }

    fn take_share(
        &mut self,
        key: Option<&Bytes>,
        value: Option<&Bytes>,
    ) -> Result<(), CorruptRecord> {
        let key = key.map_or(&[][..], |key| key);
        let Some((group, record)) = ShareRecord::decode(key, value.map(|value| &**value))? else {
            return Ok(());
        };
        match (value, &record) {
            (None, ShareRecord::Group(_)) => drop(self.shares.remove(&group)),
            (None, _) => {
                if let Some(share) = self.shares.get_mut(&group) {
                    share.replay(record);
                }
            }
            (Some(_), _) => self.shares.entry(group).or_default().replay(record),
        }
        Ok(())
    }
}

/// Reads a committed offset; `None` for any other record.
fn offset_of(
    record: &Record,
) -> Result<Option<(String, TopicPartition, CommittedOffset)>, CorruptRecord> {
    let key = record.key.as_ref().ok_or(CorruptRecord::Truncated)?;
    let (key, Some(value)) = (decode_key(key)?, &record.value) else {
        return Ok(None);
    };
    let Key::Offset {
        group,
        topic,
        partition,
    } = key
    else {
        return Ok(None);
    };
    let partition = (topic.into(), partition);
    Ok(Some((group, partition, decode_offset_value(value)?)))
}

/// Reads a partition of `__consumer_offsets` from its start to its end.
pub(super) async fn load(
    partition: PartitionHandle,
    max_bytes: usize,
) -> Result<Loader, ReplayError> {
    let mut loader = Loader::default();
    replay(&partition, max_bytes, |batch, record| {
        loader.take(batch, record)
    })
    .await?;
    Ok(loader)
}

#[cfg(test)]
mod tests {
    use troupe_protocol::kafka::records::builder::BatchBuilder;

    use super::super::records::{group_key, group_value, offset_key, offset_value};
    use super::super::testing::config;
    use super::*;
    use crate::internal_topic::{Skipped, take_batches};

    const NOW: Now = Now {
        wall_ms: 0,
        monotonic_ms: 0,
    };

    fn batch(builder: BatchBuilder, records: &[(Bytes, Option<Bytes>)]) -> Vec<u8> {
        let records: Vec<Record> = (0..)
            .zip(records)
            .map(|(offset, (key, value))| Record {
                offset,
                timestamp: 0,
                key: Some(key.clone()),
                value: value.clone(),
                headers: Vec::new(),
            })
            .collect();
        builder.build_from(&records).unwrap().to_vec()
    }

    fn offset(topic: &str, offset: i64) -> (Bytes, Option<Bytes>) {
        let committed = CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            committed_ms: 0,
            expires_ms: None,
        };
        (
            offset_key("g", topic, 0).unwrap(),
            Some(offset_value(&committed).unwrap()),
        )
    }

    /// Returns how many records were skipped, too.
    fn loader(log: &[Vec<u8>]) -> (Loader, u64) {
        let (mut loader, mut skipped) = (Loader::default(), Skipped::default());
        take_batches(&log.concat(), &mut skipped, |batch, record| {
            loader.take(batch, record)
        });
        (loader, skipped.count())
    }

    fn load(log: &[Vec<u8>]) -> (Vec<(String, i64)>, u64) {
        let (loader, skipped) = loader(log);
        let groups = loader.finish(&config().consumer, NOW);
        let offsets = groups.get("g").into_iter().flat_map(|g| g.offsets.iter());
        let offsets = offsets.map(|((topic, _), c)| (topic.to_string(), c.offset));
        (offsets.collect(), skipped)
    }

    #[test]
    fn the_last_record_counts_and_a_tombstone_deletes() {
        let tombstone = (offset_key("g", "gone", 0).unwrap(), None);
        let log = [
            batch(BatchBuilder::new(), &[offset("t", 1), offset("gone", 1)]),
            batch(BatchBuilder::new(), &[offset("t", 2), tombstone]),
        ];
        assert_eq!(load(&log), (vec![("t".to_owned(), 2)], 0));
    }

    #[test]
    fn what_is_corrupt_is_skipped_and_counted() {
        let nonsense = (Bytes::from_static(b"\0\x01\0"), Some(Bytes::new()));
        let bad_value = (
            offset_key("g", "t", 0).unwrap(),
            Some(Bytes::from_static(b"\0\x09")),
        );
        let newer = (Bytes::from_static(b"\0\x7fwhatever"), Some(Bytes::new()));
        let mut broken = batch(BatchBuilder::new(), &[offset("t", 9)]);
        *broken.last_mut().unwrap() ^= 1;
        let log = [
            batch(
                BatchBuilder::new(),
                &[nonsense, offset("t", 1), bad_value, newer],
            ),
            broken,
            batch(BatchBuilder::new(), &[offset("u", 2)]),
        ];
        assert_eq!(
            load(&log),
            (vec![("t".to_owned(), 1), ("u".to_owned(), 2)], 3)
        );
    }

    #[test]
    fn a_transaction_counts_when_it_is_committed() {
        let transactional = |producer| {
            BatchBuilder::new()
                .transactional(true)
                .producer(producer, 0, 0)
        };
        let marker = |producer, kind: &'static [u8]| {
            let key = Bytes::from_static(kind);
            batch(
                transactional(producer).control(true),
                &[(key, Some(Bytes::from_static(b"\0\0\0\0\0\0")))],
            )
        };
        let log = [
            batch(transactional(1), &[offset("committed", 1)]),
            batch(transactional(2), &[offset("aborted", 1)]),
            batch(transactional(3), &[offset("open", 1)]),
            marker(2, b"\0\0\0\0"),
            marker(1, b"\0\0\0\x01"),
        ];
        assert_eq!(load(&log), (vec![("committed".to_owned(), 1)], 0));
        let (mut loader, _) = loader(&log);
        let mut open = loader.open_transactions();
        let is_unstable =
            |open: &OpenTransactions, topic: &str| open.is_unstable("g", &(topic.into(), 0));
        assert!(is_unstable(&open, "open") && !is_unstable(&open, "aborted"));
        assert_eq!(open.end(3, true).len(), 1);
        assert!(!is_unstable(&open, "open"));
    }

    #[test]
    fn a_group_comes_back_with_its_offsets() {
        let value = GroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 3,
            protocol: None,
            leader: None,
            state_since_ms: 5,
            members: Vec::new(),
        };
        let stored = (group_key("g").unwrap(), Some(group_value(&value).unwrap()));
        let bytes = batch(BatchBuilder::new(), &[offset("t", 1), stored]);
        let (loader, skipped) = loader(&[bytes]);
        assert_eq!(skipped, 0);
        let groups = loader.finish(&config().consumer, NOW);
        let entry = groups.get("g").unwrap();
        let Kind::Classic(group) = &entry.kind else {
            panic!("a classic group");
        };
        assert_eq!((group.generation(), group.state().name()), (3, "Empty"));
        assert!(!entry.offsets.is_empty());
    }

    fn consumer_record(record: consumer_records::Record) -> (Bytes, Option<Bytes>) {
        record.encode("g").unwrap()
    }

    fn finish(records: &[(Bytes, Option<Bytes>)]) -> (BTreeMap<Arc<str>, Entry>, u64) {
        let (loader, skipped) = loader(&[batch(BatchBuilder::new(), records)]);
        (loader.finish(&config().consumer, NOW), skipped)
    }

    #[test]
    fn a_consumer_group_comes_back_with_its_offsets() {
        let mut corrupt = consumer_record(consumer_records::Record::TargetEpoch(Some(9)));
        corrupt.1 = Some(Bytes::from_static(b"\0\0\0"));
        let records = [
            consumer_record(consumer_records::Record::Epoch(Some(4))),
            corrupt,
            offset("t", 1),
        ];
        let (mut groups, skipped) = finish(&records);
        assert_eq!(skipped, 1);
        let entry = groups.get_mut("g").unwrap();
        assert!(!entry.offsets.is_empty());
        let group = entry.consumer().unwrap();
        assert_eq!((group.epoch(), group.target_epoch()), (4, 0));
    }

    #[test]
    fn a_group_is_of_the_kind_that_was_stored_last() {
        let value = GroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 3,
            protocol: None,
            leader: None,
            state_since_ms: 5,
            members: Vec::new(),
        };
        let classic = (group_key("g").unwrap(), Some(group_value(&value).unwrap()));
        let consumer = consumer_record(consumer_records::Record::Epoch(Some(4)));
        let gone = consumer_record(consumer_records::Record::Epoch(None));
        let is_consumer = |records: &[(Bytes, Option<Bytes>)]| {
            let (mut groups, _) = finish(records);
            groups.get_mut("g").map(|entry| entry.consumer().is_some())
        };
        let upgraded = [classic.clone(), consumer.clone()];
        assert_eq!(is_consumer(&upgraded), Some(true));
        let downgraded = [consumer.clone(), classic.clone()];
        assert_eq!(is_consumer(&downgraded), Some(false));
        assert_eq!(
            is_consumer(&[consumer, gone.clone(), classic, gone]),
            Some(false)
        );
        let deleted = consumer_record(consumer_records::Record::Epoch(None));
        assert_eq!(is_consumer(&[deleted]), None);
    }
}
