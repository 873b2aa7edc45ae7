//! The same random script, of three clients, sent to Troupe and to Apache ZooKeeper 3.9: every result, error, Stat and
//! watch event must be the same, in the same order.
//!
//! Not compared: times, the distance between transactions (their order is), the order of sets, and the order of the
//! events of one closed session, whose nodes ZooKeeper deletes in no particular order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::random::seed;
use support::server::{Kind, Server};
use support::zookeeper::{
    Apache, Auth, Client, Message, Op, Session, Since, WatchLists, open_acl, render,
};
use troupe_protocol::zookeeper::requests::op;
use troupe_protocol::zookeeper::{Acl, Id};

const CLIENTS: usize = 3;
const STEPS: usize = 80;
const TIMEOUT_MS: i32 = 30_000;

/// What one client does.
#[derive(Clone, Debug)]
enum Step {
    /// Sends these without waiting in between.
    Send(usize, Vec<Op>),
    /// Loses its connection, and for the time being does nothing.
    Lose(usize),
    /// Comes back to its session.
    Reconnect(usize),
    /// Ends its session and begins another one.
    Renew(usize),
    /// Is refused, loses its connection by it, and comes back.
    Refused(usize, Op),
}

#[test]
fn random_scripts_have_the_same_results() {
    let Some(apache) = Apache::start() else {
        return;
    };
    compare(&apache, seed(), 30);
}

#[test]
#[ignore = "long"]
fn hundreds_of_random_scripts_have_the_same_results() {
    let Some(apache) = Apache::start() else {
        return;
    };
    compare(&apache, seed(), 600);
}

fn compare(apache: &Apache, first: u64, scripts: u64) {
    let troupe = Server::with().kind(Kind::Troupe).start();
    for seed in (0..scripts).map(|number| first.wrapping_add(number)) {
        let script = Script::random(seed);
        let ours = script.play(troupe.zookeeper_port());
        let theirs = script.play(apache.port());
        if let Some((at, (ours, theirs))) = ours
            .iter()
            .zip(&theirs)
            .enumerate()
            .find(|(_, (ours, theirs))| ours != theirs)
        {
            let (step, _) = ours;
            let before: String = script
                .steps
                .iter()
                .take(*step + 1)
                .enumerate()
                .map(|(at, step)| format!("{at}: {step:?}\n"))
                .collect();
            panic!(
                "TROUPE_TEST_SEED={seed} differs at step {step}, message {at}:\n\
                 troupe    {}\nzookeeper {}\nafter:\n{before}",
                ours.1, theirs.1
            );
        }
        assert_eq!(ours.len(), theirs.len(), "TROUPE_TEST_SEED={seed}");
    }
}

struct Script {
    base: String,
    steps: Vec<Step>,
}

impl Script {
    fn random(seed: u64) -> Script {
        let base = format!("/differential-{seed}");
        let mut generator = Generator {
            random: StdRng::seed_from_u64(seed),
            base: base.clone(),
            with_lists: seed.is_multiple_of(2),
        };
        let mut steps = vec![Step::Send(0, vec![create(&base, 0)])];
        let mut lost: Option<usize> = None;
        while steps.len() < STEPS {
            let step = generator.step(lost);
            match step {
                Step::Lose(client) => lost = Some(client),
                Step::Reconnect(_) => lost = None,
                _ => {}
            }
            steps.push(step);
        }
        steps.extend(lost.map(Step::Reconnect));
        Script { base, steps }
    }

    /// Returns what the server said, each with the number of its step.
    fn play(&self, port: u16) -> Vec<(usize, String)> {
        let mut stage = Stage::new(port);
        for (number, step) in self.steps.iter().enumerate() {
            stage.play(number, step);
        }
        stage.finish(&self.base)
    }
}

/// Three clients on one server.
struct Stage {
    port: u16,
    clients: Vec<Result<Client, (Session, i64)>>,
    said: Vec<(usize, (String, Message))>,
    sessions: BTreeMap<i64, String>,
}

impl Stage {
    fn new(port: u16) -> Stage {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| Client::connect(port, TIMEOUT_MS))
            .collect();
        let mut stage = Stage {
            port,
            clients: Vec::new(),
            said: Vec::new(),
            sessions: BTreeMap::new(),
        };
        for client in clients {
            assert_eq!(client.timeout_ms, TIMEOUT_MS);
            stage.name(client.session);
            stage.clients.push(Ok(client));
        }
        stage
    }

    fn name(&mut self, session: Session) {
        let name = format!("session{}", self.sessions.len());
        self.sessions.insert(session.id, name);
    }

    fn play(&mut self, number: usize, step: &Step) {
        let from = self.said.len();
        match step {
            Step::Send(client, ops) => {
                self.send(number, *client, ops);
                self.settle(number);
            }
            Step::Lose(client) => {
                let lost = self.clients[*client].as_ref().expect("connected");
                self.clients[*client] = Err((lost.session, lost.last_zxid));
            }
            Step::Reconnect(client) => self.reconnect(*client),
            Step::Renew(client) => {
                self.send(number, *client, &[Op::Close]);
                let closed = self.clients[*client].as_mut().expect("connected");
                assert!(closed.receive().is_err(), "a closed session's connection");
                let renewed = Client::connect(self.port, TIMEOUT_MS);
                self.name(renewed.session);
                self.clients[*client] = Ok(renewed);
                self.settle(number);
                self.said[from..].sort();
            }
            Step::Refused(client, op) => {
                self.send(number, *client, std::slice::from_ref(op));
                let refused = self.clients[*client].as_mut().expect("connected");
                assert!(refused.receive().is_err(), "{op:?} ends the connection");
                self.clients[*client] = Err((refused.session, refused.last_zxid));
                self.reconnect(*client);
                self.settle(number);
            }
        }
    }

    fn send(&mut self, number: usize, who: usize, ops: &[Op]) {
        let client = self.clients[who].as_mut().expect("connected");
        for op in ops {
            client.send(op).expect("the server reads");
        }
        let mut replies = 0;
        while replies < ops.len() {
            let message = client.receive().expect("the server answers");
            replies += usize::from(!message.is_event());
            self.said.push((number, (format!("client{who}"), message)));
        }
    }

    /// Waits until every client has all events of what was answered: they are sent before the answer to a ping.
    fn settle(&mut self, number: usize) {
        for who in 0..self.clients.len() {
            if self.clients[who].is_ok() {
                self.send(number, who, &[Op::Ping]);
            }
        }
    }

    fn reconnect(&mut self, who: usize) {
        let Err((session, last_zxid)) = self.clients[who] else {
            panic!("client{who} is connected");
        };
        let mut client = Client::reconnect(self.port, TIMEOUT_MS, session, last_zxid)
            .expect("the server is there")
            .expect("the session lives");
        assert_eq!(client.session, session);
        client.last_zxid = last_zxid;
        self.clients[who] = Ok(client);
    }

    /// Ends the sessions, so that their nodes do not go while the next script runs.
    fn finish(mut self, base: &str) -> Vec<(usize, String)> {
        let last = self.said.len();
        self.send(usize::MAX, 0, &[Op::GetAllChildrenNumber(base.to_owned())]);
        assert!(self.said.len() > last);
        for client in self.clients.iter_mut().flatten() {
            client.call(&Op::Close);
        }
        let (numbers, messages): (Vec<_>, Vec<_>) = self.said.into_iter().unzip();
        numbers
            .into_iter()
            .zip(render(&messages, &self.sessions))
            .collect()
    }
}

struct Generator {
    random: StdRng,
    base: String,
    /// Whether nodes get access control lists. Troupe obeys them in deleteContainer as well, so it is one or the other.
    with_lists: bool,
}

fn create(path: &str, flags: i32) -> Op {
    Op::Create {
        code: op::CREATE,
        path: path.to_owned(),
        data: Some(b"x".to_vec()),
        acl: open_acl(),
        flags,
        ttl_ms: 0,
    }
}

/// Paths below the script's own node; few, so that operations meet.
const NAMES: [&str; 14] = [
    "",
    "/a",
    "/b",
    "/c",
    "/a/a",
    "/a/b",
    "/b/a",
    "/a/a/a",
    "/a/a/b",
    "/seq-0000000000",
    "/seq-0000000001",
    "/a/seq-0000000001",
    "/a/seq-0000000002",
    "/ü",
];

/// What is no path, or none that can be created.
const ILLEGAL: [&str; 10] = [
    "relative",
    "relative/a",
    "/",
    "//",
    "/.",
    "/differential/",
    "/a//b",
    "/\u{1}",
    "/a\0b",
    "/\u{f000}",
];

impl Generator {
    fn step(&mut self, lost: Option<usize>) -> Step {
        let client = loop {
            let client = self.random.random_range(0..CLIENTS);
            if Some(client) != lost {
                break client;
            }
        };
        match self.random.random_range(0..100) {
            0..4 => match lost {
                None => Step::Lose(client),
                Some(lost) => Step::Reconnect(lost),
            },
            4..6 => Step::Renew(client),
            6..7 => Step::Refused(
                client,
                Op::Auth(Auth {
                    scheme: "nonsense",
                    proof: "x",
                }),
            ),
            _ => {
                let count = self.pick([1, 1, 1, 1, 2, 3, 6]);
                let ops: Vec<_> = (0..count).flat_map(|_| self.ops()).collect();
                // ZooKeeper answers it before what was sent earlier.
                let auth = ops.iter().find(|op| matches!(op, Op::Auth(_))).cloned();
                Step::Send(client, auth.map_or(ops, |auth| vec![auth]))
            }
        }
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        let at = self.random.random_range(0..N);
        from[at]
    }

    fn path(&mut self) -> String {
        match self.random.random_range(0..40) {
            0 => self.pick(ILLEGAL).to_owned(),
            1 => self
                .pick(["/zookeeper", "/zookeeper/quota", "/zookeeper/config"])
                .to_owned(),
            _ => {
                let name = self.pick(NAMES);
                format!("{}{name}", self.base)
            }
        }
    }

    /// A path that may be changed, watched or listed: not the root, where other scripts leave their traces.
    fn inner_path(&mut self) -> String {
        loop {
            let path = self.path();
            if path != "/" {
                return path;
            }
        }
    }

    fn paths(&mut self) -> Vec<String> {
        let count = self.random.random_range(0..3);
        (0..count).map(|_| self.inner_path()).collect()
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        match self.random.random_range(0..6) {
            0 => None,
            1 => Some(Vec::new()),
            length => Some(vec![b'a'; length]),
        }
    }

    fn version(&mut self) -> i32 {
        self.pick([-1, -1, -1, 0, 0, 1, 2, 7, -2])
    }

    fn acl(&mut self) -> Vec<Acl> {
        if !self.with_lists || self.random.random_range(0..8) > 0 {
            return open_acl();
        }
        let count = self.random.random_range(0..3);
        (0..count)
            .map(|_| {
                let (scheme, id) = self.pick([
                    ("world", "anyone"),
                    ("world", "anyone"),
                    ("auth", ""),
                    ("auth", ""),
                    ("auth", "ignored"),
                    ("ip", "127.0.0.1"),
                    ("ip", "127.0.0.0/8"),
                    ("ip", "10.0.0.1"),
                    ("ip", "300.0.0.1"),
                    ("digest", "one:W5qKqWGC8C5gSrNq1dhrQKYdTHs="),
                    ("digest", "no-colon"),
                    ("nonsense", "x"),
                    ("world", "me"),
                ]);
                Acl {
                    perms: self.pick([31, 31, 1, 2, 4, 8, 16, 17, 30, 0]),
                    id: Id::new(scheme, id),
                }
            })
            .collect()
    }

    fn create(&mut self) -> Op {
        let code = self.pick([op::CREATE, op::CREATE, op::CREATE2]);
        let flags = self.pick([0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 9]);
        let mut path = self.path();
        if flags == 2 || flags == 3 {
            // Not beside the script's own node: the root counts the children of Troupe's brokers too.
            let beside = path.starts_with(&format!("{}/", self.base));
            path.push_str(self.pick(["/seq-", "/", if beside { "-" } else { "/-" }]));
        }
        Op::Create {
            code,
            path,
            data: self.data(),
            acl: self.acl(),
            flags,
            ttl_ms: 0,
        }
    }

    /// Containers get a child that no script deletes, so that they are not reaped; times to live are long.
    fn create_special(&mut self) -> Vec<Op> {
        let mut path = self.path();
        let (code, flags, ttl_ms) = self.pick([
            (op::CREATE, 4, 0),
            (op::CREATE_CONTAINER, 4, 0),
            (op::CREATE_CONTAINER, 0, 0),
            (op::CREATE_TTL, 5, 9_000_000),
            (op::CREATE_TTL, 6, 9_000_000),
            (op::CREATE_TTL, 5, 0),
            (op::CREATE_TTL, 5, -1),
            (op::CREATE_TTL, 5, 1 << 40),
            (op::CREATE_TTL, 0, 1),
        ]);
        if flags == 6 {
            path.push_str("/seq-");
        }
        let special = Op::Create {
            code,
            path: path.clone(),
            data: self.data(),
            acl: open_acl(),
            flags,
            ttl_ms,
        };
        vec![special, create(&format!("{path}/kept"), 0)]
    }

    fn write(&mut self) -> Op {
        match self.random.random_range(0..10) {
            0..5 => self.create(),
            5..7 => Op::Delete(self.path(), self.version()),
            7..9 => Op::SetData(self.inner_path(), self.data(), self.version()),
            _ => Op::Check(self.path(), self.version()),
        }
    }

    /// A multi. In one, flags alone make a container.
    fn multi(&mut self) -> Op {
        let mut items = Vec::new();
        for _ in 0..self.random.random_range(1..5) {
            match self.random.random_range(0..12) {
                0 => items.extend(self.create_special()),
                _ => items.push(self.write()),
            }
            if let Some(Op::Create { path, flags: 4, .. }) = items.last() {
                items.push(create(&format!("{path}/kept"), 0));
            }
        }
        Op::Multi(items)
    }

    fn read(&mut self) -> Op {
        let watch = self.random.random_range(0..2) == 0;
        match self.random.random_range(0..12) {
            0..3 => Op::Exists(self.inner_path(), watch),
            3..6 => Op::GetData(self.inner_path(), watch),
            6..8 => Op::GetChildren(self.inner_path(), watch),
            8..10 => Op::GetChildren2(self.inner_path(), watch),
            10 => Op::GetAcl(self.inner_path()),
            _ => Op::GetAllChildrenNumber(self.inner_path()),
        }
    }

    fn watch(&mut self) -> Op {
        let kind = self.pick([1, 2, 3, 4, 5, 0, 6]);
        let lists = WatchLists {
            data: self.paths(),
            exist: self.paths(),
            child: self.paths(),
            persistent: self.paths(),
            recursive: self.paths(),
        };
        let since = self.pick([Since::Ever, Since::LastReply, Since::LastReply]);
        match self.random.random_range(0..10) {
            0..4 => Op::AddWatch(self.inner_path(), self.pick([0, 0, 1, 1, 2])),
            4..6 => Op::RemoveWatches(self.inner_path(), kind),
            6..8 => Op::CheckWatches(self.inner_path(), kind),
            8 => Op::SetWatches(since, lists),
            _ => Op::SetWatches2(since, lists),
        }
    }

    fn rare(&mut self) -> Op {
        match self.random.random_range(0..9) {
            0 => Op::Sync(self.path()),
            1 => Op::WhoAmI,
            2 => Op::Reconfig,
            3 => {
                let (scheme, proof) =
                    self.pick([("digest", "one:1"), ("digest", "two:2"), ("ip", "")]);
                Op::Auth(Auth { scheme, proof })
            }
            4 => Op::GetEphemerals(match self.random.random_range(0..3) {
                0 => "/".to_owned(),
                1 => String::new(),
                _ => self.path(),
            }),
            5 if !self.with_lists => Op::DeleteContainer(self.path()),
            6 => Op::Multi(Vec::new()),
            7 => Op::Raw(
                self.pick([1, 2, 3, 4, 5, 14, 22, 101]),
                vec![0, 0, 0, 9, b'/'],
            ),
            _ => Op::SetAcl(self.inner_path(), self.acl(), self.version()),
        }
    }

    fn ops(&mut self) -> Vec<Op> {
        match self.random.random_range(0..100) {
            0..40 => vec![loop {
                let write = self.write();
                // Alone, ZooKeeper knows no check.
                if !matches!(write, Op::Check(..)) {
                    break write;
                }
            }],
            40..65 => vec![self.read()],
            65..75 => vec![self.watch()],
            75..83 => vec![self.multi()],
            83..86 => {
                let count = self.random.random_range(0..4);
                let reads = (0..count).map(|_| match self.random.random_range(0..2) {
                    0 => Op::GetData(self.inner_path(), true),
                    _ => Op::GetChildren(self.inner_path(), true),
                });
                vec![Op::MultiRead(reads.collect())]
            }
            86..90 => self.create_special(),
            _ => vec![self.rare()],
        }
    }
}
