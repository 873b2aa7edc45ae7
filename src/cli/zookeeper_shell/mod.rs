//! `troupe zookeeper-shell`: looks at a tree of znodes and changes it, with the commands of ZooKeeper's own shell.

mod commands;
mod format;
mod line;
mod reads;
mod writes;

use std::cell::Cell;
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;

use super::output;
use crate::znode_client::{Client, ConnectError, ConnectString, Event, state};

/// How many of the last commands `history` shows, before the current one.
const HISTORY: usize = 10;
/// The exit code after a command that is none.
const NOT_FOUND: u8 = 127;

#[derive(Debug, Args)]
pub(crate) struct ShellCommand {
    /// Where ZooKeeper is: HOST:PORT, more of them after commas, and a chroot such as /kafka.
    #[arg(value_name = "HOST:PORT[/CHROOT]")]
    connect: String,
    /// The session time-out in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    timeout: u64,
    /// One command to do instead of those on standard input, such as `ls /`; `help` lists them.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

/// The shell between two commands.
struct Shell {
    connect: String,
    timeout: Duration,
    client: Option<Client>,
    history: Vec<String>,
    state: Rc<Cell<i32>>,
    prints_watches: Rc<Cell<bool>>,
    exit_code: u8,
}

pub(crate) fn run(command: &ShellCommand) -> ExitCode {
    let exit_code = actix_rt::System::new().block_on(async {
        let mut shell = Shell {
            connect: command.connect.clone(),
            timeout: Duration::from_millis(command.timeout),
            client: None,
            history: Vec::new(),
            state: Rc::new(Cell::new(state::DISCONNECTED)),
            prints_watches: Rc::new(Cell::new(true)),
            exit_code: 0,
        };
        if let Err(error) = shell.open().await {
            output::error(error);
            return 1;
        }
        if command.command.is_empty() {
            shell.interact().await;
        } else {
            shell.perform(&command.command).await;
        }
        if let Some(client) = shell.client.take() {
            client.close().await;
        }
        shell.exit_code
    });
    ExitCode::from(exit_code)
}

impl Shell {
    async fn open(&mut self) -> Result<(), ConnectError> {
        output::line(format_args!("Connecting to {}", self.connect));
        let connect = ConnectString::parse(&self.connect)?;
        let (state, prints) = (Rc::clone(&self.state), Rc::clone(&self.prints_watches));
        let tell = move |event: Event| {
            if event.kind == -1 {
                state.set(event.state);
            }
            if prints.get() {
                output::line(format::event(&event));
            }
        };
        self.client = Some(Client::start(&connect, self.timeout, tell).await?);
        Ok(())
    }

    /// Does the commands of standard input until it ends, or until one of them is to quit.
    async fn interact(&mut self) {
        output::line("Welcome to ZooKeeper!");
        let is_terminal = std::io::stdin().is_terminal();
        let mut lines = lines();
        loop {
            if is_terminal {
                self.prompt();
            }
            let Some(line) = lines.recv().await else {
                return;
            };
            let words = line::split(&line);
            if words.is_empty() {
                continue;
            }
            self.history.push(line);
            if !self.perform(&words).await {
                return;
            }
        }
    }

    fn prompt(&self) {
        let state = match self.state.get() {
            state::SYNC_CONNECTED => "CONNECTED",
            state::CLOSED | state::EXPIRED | state::AUTH_FAILED => "CLOSED",
            _ => "CONNECTING",
        };
        let number = self.history.len();
        output::prompt(&format!("[zk: {}({state}) {number}] ", self.connect));
    }

    /// Does one command, and returns whether there can be another one.
    async fn perform(&mut self, words: &[String]) -> bool {
        let Some((name, rest)) = words.split_first() else {
            return true;
        };
        self.exit_code = 0;
        match name.as_str() {
            "quit" => {
                self.close().await;
                return false;
            }
            "history" => self.show_history(),
            "redo" => return Box::pin(self.redo(rest)).await,
            "printwatches" => self.print_watches(rest),
            "connect" => self.reconnect(rest).await,
            "close" => self.close().await,
            _ => self.ask(name, rest).await,
        }
        true
    }

    /// Ends the session, and says so.
    async fn close(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        client.close().await;
        self.state.set(state::CLOSED);
        if self.prints_watches.get() {
            let closed = Event {
                state: state::CLOSED,
                kind: -1,
                path: None,
                zxid: -1,
            };
            output::line(format::event(&closed));
        }
    }

    /// Does a command that needs the service.
    async fn ask(&mut self, name: &str, words: &[String]) {
        let Some(command) = commands::find(name) else {
            output::error(commands::help());
            if name != "help" {
                output::error(format_args!("Command not found: Command not found {name}"));
                self.exit_code = NOT_FOUND;
            }
            return;
        };
        match &self.client {
            Some(client) => {
                let done = commands::run(client, command, words).await;
                self.exit_code = u8::from(!done);
            }
            None => output::line("Not connected"),
        }
    }

    fn show_history(&self) {
        let first = self.history.len().saturating_sub(HISTORY + 1);
        for (number, line) in self.history.iter().enumerate().skip(first) {
            output::line(format_args!("{number} - {line}"));
        }
    }

    async fn redo(&mut self, words: &[String]) -> bool {
        let earlier = words.first().and_then(|number| {
            let number: usize = number.parse().ok()?;
            // The last line is this one.
            let before = self.history.len().checked_sub(1)?;
            self.history.get(..before)?.get(number).cloned()
        });
        let Some(line) = earlier else {
            output::error("Command index out of range");
            return true;
        };
        let words = line::split(&line);
        if words.first().is_some_and(|name| name == "redo") {
            output::error("No redoing redos");
            return true;
        }
        if let Some(last) = self.history.last_mut() {
            *last = line;
        }
        self.perform(&words).await
    }

    fn print_watches(&mut self, words: &[String]) {
        match words.first().map(String::as_str) {
            None => {
                let state = if self.prints_watches.get() {
                    "on"
                } else {
                    "off"
                };
                output::line(format_args!("printwatches is {state}"));
            }
            Some(word) => self.prints_watches.set(word == "on"),
        }
    }

    async fn reconnect(&mut self, words: &[String]) {
        if let Some(connect) = words.first() {
            self.connect.clone_from(connect);
        }
        self.close().await;
        if let Err(error) = self.open().await {
            output::error(error);
            self.exit_code = 1;
        }
    }
}

/// Reads standard input line by line on a thread of its own, for nothing else can wait for it.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
