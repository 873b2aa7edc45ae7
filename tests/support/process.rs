//! A child process whose output is collected, and which does not outlive its test.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test gives up on it: a guard against hanging, never a measure of speed.
pub const HANG_GUARD: Duration = Duration::from_secs(180);

/// How much of a process's output a failed test shows.
const LINES_OF_A_FAILURE: usize = 100;

#[derive(Default)]
struct Pipes {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: usize,
}

/// What a finished program left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Both streams, for searching and for failure messages.
    pub fn text(&self) -> String {
        format!("{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }

    /// Returns this output when the program succeeded, and panics with everything it said when not.
    #[track_caller]
    pub fn succeeded(self) -> Output {
        assert!(self.status.success(), "{}: {}", self.status, self.text());
        self
    }
}

/// A running child with its collected output.
pub struct Process {
    name: String,
    child: Child,
    pipes: Arc<(Mutex<Pipes>, Condvar)>,
}

impl Process {
    pub fn spawn(name: &str, mut command: Command) -> Process {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let pipes = Arc::new((
            Mutex::new(Pipes {
                open: 2,
                ..Pipes::default()
            }),
            Condvar::new(),
        ));
        collect(child.stdout.take().unwrap(), &pipes, |pipes| {
            &mut pipes.stdout
        });
        collect(child.stderr.take().unwrap(), &pipes, |pipes| {
            &mut pipes.stderr
        });
        Process {
            name: name.to_owned(),
            child,
            pipes,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives the process its whole standard input, from a thread of its own so that neither side can block the other.
    pub fn feed(&mut self, input: &[u8]) {
        let mut stdin = self
            .child
            .stdin
            .take()
            .expect("standard input is given once");
        let input = input.to_vec();
        std::thread::spawn(move || {
            // A program may end before it has read everything.
            let _ = stdin.write_all(&input);
        });
    }

    /// Waits until `found` sees what it looks for in the standard output and error so far.
    ///
    /// Fails with everything that was said when the process ends, or says nothing of the kind for [`HANG_GUARD`].
    pub fn wait_for<T>(&self, found: impl Fn(&str, &str) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + HANG_GUARD;
        let (lock, changed) = &*self.pipes;
        let mut pipes = lock.lock().unwrap();
        loop {
            let (stdout, stderr) = (
                String::from_utf8_lossy(&pipes.stdout),
                String::from_utf8_lossy(&pipes.stderr),
            );
            if let Some(value) = found(&stdout, &stderr) {
                return Ok(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if pipes.open == 0 || left.is_zero() {
                let why = if pipes.open == 0 { "ended" } else { "hangs" };
                return Err(format!(
                    "{} {why}:\n{stdout}\n--- stderr\n{stderr}",
                    self.name
                ));
            }
            pipes = changed.wait_timeout(pipes, left).unwrap().0;
        }
    }

    /// Waits for the process to end by itself.
    pub fn finish(mut self) -> Output {
        drop(self.child.stdin.take());
        if let Err(said) = self.wait_for_end() {
            panic!("{said}");
        }
        self.reap()
    }

    fn wait_for_end(&self) -> Result<(), String> {
        let deadline = Instant::now() + HANG_GUARD;
        let (lock, changed) = &*self.pipes;
        let mut pipes = lock.lock().unwrap();
        while pipes.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (stdout, stderr) = (
                    String::from_utf8_lossy(&pipes.stdout),
                    String::from_utf8_lossy(&pipes.stderr),
                );
                return Err(format!(
                    "{} hangs:\n{stdout}\n--- stderr\n{stderr}",
                    self.name
                ));
            }
            pipes = changed.wait_timeout(pipes, left).unwrap().0;
        }
        Ok(())
    }

    fn reap(&mut self) -> Output {
        let status = self.child.wait().expect("a child can be waited for");
        let mut pipes = self.pipes.0.lock().unwrap();
        Output {
            status,
            stdout: std::mem::take(&mut pipes.stdout),
            stderr: std::mem::take(&mut pipes.stderr),
        }
    }

    /// Ends the process at once, as `kill -9` does, and returns what it had said.
    pub fn kill(mut self) -> Output {
        let _ = self.child.kill();
        self.finish_killed()
    }

    fn finish_killed(&mut self) -> Output {
        let _ = self.wait_for_end();
        self.reap()
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    pub fn terminate(self) -> Output {
        self.signal(Signal::TERM);
        self.finish()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .expect("the process is ours and not reaped yet");
    }

    /// Returns whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything said so far.
    pub fn said(&self) -> String {
        let pipes = self.pipes.0.lock().unwrap();
        format!(
            "{}\n--- stderr\n{}",
            String::from_utf8_lossy(&pipes.stdout),
            String::from_utf8_lossy(&pipes.stderr)
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(LINES_OF_A_FAILURE)..];
            eprintln!("=== the last that {} said\n{}", self.name, last.join("\n"));
        }
    }
}

fn collect(
    mut from: impl Read + Send + 'static,
    pipes: &Arc<(Mutex<Pipes>, Condvar)>,
    into: fn(&mut Pipes) -> &mut Vec<u8>,
) {
    let pipes = Arc::clone(pipes);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let (lock, changed) = &*pipes;
        loop {
            match from.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    into(&mut lock.lock().unwrap()).extend_from_slice(&buffer[..read]);
                    changed.notify_all();
                }
            }
        }
        lock.lock().unwrap().open -= 1;
        changed.notify_all();
    });
}
