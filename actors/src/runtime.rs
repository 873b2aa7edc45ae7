//! What every actor is given from outside: the time, a thread to live on, a place for work that blocks, the network.
//!
//! Nothing else in this crate reads the system clock, chooses an arbiter or opens a socket, so that a whole broker can run
//! in one thread on a time and a network that a test makes.

use std::cell::Cell;
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::{Actor, Addr, Context};
use actix_rt::{Arbiter, ArbiterHandle};
use futures_util::future::Either;

use crate::network::Network;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Returns milliseconds since the Unix epoch, as record timestamps count them.
    fn now_ms(&self) -> i64;

    /// Returns the time since some fixed moment; never goes back, whatever happens to the wall clock.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts a clock whose monotonic time counts from now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            })
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

thread_local! {
    /// The number of this thread in its pool.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Returns the number of the current thread in its pool; 0 outside of any.
pub fn current_thread() -> usize {
    NUMBER.get()
}

/// A set of threads, each running one arbiter.
///
/// An empty pool stands for the current thread: that is how tests and simulations place everything.
#[derive(Clone, Default)]
pub struct ThreadPool {
    arbiters: Arc<Vec<ArbiterHandle>>,
}

impl ThreadPool {
    /// Starts `size` threads.
    pub fn start(size: usize) -> Self {
        let arbiters = (0..size).map(|number| {
            let arbiter = Arbiter::new().handle();
            arbiter.spawn_fn(move || NUMBER.set(number));
            arbiter
        });
        Self {
            arbiters: Arc::new(arbiters.collect()),
        }
    }

    /// Starts `size` threads whose names, as the system shows them, are `name-0` and so on, cut to 15 bytes.
    pub fn start_named(size: usize, name: &str) -> Self {
        let pool = Self::start(size);
        for (number, arbiter) in pool.arbiters.iter().enumerate() {
            let name = CString::new(format!("{name}-{number}")).unwrap_or_default();
            arbiter.spawn_fn(move || {
                // A name is a help for those who look, and nothing more.
                let _ = rustix::thread::set_name(&name);
            });
        }
        pool
    }

    /// Returns the pool that is the current thread.
    pub fn current() -> Self {
        Self::default()
    }

    /// Tells whether its threads are others than the current one.
    pub fn is_separate(&self) -> bool {
        !self.arbiters.is_empty()
    }

    /// Returns how many threads there are, at least one.
    pub fn size(&self) -> usize {
        self.arbiters.len().max(1)
    }

    /// Starts an actor on the thread chosen by `key`; one key always means one thread.
    pub fn start_actor<A, F>(&self, key: usize, create: F) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
        F: FnOnce(&mut Context<A>) -> A + Send + 'static,
    {
        match self.arbiter(key) {
            Some(arbiter) => A::start_in_arbiter(arbiter, create),
            None => A::create(create),
        }
    }

    /// Runs a future on the thread chosen by `key`, built there by `create`.
    pub fn spawn<F, T>(&self, key: usize, create: F)
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = ()> + 'static,
    {
        match self.arbiter(key) {
            Some(arbiter) => {
                arbiter.spawn_fn(move || {
                    actix_rt::spawn(create());
                });
            }
            None => {
                actix_rt::spawn(create());
            }
        }
    }

    /// Does something on the thread chosen by `key` that may block there; `None` if that thread has ended.
    pub async fn run<T, F>(&self, key: usize, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (done, result) = tokio::sync::oneshot::channel();
        self.spawn(key, move || async move {
            let _ = done.send(work());
        });
        result.await.ok()
    }

    /// Asks every thread to stop once it has nothing to run.
    pub fn stop(&self) {
        for arbiter in self.arbiters.iter() {
            arbiter.stop();
        }
    }

    fn arbiter(&self, key: usize) -> Option<&ArbiterHandle> {
        let size = self.arbiters.len();
        (size > 0).then(|| self.arbiters.get(key % size)).flatten()
    }
}

/// Where work is done that blocks: flushes and whole files.
#[derive(Clone, Default)]
pub enum Blocking {
    /// On threads of their own.
    #[default]
    Pool,
    /// On the current thread, each piece after as long as this says.
    Simulated(Arc<dyn Fn() -> Duration + Send + Sync>),
}

/// Work that blocks did not come to its end: it panicked.
#[derive(Debug, thiserror::Error)]
#[error("it panicked")]
pub struct Panicked;

impl Blocking {
    /// Has the work done, at once on the pool, and returns what comes of it.
    ///
    /// # Errors
    /// When it panicked.
    pub fn run<T, F>(&self, work: F) -> impl Future<Output = Result<T, Panicked>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Pool => {
                let done = tokio::task::spawn_blocking(work);
                Either::Left(async { done.await.map_err(|_| Panicked) })
            }
            Self::Simulated(delay) => {
                let delay = delay();
                Either::Right(async move {
                    tokio::time::sleep(delay).await;
                    Ok(work())
                })
            }
        }
    }

    /// Has the work done; nobody waits for it.
    pub fn start(&self, work: impl FnOnce() + Send + 'static) {
        actix_rt::spawn(self.run(work));
    }
}

/// What a broker runs on.
///
/// Connections and partitions may share their threads, or have threads of their own. When they share, a connection
/// moves to the thread of the partitions that it talks to, and no message leaves that thread.
#[derive(Clone)]
pub struct Runtime {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Connections live here.
    pub gateway: ThreadPool,
    /// Partitions live here, with their file work.
    pub logs: ThreadPool,
    /// Logs are compacted here, and nothing else happens here.
    pub cleaners: ThreadPool,
    /// The embedded coordination service lives here, with its connections and the flushes of its journal.
    pub coordination: ThreadPool,
    /// Flushes and whole files are done here.
    pub blocking: Blocking,
    /// Clients and other brokers are here.
    pub network: Network,
}

impl Runtime {
    /// Returns a runtime whose connections and partitions share `size` threads.
    pub fn shared(clock: Arc<dyn Clock>, size: usize) -> Self {
        let threads = ThreadPool::start(size);
        Self {
            clock,
            gateway: threads.clone(),
            logs: threads,
            cleaners: ThreadPool::current(),
            coordination: ThreadPool::current(),
            blocking: Blocking::Pool,
            network: Network::System,
        }
    }

    /// Gives the log cleaners `size` threads of their own.
    pub fn with_cleaners(self, size: usize) -> Self {
        Self {
            cleaners: ThreadPool::start_named(size, "log-cleaner"),
            ..self
        }
    }

    /// Gives the coordination service a thread of its own, which waits for the disk while nobody else does.
    pub fn with_coordination(self) -> Self {
        Self {
            coordination: ThreadPool::start_named(1, "znode"),
            ..self
        }
    }

    /// Tells whether connections and partitions share their threads.
    pub fn is_shared(&self) -> bool {
        Arc::ptr_eq(&self.gateway.arbiters, &self.logs.arbiters)
    }

    /// Returns a runtime with everything on the current thread and the given clock.
    pub fn single_threaded(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            gateway: ThreadPool::current(),
            logs: ThreadPool::current(),
            cleaners: ThreadPool::current(),
            coordination: ThreadPool::current(),
            blocking: Blocking::Pool,
            network: Network::System,
        }
    }

    /// Returns a runtime for a simulation: one thread, with its clock, its network and its disks.
    pub fn simulated(clock: Arc<dyn Clock>, network: Network, blocking: Blocking) -> Self {
        Self {
            blocking,
            network,
            ..Self::single_threaded(clock)
        }
    }
}
