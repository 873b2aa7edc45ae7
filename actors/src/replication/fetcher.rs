//! Fetches from one leader, for the followers on this broker.
//!
//! One request at a time asks for all partitions, in one fetch session; the next one goes out when all answers are in
//! the logs, so what is in memory is one answer. A partition with an error pauses alone, an unreachable leader all.

use std::collections::BTreeMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};
use troupe_protocol::kafka::api::{ApiKey, Request};
use troupe_protocol::kafka::errors::ErrorCode;
use troupe_protocol::kafka::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, IsolationLevel,
};
use uuid::Uuid;

use super::fetchers::{Assignment, Followed, Orders};
use super::session::{FetchSession, Wanted};
use crate::broker_client::Connection;
use crate::config::{BrokerConfig, Listener};
use crate::metadata::BrokerId;
use crate::network::Network;
use crate::partition::messages::{AppendReplicated, Locate, Position, Truncate, TruncateTo};
use crate::partition::{Answer, PartitionHandle, TopicPartition};

mod offsets;

/// The version that is spoken: with topic ids, so that nobody follows another topic of the same name.
const FETCH_VERSION: i16 = 13;

/// What holds for all fetchers of a broker.
pub(super) struct Settings {
    broker_id: BrokerId,
    pub(super) fetchers_per_leader: usize,
    max_wait_ms: i32,
    min_bytes: i32,
    /// Of a partition and of an answer, softly.
    partition_max_bytes: i32,
    response_max_bytes: i32,
    /// The largest answer that is read: what may be answered, and one batch more.
    answer_limit: usize,
    backoff: Duration,
    patience: Duration,
    network: Network,
}

fn int(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

impl Settings {
    pub(super) fn new(broker_id: BrokerId, config: &BrokerConfig, network: Network) -> Self {
        let response_max_bytes = config.replica_fetch_response_max_bytes;
        Self {
            network,
            broker_id,
            fetchers_per_leader: config.num_replica_fetchers.max(1),
            max_wait_ms: int(config.replica_fetch_wait_max_ms),
            min_bytes: config.replica_fetch_min_bytes,
            partition_max_bytes: int(config.replica_fetch_max_bytes),
            response_max_bytes: int(response_max_bytes),
            // No producer could send a larger batch.
            answer_limit: response_max_bytes.saturating_add(config.socket_request_max_bytes),
            backoff: Duration::from_millis(config.replica_fetch_backoff_ms.max(1)),
            patience: Duration::from_millis(config.replica_socket_timeout_ms),
        }
    }
}

/// Fetches until the orders say that it is over; begins anew after a panic.
pub(super) async fn run(settings: Arc<Settings>, leader: BrokerId, assignment: Arc<Assignment>) {
    loop {
        let fetcher = Fetcher::new(Arc::clone(&settings), leader, Arc::clone(&assignment));
        let fetched = AssertUnwindSafe(fetcher.fetch()).catch_unwind().await;
        if fetched.is_ok() {
            return;
        }
        tracing::error!(leader, "a replica fetcher panicked, it begins anew");
        sleep(settings.backoff).await;
    }
}

/// The first pause after something went wrong. Mostly the leader has its orders a moment later than the follower.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// What is known of a partition.
struct Followee {
    followed: Followed,
    state: State,
    /// How often in a row something went wrong.
    failures: u32,
}

impl Followee {
    /// Pauses twice as long each time, up to `longest`.
    fn pause(&mut self, longest: Duration) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Paused(Instant::now() + pause.min(longest));
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// How far its log is has to be asked.
    Unknown,
    /// It is this far.
    At(Position),
    /// Something went wrong; to be tried again then.
    Paused(Instant),
    /// Nothing can be done without other orders.
    Stopped,
}

/// What an answer did to a partition.
enum Outcome {
    /// It is there now.
    At(Position),
    /// The leader's log does not have the offset.
    OutOfRange,
    /// To be tried again after a while.
    Retry(ErrorCode),
    /// There have to be other orders.
    Stop(ErrorCode),
}

struct Fetcher {
    settings: Arc<Settings>,
    leader: BrokerId,
    assignment: Arc<Assignment>,
    /// The version of the orders that were taken last.
    obeyed: u64,
    address: Option<Listener>,
    followees: BTreeMap<TopicPartition, Followee>,
    session: FetchSession,
    connection: Option<Connection>,
    /// Whether the last attempt failed, which was reported then.
    failing: bool,
}

impl Fetcher {
    fn new(settings: Arc<Settings>, leader: BrokerId, assignment: Arc<Assignment>) -> Self {
        Self {
            settings,
            leader,
            assignment,
            obeyed: 0,
            address: None,
            followees: BTreeMap::new(),
            session: FetchSession::default(),
            connection: None,
            failing: false,
        }
    }

    async fn fetch(mut self) {
        let assignment = Arc::clone(&self.assignment);
        loop {
            // They are copied when there are new ones only: there may be many partitions.
            let orders = {
                let orders = assignment.orders();
                (orders.version != self.obeyed).then(|| orders.clone())
            };
            if let Some(orders) = orders {
                if orders.closed {
                    return;
                }
                self.obey(orders);
            }
            self.locate().await;
            let wanted = self.wanted();
            if wanted.is_empty() {
                self.rest().await;
                continue;
            }
            // Orders that come meanwhile are seen after this round; only the end is not waited for.
            let done = {
                let round = self.round(wanted);
                tokio::pin!(round);
                loop {
                    tokio::select! {
                        done = &mut round => break done,
                        () = assignment.changed.notified() => {
                            if assignment.orders().closed {
                                return;
                            }
                        }
                    }
                }
            };
            match done {
                Ok(()) => self.failing = false,
                Err(error) => self.fail(&error).await,
            }
        }
    }

    /// Takes new orders.
    fn obey(&mut self, orders: Orders) {
        self.obeyed = orders.version;
        if self.address != orders.address {
            self.address = orders.address;
            self.hang_up();
        }
        let mut before = std::mem::take(&mut self.followees);
        for (topic_partition, followed) in orders.partitions {
            let same = before
                .remove(&topic_partition)
                .filter(|known| known.followed.order == followed.order);
            let followee = same.unwrap_or(Followee {
                followed,
                state: State::Unknown,
                failures: 0,
            });
            self.followees.insert(topic_partition, followee);
        }
    }

    fn hang_up(&mut self) {
        self.connection = None;
        self.session.reset();
    }

    /// Asks the replicas how far they are where that is not known.
    async fn locate(&mut self) {
        let now = Instant::now();
        let lost = self.followees.values_mut().filter(|followee| {
            matches!(followee.state, State::Unknown)
                || matches!(followee.state, State::Paused(until) if until <= now)
        });
        let backoff = self.settings.backoff;
        join_all(lost.map(|followee| async move {
            let replica = &followee.followed.replica;
            match replica.ask(|reply| Locate { reply }).await {
                Ok(position) => followee.state = State::At(position),
                Err(_) if replica.is_closed() => followee.state = State::Stopped,
                Err(_) => followee.pause(backoff),
            }
        }))
        .await;
    }

    /// Says what to ask the leader for.
    fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::new();
        for (topic_partition, followee) in &self.followees {
            let State::At(position) = followee.state else {
                continue;
            };
            let index = topic_partition.partition;
            let partition = FetchPartition {
                index,
                current_leader_epoch: followee.followed.leader_epoch,
                fetch_offset: position.log_end_offset,
                last_fetched_epoch: position.last_epoch,
                log_start_offset: position.log_start_offset,
                max_bytes: self.settings.partition_max_bytes,
                replica_directory_id: Uuid::nil(),
                high_watermark: i64::MAX,
            };
            wanted.insert((followee.followed.replica.topic_id(), index), partition);
        }
        wanted
    }

    /// Waits for orders, or for the end of a pause.
    async fn rest(&mut self) {
        if self.followees.is_empty() {
            self.hang_up();
        }
        let ends = self
            .followees
            .values()
            .filter_map(|followee| match followee.state {
                State::Paused(until) => Some(until),
                _ => None,
            });
        let changed = self.assignment.changed.notified();
        match ends.min() {
            Some(until) => {
                tokio::select! {
                    () = changed => {}
                    () = sleep_until(until) => {}
                }
            }
            None => changed.await,
        }
    }

    /// Reports that the leader does not answer, and waits a while.
    async fn fail(&mut self, error: &io::Error) {
        self.hang_up();
        let leader = self.leader;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(leader, "cannot fetch from the leader, trying on: {error}");
        }
        let assignment = Arc::clone(&self.assignment);
        tokio::select! {
            // Another address, perhaps.
            () = assignment.changed.notified() => {}
            () = sleep(self.settings.backoff) => {}
        }
    }

    /// Asks once, and does what the answer says.
    async fn round(&mut self, wanted: Wanted) -> io::Result<()> {
        let response = self.ask(wanted).await?;
        self.session.answered(response.error, response.session_id);
        match response.error {
            ErrorCode::None => {}
            // The leader forgot the session: the next request says everything again.
            ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError => return Ok(()),
            error => return Err(io::Error::other(error.name())),
        }
        self.deliver(response).await
    }

    async fn ask(&mut self, wanted: Wanted) -> io::Result<FetchResponse<Bytes>> {
        if self.connection.is_none() {
            self.session.reset();
        }
        let asked = self.session.request(wanted);
        let settings = Arc::clone(&self.settings);
        let request = FetchRequest {
            cluster_id: None,
            replica_id: settings.broker_id,
            replica_epoch: -1,
            max_wait_ms: settings.max_wait_ms,
            min_bytes: settings.min_bytes,
            max_bytes: settings.response_max_bytes,
            isolation_level: IsolationLevel::ReadUncommitted,
            session_id: asked.session_id,
            session_epoch: asked.session_epoch,
            topics: asked.topics,
            forgotten_topics: asked.forgotten,
            rack_id: String::new(),
        };
        let write = |out: &mut _| {
            request.encode(FETCH_VERSION, out);
            Ok(())
        };
        let connection = self.connection().await?;
        let body = connection.call(ApiKey::Fetch, FETCH_VERSION, write).await?;
        FetchResponse::decode(FETCH_VERSION, body)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    async fn connection(&mut self) -> io::Result<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let address = self.address.as_ref();
                let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
                let settings = &self.settings;
                let client_id = format!("broker-{}-fetcher-{}", settings.broker_id, self.leader);
                let place = (address.host.as_str(), address.port);
                let (patience, limit) = (settings.patience, settings.answer_limit);
                Connection::open(&settings.network, place, client_id, patience, limit).await?
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Gives each replica its part of the answer, and waits until all have done with it.
    async fn deliver(&mut self, response: FetchResponse<Bytes>) -> io::Result<()> {
        let ids: BTreeMap<(Uuid, i32), TopicPartition> = self
            .followees
            .iter()
            .map(|(name, followee)| {
                let topic_id = followee.followed.replica.topic_id();
                ((topic_id, name.partition), name.clone())
            })
            .collect();
        let mut delivering = Vec::new();
        for topic in response.topics {
            for partition in topic.partitions {
                let Some(name) = ids.get(&(topic.topic_id, partition.index)) else {
                    continue;
                };
                let Some(followee) = self.followees.get(name) else {
                    continue;
                };
                let followed = followee.followed.clone();
                delivering.push(async move {
                    let outcome = take(&followed.replica, followed.leader_epoch, partition).await;
                    (name.clone(), outcome)
                });
            }
        }
        for (name, outcome) in join_all(delivering).await {
            self.conclude(&name, outcome).await?;
        }
        Ok(())
    }

    async fn conclude(&mut self, name: &TopicPartition, outcome: Outcome) -> io::Result<()> {
        let outcome = match outcome {
            Outcome::OutOfRange => self.find_range(name).await?,
            other => other,
        };
        let (backoff, leader) = (self.settings.backoff, self.leader);
        let Some(followee) = self.followees.get_mut(name) else {
            return Ok(());
        };
        let epoch = followee.followed.leader_epoch;
        match outcome {
            Outcome::At(position) => {
                followee.state = State::At(position);
                followee.failures = 0;
            }
            Outcome::Retry(error) => {
                let error = error.name();
                tracing::debug!(partition = %name, leader, epoch, error, "trying again after a while");
                followee.pause(backoff);
            }
            Outcome::OutOfRange => followee.pause(backoff),
            Outcome::Stop(error) => {
                let error = error.name();
                tracing::info!(partition = %name, leader, epoch, error, "follows no more, until there are orders");
                followee.state = State::Stopped;
            }
        }
        Ok(())
    }
}

/// Has a replica do what its leader answered.
async fn take(
    replica: &PartitionHandle,
    leader_epoch: i32,
    response: FetchPartitionResponse<Bytes>,
) -> Outcome {
    match response.error {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange => return Outcome::OutOfRange,
        // There is a newer leadership, of which this broker will hear.
        error @ ErrorCode::FencedLeaderEpoch => return Outcome::Stop(error),
        // The leader has not heard of its leadership yet, or does not lead any more.
        error => return Outcome::Retry(error),
    }
    if let Some(diverging) = response.diverging_epoch {
        let to = TruncateTo::Divergence {
            epoch: diverging.epoch,
            end_offset: diverging.end_offset,
        };
        return truncate(replica, leader_epoch, to).await;
    }
    let build = |reply| AppendReplicated {
        records: response.records.unwrap_or_default(),
        leader_epoch,
        high_watermark: response.high_watermark,
        log_start_offset: response.log_start_offset,
        reply,
    };
    outcome(replica, replica.ask(build).await)
}

async fn truncate(replica: &PartitionHandle, leader_epoch: i32, to: TruncateTo) -> Outcome {
    let build = |reply| Truncate {
        leader_epoch,
        to,
        reply,
    };
    outcome(replica, replica.ask(build).await)
}

fn outcome(replica: &PartitionHandle, answer: Answer<Position>) -> Outcome {
    match answer {
        Ok(position) => Outcome::At(position),
        Err(error @ ErrorCode::FencedLeaderEpoch) => Outcome::Stop(error),
        Err(error) if replica.is_closed() || replica.progress().failed => Outcome::Stop(error),
        Err(error) => Outcome::Retry(error),
    }
}
