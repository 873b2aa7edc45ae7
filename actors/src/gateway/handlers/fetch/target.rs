//! One partition of a fetch: found once, compared with its published progress before it is asked anything.

use tokio::sync::{oneshot, watch};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchPartitionResponse, FetchRequest,
    IsolationLevel, LeaderIdAndEpoch,
};

use crate::config::CompressionType;
use crate::gateway::fetch_session::{TopicKey, Wanted};
use crate::gateway::handlers::leaders;
use crate::gateway::request::RequestContext;
use crate::metadata::MetadataImage;
use crate::partition::PartitionHandle;
use crate::partition::messages::{Progress, Read, ReadResult, Reader};
use crate::storage::FileSlice;

/// The first version whose readers know zstd (KIP-110).
const FIRST_WITH_ZSTD: i16 = 10;

pub(super) type Response = FetchPartitionResponse<FileSlice>;

/// Where a partition is read.
pub(super) struct Place {
    handle: PartitionHandle,
    /// Progress as it was seen last.
    watch: watch::Receiver<Progress>,
    /// Progress when it was compared or read last: growth counts from here.
    since: Progress,
    /// Bytes that came since then and can be read.
    grown: u64,
}

impl Place {
    /// Returns the number of the thread that the replica lives on.
    pub(super) fn thread(&self) -> usize {
        self.handle.thread()
    }

    /// Waits until the replica's progress is another than was seen last, or the replica is gone.
    pub(super) async fn changed(&mut self) -> &mut Self {
        // A replica that is gone is found out by reading.
        let _ = self.watch.changed().await;
        self
    }

    /// Looks at the progress.
    pub(super) fn look(&mut self) -> Progress {
        *self.watch.borrow_and_update()
    }

    /// Returns how many bytes there are to read that were not there when this was called last.
    ///
    /// `None` when its role or its beginning changed, which its reader has to know at once, and when that can only be
    /// found out by reading.
    pub(super) fn grow(&mut self, reader: Reader) -> Option<u64> {
        let gone = self.watch.has_changed().is_err();
        let (then, now) = (self.since, self.look());
        let same = now.is_leader == then.is_leader
            && now.leader_epoch == then.leader_epoch
            && now.failed == then.failed
            && now.log_start_offset == then.log_start_offset;
        if gone || !same {
            return None;
        }
        let moved = bound(&now, reader) > bound(&then, reader);
        if moved && bound(&then, reader) < then.log_end_offset {
            // Records that were there already can be read now; how many bytes they are is found out by reading.
            return None;
        }
        let grown = if moved {
            now.appended_bytes.saturating_sub(then.appended_bytes)
        } else {
            0
        };
        let more = grown.saturating_sub(self.grown);
        self.grown = grown;
        Some(more)
    }
}

/// Why a partition is not read here.
pub(super) struct Refusal {
    error: ErrorCode,
    /// Who leads it instead.
    leader: Option<LeaderIdAndEpoch>,
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self {
            error,
            leader: None,
        }
    }
}

/// A partition of the request.
pub(super) struct Target {
    pub(super) topic: TopicKey,
    pub(super) wanted: FetchPartition,
    pub(super) place: Result<Place, Refusal>,
}

/// A partition that is being read, or needs no reading.
pub(super) enum Asked {
    Known(Response),
    Reading(oneshot::Receiver<ReadResult>),
}

/// Returns who reads, as the request says.
pub(super) fn reader(request: &FetchRequest) -> Reader {
    match (request.replica_id, request.isolation_level) {
        (broker @ 0.., _) => Reader::Follower { broker },
        (-2, _) => Reader::Debug,
        (_, IsolationLevel::ReadUncommitted) => Reader::Consumer,
        (_, IsolationLevel::ReadCommitted) => Reader::CommittedConsumer,
    }
}

impl Target {
    /// Finds the replica to read.
    pub(super) fn find(
        cx: &RequestContext,
        image: &MetadataImage,
        wanted: &Wanted,
        reader: Reader,
    ) -> Self {
        let Wanted { topic, partition } = wanted.clone();
        let place = find(cx, image, &topic, partition.index, reader).map(|handle| {
            let watch = handle.watch();
            let since = handle.progress();
            Place {
                handle,
                watch,
                since,
                grown: 0,
            }
        });
        Self {
            topic,
            wanted: partition,
            place,
        }
    }

    /// Asks the partition for records, unless it is known that there are none for this reader.
    pub(super) async fn ask(&mut self, reader: Reader, max_bytes: u64) -> Asked {
        let place = match &mut self.place {
            Ok(place) => place,
            Err(refusal) => {
                let current_leader = refusal.leader;
                let failed = Response::failed(self.wanted.index, refusal.error);
                return Asked::Known(Response {
                    current_leader,
                    ..failed
                });
            }
        };
        place.since = place.look();
        place.grown = 0;
        // One that is gone can't be waited for: asking it tells so.
        let gone = place.watch.has_changed().is_err();
        if !gone && is_idle(&place.since, &self.wanted, reader) {
            return Asked::Known(bounds(self.wanted.index, &place.since, reader));
        }
        let max_bytes = max_bytes.min(u64::try_from(self.wanted.max_bytes).unwrap_or(0));
        match read(place, &self.wanted, reader, max_bytes, true).await {
            Ok(reading) => Asked::Reading(reading),
            Err(error) => Asked::Known(Response::failed(self.wanted.index, error)),
        }
    }

    /// Reads again, whole batches of at most `max_bytes`; `None` when there are none.
    pub(super) async fn ask_less(&mut self, reader: Reader, max_bytes: u64) -> Option<Response> {
        let place = self.place.as_ref().ok()?;
        let reading = read(place, &self.wanted, reader, max_bytes, false).await;
        let result = reading.ok()?.await.ok()?;
        let fits = |records: &FileSlice| records.len <= max_bytes;
        let fits = result.records.as_ref().is_some_and(fits);
        fits.then(|| self.answer(Ok(result), reader))
    }

    /// Makes the answer of what was read.
    pub(super) fn answer(
        &self,
        result: Result<ReadResult, oneshot::error::RecvError>,
        reader: Reader,
    ) -> Response {
        let index = self.wanted.index;
        // The replica closed before it came to this.
        let Ok(result) = result else {
            return Response::failed(index, ErrorCode::NotLeaderOrFollower);
        };
        if result.error != ErrorCode::None {
            return Response::failed(index, result.error);
        }
        let mut response = bounds(index, &result.progress, reader);
        response.diverging_epoch = result
            .diverging_epoch
            .map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset });
        response.records = result.records.filter(|records| records.len > 0);
        if let Some(aborted) = &mut response.aborted_transactions {
            let transactions = result.aborted.into_iter();
            aborted.extend(
                transactions.map(|(producer_id, first_offset)| AbortedTransaction {
                    producer_id,
                    first_offset,
                }),
            );
        }
        response
    }
}

fn find(
    cx: &RequestContext,
    image: &MetadataImage,
    key: &TopicKey,
    index: i32,
    reader: Reader,
) -> Result<PartitionHandle, Refusal> {
    let topic = match key {
        TopicKey::Name(name) => image
            .topic(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?,
        TopicKey::Id(id) => image.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId)?,
    };
    let partition = topic
        .partition(index)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.config.compression_type == CompressionType::Zstd && cx.version < FIRST_WITH_ZSTD {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    let here = reader == Reader::Debug || partition.leader == cx.broker.broker_id;
    let handle = partition
        .local
        .as_ref()
        .filter(|_| here)
        .ok_or_else(|| Refusal {
            error: ErrorCode::NotLeaderOrFollower,
            leader: Some(leaders::current_leader(partition)),
        })?;
    if handle.topic_id() != topic.id {
        return Err(ErrorCode::InconsistentTopicId.into());
    }
    Ok(handle.clone())
}

async fn read(
    place: &Place,
    wanted: &FetchPartition,
    reader: Reader,
    max_bytes: u64,
    at_least_one: bool,
) -> Result<oneshot::Receiver<ReadResult>, ErrorCode> {
    let (reply, reading) = oneshot::channel();
    let read = Read {
        offset: wanted.fetch_offset,
        max_bytes,
        at_least_one,
        reader,
        current_leader_epoch: wanted.current_leader_epoch,
        last_fetched_epoch: wanted.last_fetched_epoch,
        reply,
    };
    place.handle.send(read).await.map(|()| reading)
}

/// Returns the offset at which a reader has to stop.
fn bound(progress: &Progress, reader: Reader) -> i64 {
    match reader {
        Reader::Consumer => progress.high_watermark,
        Reader::CommittedConsumer => progress.last_stable_offset,
        Reader::Follower { .. } | Reader::Debug => progress.log_end_offset,
    }
}

/// Tells, of a partition's progress alone, whether all is well and there is nothing to read.
///
/// A follower is never idle: by asking it says how far it is.
fn is_idle(progress: &Progress, wanted: &FetchPartition, reader: Reader) -> bool {
    let serves = match reader {
        Reader::Follower { .. } => false,
        Reader::Debug => true,
        Reader::Consumer | Reader::CommittedConsumer => progress.is_leader,
    };
    let of_this_epoch = |epoch: i32| epoch < 0 || epoch == progress.leader_epoch;
    serves
        && of_this_epoch(wanted.current_leader_epoch)
        && of_this_epoch(wanted.last_fetched_epoch)
        && wanted.fetch_offset >= progress.log_start_offset
        && (bound(progress, reader)..=progress.log_end_offset).contains(&wanted.fetch_offset)
}

/// Makes an answer without records.
fn bounds(index: i32, progress: &Progress, reader: Reader) -> Response {
    Response {
        high_watermark: progress.high_watermark,
        last_stable_offset: progress.last_stable_offset,
        log_start_offset: progress.log_start_offset,
        aborted_transactions: (reader == Reader::CommittedConsumer).then(Vec::new),
        ..Response::failed(index, ErrorCode::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRESS: Progress = Progress {
        is_leader: true,
        leader_epoch: 3,
        leaderships: 1,
        log_start_offset: 10,
        high_watermark: 30,
        last_stable_offset: 20,
        log_end_offset: 40,
        appended_bytes: 0,
        failed: false,
    };

    fn wanted(
        fetch_offset: i64,
        current_leader_epoch: i32,
        last_fetched_epoch: i32,
    ) -> FetchPartition {
        FetchPartition {
            index: 0,
            current_leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            log_start_offset: -1,
            max_bytes: 1,
            replica_directory_id: uuid::Uuid::nil(),
            high_watermark: i64::MAX,
        }
    }

    #[test]
    fn only_a_consumer_at_the_end_is_idle() {
        let idle = |offset, reader| is_idle(&PROGRESS, &wanted(offset, -1, -1), reader);
        for (reader, bound) in [
            (Reader::Consumer, 30),
            (Reader::CommittedConsumer, 20),
            (Reader::Debug, 40),
        ] {
            assert!(!idle(bound - 1, reader), "{reader:?} has something to read");
            assert!(idle(bound, reader), "{reader:?} is at its bound");
            assert!(idle(40, reader), "{reader:?} is at the end");
            assert!(!idle(41, reader), "{reader:?} is out of range");
            assert!(!idle(9, reader), "{reader:?} is out of range");
        }
        assert!(!idle(40, Reader::Follower { broker: 2 }));
    }

    #[actix_rt::test]
    async fn records_that_were_there_before_they_could_be_read_end_the_wait() {
        use crate::partition::messages::Acks;
        use crate::partition::testing::{BROKER, TestClock, append, batch, lead, open};
        let storage = std::sync::Arc::new(crate::storage::memory::MemoryStorage::new());
        let partition = open(&storage, &TestClock::new(1), Default::default(), false);
        lead(&partition, &[BROKER, BROKER + 1]).await;
        append(&partition, batch(&["a"], 1, None), Acks::Leader)
            .await
            .unwrap();
        let mut place = Place {
            watch: partition.watch(),
            since: partition.progress(),
            handle: partition,
            grown: 0,
        };
        assert_eq!(place.since.high_watermark, 0);
        assert_eq!(place.grow(Reader::Consumer), Some(0));
        let follower = Reader::Follower { broker: BROKER + 1 };
        let reading = read(&place, &wanted(1, -1, -1), follower, 1, false).await;
        assert_eq!(reading.unwrap().await.unwrap().error, ErrorCode::None);
        assert_eq!(place.look().high_watermark, 1);
        assert_eq!(place.grow(Reader::Consumer), None);
    }

    #[test]
    fn another_epoch_is_the_partitions_to_judge() {
        for (current, last, idle) in [
            (3, 3, true),
            (2, -1, false),
            (4, -1, false),
            (3, 2, false),
            (-1, 2, false),
        ] {
            assert_eq!(
                is_idle(&PROGRESS, &wanted(30, current, last), Reader::Consumer),
                idle,
                "{current} {last}"
            );
        }
        let follower = Progress {
            is_leader: false,
            ..PROGRESS
        };
        assert!(!is_idle(&follower, &wanted(30, -1, -1), Reader::Consumer));
    }
}
