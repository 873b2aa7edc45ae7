//! One process of a cluster.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{oneshot, watch};

use super::super::output;

/// Says to a process that it is to end when the one that started it does.
const STOP_WITH_PARENT: &str = "TROUPE_STOP_WITH_PARENT";

/// Has this process told to stop when its parent dies, if the parent wishes so: a killed `troupe cluster start` leaves
/// nothing behind. Only Linux can do that.
pub(crate) fn stop_with_parent() {
    #[cfg(target_os = "linux")]
    if std::env::var_os(STOP_WITH_PARENT).is_some() {
        // Without it only the comfort is gone.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    }
}

/// A running process of this program. It is told to stop when this is dropped.
pub(super) struct Child {
    /// What it is to people: `broker 1`.
    pub(super) name: String,
    /// The number of the process.
    pub(super) id: u32,
    ready: Option<oneshot::Receiver<Vec<String>>>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Child {
    /// Starts this program with other arguments. What it logs appears after its name on standard error.
    pub(super) fn start(name: String, arguments: &[String]) -> io::Result<Child> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .env(STOP_WITH_PARENT, "1")
            // Ctrl-C is for the one that started it, which stops everything in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, ready) = oneshot::channel();
        if let Some(stdout) = process.stdout.take() {
            spawn(move || await_ready(stdout, sender))?;
        }
        let id = process.id();
        let (sender, ended) = watch::channel(None);
        let label = name.clone();
        spawn(move || {
            // Its end is told when everything that it said is passed on.
            if let Some(stderr) = process.stderr.take() {
                pass_on(stderr, &label);
            }
            await_end(process, &sender);
        })?;
        Ok(Child {
            name,
            id,
            ready: Some(ready),
            ended,
        })
    }

    /// Waits until it is ready, and returns what it said until then; `None` if it ends before that.
    pub(super) async fn ready(&mut self) -> Option<Vec<String>> {
        self.ready.take()?.await.ok()
    }

    /// Waits until it has ended, and tells how; `None` if that cannot be told. May be cancelled and called again.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|status| *status)
    }

    /// Tells it to stop, which it does in its time.
    pub(super) fn stop(&self) {
        // Until its end is known, its number is nobody else's.
        let runs = self.ended.borrow().is_none() && self.ended.has_changed().is_ok();
        let pid = i32::try_from(self.id).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| runs) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(work).map(drop)
}

fn await_end(mut process: Process, ended: &watch::Sender<Option<ExitStatus>>) {
    if let Ok(status) = process.wait() {
        ended.send_replace(Some(status));
    }
}

/// Collects what a process says until it says what to do next, which is when it is ready; later lines are passed over.
fn await_ready(stdout: impl Read, ready: oneshot::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut said = Vec::new();
    for line in lines.by_ref() {
        let is_last = line.contains(". Next: ");
        said.push(line);
        if is_last {
            let _ = ready.send(said);
            lines.for_each(drop);
            return;
        }
    }
}

fn pass_on(stderr: impl Read, name: &str) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        output::error(format_args!("{name} | {line}"));
    }
}
