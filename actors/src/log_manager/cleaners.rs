//! The log cleaners: tasks on threads of their own that compact one log after the other.
//!
//! A cleaner asks partitions and is asked by nobody, so nothing can wait for it in a circle: a partition hands out what
//! may be compacted and swaps the result in, each in one message, and goes on with its own work in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{oneshot, watch};
use troupe_protocol::kafka::errors::ErrorCode;

use super::Registry;
use super::cleaning::{RETRY_AFTER, Throttle, filthiest, limits};
use crate::config::BrokerConfig;
use crate::log::cleaner::{Cleaning, Job, Limits, Statistics, Step};
use crate::partition::messages::{BeginCleaning, EndCleaning, FindCleanable, ReplaceSegments};
use crate::partition::{PartitionHandle, TopicPartition};
use crate::runtime::{Clock, Runtime};

/// Pauses below this are saved up: timers are not that fine.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The cleaners of a broker.
pub(super) struct Cleaners {
    stop: watch::Sender<bool>,
    /// Closed as each of them ends.
    ended: Vec<oneshot::Receiver<()>>,
}

/// Why a compaction came to no end.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    /// The log was closed or cut, or the broker stops.
    #[error("the log was closed or changed")]
    Changed,
    /// The log is not what was written to it.
    #[error("the log is corrupt: {0}")]
    Corrupt(io::Error),
    #[error(transparent)]
    Io(io::Error),
    #[error("it panicked")]
    Panicked,
}

impl From<io::Error> for Interruption {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Corrupt(error),
            _ => Self::Io(error),
        }
    }
}

impl From<ErrorCode> for Interruption {
    fn from(_: ErrorCode) -> Self {
        // The partition has said what it is.
        Self::Changed
    }
}

/// What the cleaners share.
struct Shared {
    registry: Registry,
    clock: Arc<dyn Clock>,
    limits: Limits,
    backoff: Duration,
    throttle: Mutex<Throttle>,
    hands: Mutex<Hands>,
    stop: watch::Receiver<bool>,
}

/// What the others should not take up.
#[derive(Default)]
struct Hands {
    busy: BTreeSet<TopicPartition>,
    /// Logs whose compaction failed, and until when they are left alone.
    aside: BTreeMap<TopicPartition, Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is done under these locks cannot fail half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cleaners {
    /// Starts as many as `log.cleaner.threads` says, unless `log.cleaner.enable` is false.
    pub(super) fn start(config: &BrokerConfig, runtime: &Runtime, registry: &Registry) -> Self {
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            registry: registry.clone(),
            clock: runtime.clock.clone(),
            limits: limits(config),
            backoff: Duration::from_millis(config.log_cleaner_backoff_ms.max(1)),
            throttle: Mutex::new(Throttle::new(config.log_cleaner_io_max_bytes_per_second)),
            hands: Mutex::default(),
            stop: stopped,
        });
        let count = match config.log_cleaner_enable {
            true => config.log_cleaner_threads,
            false => 0,
        };
        let start = |number| {
            let (alive, ended) = oneshot::channel();
            let shared = shared.clone();
            runtime.cleaners.spawn(number, move || async move {
                shared.run().await;
                drop::<oneshot::Sender<()>>(alive);
            });
            ended
        };
        Self {
            stop,
            ended: (0..count).map(start).collect(),
        }
    }

    /// Tells all cleaners to stop; the future is over when they have.
    pub(super) fn stop(&mut self) -> impl Future<Output = ()> + use<> {
        self.stop.send_replace(true);
        let ended = std::mem::take(&mut self.ended);
        async move {
            for ended in ended {
                let _ = ended.await;
            }
        }
    }
}

impl Shared {
    async fn run(&self) {
        let mut stop = self.stop.clone();
        while !*stop.borrow() {
            if self.clean_filthiest().await {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(self.backoff) => {}
                // Nobody is left who could say more.
                changed = stop.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Compacts the log that needs it most; `false` when none does.
    async fn clean_filthiest(&self) -> bool {
        let Some(partition) = self.choose().await else {
            return false;
        };
        let name = partition.topic_partition();
        let cleaned = AssertUnwindSafe(self.clean(&partition))
            .catch_unwind()
            .await;
        let failed = match cleaned.unwrap_or(Err(Interruption::Panicked)) {
            Ok(()) | Err(Interruption::Changed) => None,
            Err(error) => Some(error),
        };
        let mut hands = lock(&self.hands);
        hands.busy.remove(name);
        let Some(error) = failed else {
            return true;
        };
        let for_now =
            matches!(&error, Interruption::Io(error) if error.kind() != io::ErrorKind::InvalidData);
        let until = match for_now {
            true => self.clock.monotonic().saturating_add(RETRY_AFTER),
            false => Duration::MAX,
        };
        hands.aside.insert(name.clone(), until);
        match for_now {
            true => {
                tracing::error!(partition = %name, "compaction failed, it will be tried again: {error}")
            }
            false => {
                tracing::error!(partition = %name, "compaction failed, the log is not compacted any more: {error}")
            }
        }
        true
    }

    /// Chooses a log and marks it as busy.
    async fn choose(&self) -> Option<PartitionHandle> {
        let mut found = Vec::new();
        for partition in self.candidates() {
            let cleanable = partition.ask(|reply| FindCleanable { reply }).await;
            if let Ok(Some(cleanable)) = cleanable {
                found.push((partition, cleanable));
            }
        }
        let mut hands = lock(&self.hands);
        // Another cleaner may have taken one meanwhile.
        found.retain(|(partition, _)| !hands.busy.contains(partition.topic_partition()));
        let partition = filthiest(found)?;
        hands.busy.insert(partition.topic_partition().clone());
        Some(partition)
    }

    fn candidates(&self) -> Vec<PartitionHandle> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let (mut hands, now) = (lock(&self.hands), self.clock.monotonic());
        hands
            .aside
            .retain(|name, until| *until > now && registry.contains_key(name));
        let free = |partition: &&PartitionHandle| {
            let name = partition.topic_partition();
            partition.is_compacted()
                && !hands.busy.contains(name)
                && !hands.aside.contains_key(name)
        };
        registry.values().filter(free).cloned().collect()
    }

    /// Compacts a log; once more when it looks corrupt, since it may have been cut while it was read.
    async fn clean(&self, partition: &PartitionHandle) -> Result<(), Interruption> {
        match self.try_clean(partition).await {
            Err(Interruption::Corrupt(_)) => self.try_clean(partition).await,
            result => result,
        }
    }

    async fn try_clean(&self, partition: &PartitionHandle) -> Result<(), Interruption> {
        let job = partition.ask(|reply| BeginCleaning { reply }).await?;
        let Some(job) = job else {
            return Ok(());
        };
        let started = self.clock.monotonic();
        let from = job.first_dirty();
        let cleaning = self.work(partition, job).await?;
        let cleaned_to = cleaning.cleaned_to();
        partition.send(EndCleaning { cleaned_to }).await?;
        let took = self.clock.monotonic().saturating_sub(started);
        report(partition, (from, cleaned_to), &cleaning.statistics(), took);
        Ok(())
    }

    async fn work(&self, partition: &PartitionHandle, job: Job) -> Result<Cleaning, Interruption> {
        let mut cleaning = Cleaning::new(job, self.limits)?;
        loop {
            if *self.stop.borrow() || partition.is_closed() {
                return Err(Interruption::Changed);
            }
            match cleaning.step()? {
                Step::Worked(bytes) => self.pause(bytes).await,
                Step::Replace(replacement) => {
                    let build = |reply| ReplaceSegments { replacement, reply };
                    if !partition.ask(build).await? {
                        return Err(Interruption::Changed);
                    }
                }
                Step::Done => return Ok(cleaning),
            }
        }
    }

    /// Keeps to the rate, and lets others have their turn where the thread is shared.
    async fn pause(&self, bytes: u64) {
        let pause = lock(&self.throttle).charge(bytes, self.clock.monotonic());
        if pause < PAUSE_MIN {
            tokio::task::yield_now().await;
            return;
        }
        let mut stop = self.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Says what a compaction did.
fn report(
    partition: &PartitionHandle,
    (from, to): (i64, i64),
    statistics: &Statistics,
    took: Duration,
) {
    const MEGABYTE: f64 = 1024.0 * 1024.0;
    let read = statistics.read_bytes as f64 / MEGABYTE;
    let written = statistics.written_bytes as f64 / MEGABYTE;
    let seconds = took.as_secs_f64().max(0.001);
    tracing::info!(
        partition = %partition.topic_partition(),
        from,
        to,
        records_before = statistics.read_records,
        records_after = statistics.written_records,
        map_percent = (statistics.map_utilization * 100.0).round(),
        "compacted {read:.1} MB to {written:.1} MB in {seconds:.1} s ({:.1} MB/s)",
        read / seconds
    );
}
