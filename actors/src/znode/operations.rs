//! What the service answers to each operation.

use bytes::Bytes;
use troupe_protocol::zookeeper::multi::{MultiRead, Write};
use troupe_protocol::zookeeper::records::EventType;
use troupe_protocol::zookeeper::replies::{MultiResult, Reply, error_frame, event_frame};
use troupe_protocol::zookeeper::requests::{
    Operation, PING_XID, Request, SetWatches, WatcherType, op,
};
use troupe_protocol::zookeeper::{ErrorCode, Id};

use super::acl;
use super::service::{Now, Output, Service, Step};
use super::sessions::ConnectionId;
use super::transaction::{self, Author};
use super::watches::Kind;

impl Service {
    /// Answers a request. From a connection that has no session any more it does nothing.
    pub fn request(&mut self, connection: ConnectionId, request: &Request, now: Now) -> Step {
        let mut step = Step::default();
        let Some(client) = self.clients.get(&connection) else {
            return step;
        };
        let (session, xid) = (client.session, request.xid);
        self.sessions.touch(session, now.monotonic_ms);
        let answer = match &request.operation {
            Operation::Auth { scheme, auth } => {
                self.auth(connection, xid, scheme, auth, &mut step);
                return step;
            }
            Operation::CloseSession => {
                self.end_session(session, &mut step);
                let frame = Reply::Empty.to_frame(xid, self.zxid);
                step.outputs.push(Output::Frame(connection, frame));
                step.outputs.push(Output::Close(connection));
                return step;
            }
            // Alone it would tell nobody anything: ZooKeeper knows it in a multi only.
            Operation::Write(Write::Check { .. }) => Err(ErrorCode::Unimplemented),
            Operation::Write(write) => self.write(connection, session, write, now, &mut step),
            Operation::Multi(writes) => Ok(self.multi(connection, session, writes, now, &mut step)),
            Operation::Ping => {
                let frame = Reply::Empty.to_frame(PING_XID, self.zxid);
                step.outputs.push(Output::Frame(connection, frame));
                return step;
            }
            Operation::SetWatches(watches) => {
                self.set_watches(connection, watches, &mut step);
                Ok(Reply::Empty)
            }
            read => self.read(connection, session, read),
        };
        let frame = match answer {
            Ok(reply) => reply.to_frame(xid, self.zxid),
            Err(error) => error_frame(xid, self.zxid, error),
        };
        step.outputs.push(Output::Frame(connection, frame));
        step
    }

    fn ids(&self, connection: ConnectionId) -> &[Id] {
        self.clients
            .get(&connection)
            .map_or(&[], |client| &client.ids)
    }

    fn auth(
        &mut self,
        connection: ConnectionId,
        xid: i32,
        scheme: &[u8],
        auth: &[u8],
        step: &mut Step,
    ) {
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        // Replies to auth carry no zxid.
        match acl::authenticate(scheme, auth, client.peer.ip()) {
            Some(id) => {
                if !client.ids.contains(&id) {
                    client.ids.push(id);
                }
                let frame = Reply::Empty.to_frame(xid, 0);
                step.outputs.push(Output::Frame(connection, frame));
            }
            None => {
                let frame = error_frame(xid, 0, ErrorCode::AuthFailed);
                step.outputs.push(Output::Frame(connection, frame));
                step.outputs.push(Output::Close(connection));
            }
        }
    }

    fn write(
        &mut self,
        connection: ConnectionId,
        session: i64,
        write: &Write,
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, ErrorCode> {
        let ids = self.ids(connection).to_vec();
        let author = self.author(session, &ids, now);
        let (reply, effects) = transaction::apply(&mut self.tree, write, author)?;
        if !effects.changed.is_empty() {
            self.commit(effects, step);
        }
        Ok(reply)
    }

    fn multi(
        &mut self,
        connection: ConnectionId,
        session: i64,
        writes: &[Write],
        now: Now,
        step: &mut Step,
    ) -> Reply {
        let ids = self.ids(connection).to_vec();
        let author = self.author(session, &ids, now);
        let (results, effects) = transaction::apply_multi(&mut self.tree, writes, author);
        if let Some(effects) = effects.filter(|effects| !effects.changed.is_empty()) {
            self.commit(effects, step);
        }
        Reply::Multi(results)
    }

    fn author<'a>(&self, session: i64, ids: &'a [Id], now: Now) -> Author<'a> {
        Author {
            session,
            ids,
            zxid: self.zxid + 1,
            now_ms: now.wall_ms,
        }
    }

    fn read(
        &mut self,
        connection: ConnectionId,
        session: i64,
        operation: &Operation,
    ) -> Result<Reply, ErrorCode> {
        match operation {
            Operation::Exists { path, watch } => {
                if path.contains(&0) {
                    return Err(ErrorCode::BadArguments);
                }
                let stat = self.tree.exists(path, self.ids(connection));
                // A node that is not there can be watched too: that is how clients wait for it.
                let wanted = *watch && stat != Err(ErrorCode::NoAuth);
                self.watch_if(wanted, Kind::Data, path, connection);
                stat.map(Reply::Stat)
            }
            Operation::GetData { path, watch } => {
                let (data, stat) = self.tree.get_data(path, self.ids(connection))?;
                self.watch_if(*watch, Kind::Data, path, connection);
                Ok(Reply::Data(data, stat))
            }
            Operation::GetChildren { path, watch } => {
                let (names, _) = self.tree.get_children(path, self.ids(connection))?;
                self.watch_if(*watch, Kind::Child, path, connection);
                Ok(Reply::Children(names))
            }
            Operation::GetChildren2 { path, watch } => {
                let (names, stat) = self.tree.get_children(path, self.ids(connection))?;
                self.watch_if(*watch, Kind::Child, path, connection);
                Ok(Reply::ChildrenStat(names, stat))
            }
            Operation::GetAcl { path } => self
                .tree
                .get_acl(path, self.ids(connection))
                .map(|(acl, stat)| Reply::Acl(acl, stat)),
            Operation::GetEphemerals { prefix } => {
                Ok(Reply::Children(self.tree.get_ephemerals(session, prefix)))
            }
            Operation::GetAllChildrenNumber { path } => self
                .tree
                .count_descendants(path, self.ids(connection))
                .map(Reply::Number),
            Operation::MultiRead(reads) => Ok(self.multi_read(connection, reads)),
            Operation::Sync { path } => Ok(Reply::Path(path.clone())),
            Operation::WhoAmI => Ok(Reply::Ids(self.who_am_i(connection))),
            Operation::AddWatch { path, recursive } => {
                let kind = match recursive {
                    true => Kind::Recursive,
                    false => Kind::Persistent,
                };
                self.watches.add(kind, path, connection);
                Ok(Reply::NoError)
            }
            Operation::CheckWatches { path, kind } => self.check_watches(connection, path, *kind),
            Operation::RemoveWatches { path, kind } => self.remove_watches(connection, path, *kind),
            Operation::Sasl => Ok(Reply::NullToken),
            Operation::Reconfig => Err(ErrorCode::ReconfigDisabled),
            Operation::Malformed(_) => Err(ErrorCode::MarshallingError),
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn watch_if(&mut self, wanted: bool, kind: Kind, path: &[u8], connection: ConnectionId) {
        if wanted {
            self.watches.add(kind, path, connection);
        }
    }

    fn multi_read(&self, connection: ConnectionId, reads: &[MultiRead]) -> Reply {
        let ids = self.ids(connection);
        let results = reads.iter().map(|read| match read {
            MultiRead::GetData(path) => self
                .tree
                .get_data(path, ids)
                .map(|(data, stat)| (op::GET_DATA, Reply::Data(data, stat))),
            MultiRead::GetChildren(path) => self
                .tree
                .get_children(path, ids)
                .map(|(names, _)| (op::GET_CHILDREN, Reply::Children(names))),
        });
        Reply::Multi(
            results
                .map(|result| match result {
                    Ok((op, reply)) => MultiResult::Done(op, reply),
                    Err(error) => MultiResult::Error(error),
                })
                .collect(),
        )
    }

    /// A digest's hash stays here: clients are told the name alone.
    fn who_am_i(&self, connection: ConnectionId) -> Vec<Id> {
        self.ids(connection)
            .iter()
            .map(|id| match id.scheme.as_ref() {
                b"digest" => Id::new("digest", acl::user(&id.id)),
                _ => id.clone(),
            })
            .collect()
    }

    fn check_watches(
        &self,
        connection: ConnectionId,
        path: &[u8],
        kind: WatcherType,
    ) -> Result<Reply, ErrorCode> {
        let found = kinds(kind)
            .iter()
            .any(|&kind| self.watches.contains(kind, path, connection));
        found.then_some(Reply::Empty).ok_or(ErrorCode::NoWatcher)
    }

    fn remove_watches(
        &mut self,
        connection: ConnectionId,
        path: &[u8],
        kind: WatcherType,
    ) -> Result<Reply, ErrorCode> {
        let mut found = false;
        for &kind in kinds(kind) {
            found |= self.watches.remove(kind, path, connection);
        }
        found.then_some(Reply::Empty).ok_or(ErrorCode::NoWatcher)
    }

    /// Arms a reconnected client's watches again, and tells at once what it missed.
    fn set_watches(&mut self, connection: ConnectionId, watches: &SetWatches, step: &mut Step) {
        let since = watches.relative_zxid;
        let mut tell = |event: EventType, path: &Bytes| {
            let frame = event_frame(event, path, -1);
            step.outputs.push(Output::Frame(connection, frame));
        };
        for path in &watches.data {
            match self.tree.node(path) {
                None => tell(EventType::NodeDeleted, path),
                Some(node) if node.mzxid > since => tell(EventType::NodeDataChanged, path),
                Some(_) => self.watches.add(Kind::Data, path, connection),
            }
        }
        for path in &watches.exist {
            match self.tree.node(path) {
                Some(_) => tell(EventType::NodeCreated, path),
                None => self.watches.add(Kind::Data, path, connection),
            }
        }
        for path in &watches.child {
            match self.tree.node(path) {
                None => tell(EventType::NodeDeleted, path),
                Some(node) if node.pzxid > since => tell(EventType::NodeChildrenChanged, path),
                Some(_) => self.watches.add(Kind::Child, path, connection),
            }
        }
        for path in &watches.persistent {
            self.watches.add(Kind::Persistent, path, connection);
        }
        for path in &watches.persistent_recursive {
            self.watches.add(Kind::Recursive, path, connection);
        }
    }
}

fn kinds(kind: WatcherType) -> &'static [Kind] {
    match kind {
        WatcherType::Children => &[Kind::Child],
        WatcherType::Data => &[Kind::Data],
        WatcherType::Any => &[Kind::Child, Kind::Data, Kind::Persistent, Kind::Recursive],
        WatcherType::Persistent => &[Kind::Persistent],
        WatcherType::PersistentRecursive => &[Kind::Recursive],
    }
}
