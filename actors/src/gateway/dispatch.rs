//! The one table of APIs that this broker serves. ApiVersions is derived from it, so it cannot lie.
//!
//! To add an API, add its row: versions and handler. The key comes from the type of the request.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use troupe_protocol::kafka::api::{ApiKey, DecodeError, Request};
use troupe_protocol::kafka::frame::{RequestHeader, finish_response, start_response};

use super::affinity::Affinity;
use super::connection::{Outcome, Pending, Refused, Service, Work};
use super::fetch_session::FetchSessions;
use super::handlers::{
    api_versions, cluster, configs, consumer_group, control, delete_records, describe_producers,
    elections, fetch, find_coordinator, group_admin, group_membership, init_producer_id,
    list_offsets, log_dirs, metadata, offset_commit, offset_fetch, offset_for_leader_epoch,
    produce, reassignments, share, topics, transaction_admin, transactions, txn_offset_commit,
};
use super::request::RequestContext;
use crate::broker::BrokerContext;

/// Lists every API that is served: its versions and its handler.
fn rows() -> Vec<Row> {
    vec![
        // Versions 0 to 2 carry message sets, which are not converted yet.
        raw(ApiKey::Produce, 3..=13, produce::start),
        // Versions 0 to 3 return message sets.
        raw(ApiKey::Fetch, 4..=18, fetch::start),
        api(0..=0, list_offsets::handle_v0),
        api(1..=10, list_offsets::handle),
        api(0..=13, metadata::handle),
        api(0..=7, control::leader_and_isr),
        api(0..=4, control::stop_replica),
        api(0..=8, control::update_metadata),
        api(0..=3, control::controlled_shutdown),
        api(0..=9, offset_commit::handle),
        api(0..=9, offset_fetch::handle),
        api(0..=6, find_coordinator::handle),
        api(0..=9, group_membership::join),
        api(0..=4, group_membership::heartbeat),
        api(0..=5, group_membership::leave),
        api(0..=5, group_membership::sync),
        api(0..=6, group_admin::describe),
        api(0..=5, group_admin::list),
        api(0..=4, api_versions::handle),
        api(0..=7, topics::create),
        api(0..=6, topics::delete),
        api(0..=2, delete_records::handle),
        api(0..=5, init_producer_id::handle),
        api(0..=4, offset_for_leader_epoch::handle),
        api(0..=5, transactions::add_partitions),
        api(0..=4, transactions::add_offsets),
        api(0..=5, transactions::end),
        api(0..=1, transaction_admin::write_markers),
        api(0..=5, txn_offset_commit::handle),
        api(0..=4, configs::describe),
        api(0..=2, configs::alter),
        api(0..=4, log_dirs::describe),
        api(0..=3, topics::create_partitions),
        api(0..=2, group_admin::delete),
        api(0..=2, elections::elect_leaders),
        api(0..=1, configs::alter_incrementally),
        api(0..=0, reassignments::alter),
        api(0..=0, reassignments::list),
        api(0..=0, group_admin::delete_offsets),
        api(0..=2, cluster::describe),
        api(0..=0, describe_producers::handle),
        api(0..=0, transaction_admin::describe),
        api(0..=2, transaction_admin::list),
        api(0..=1, consumer_group::heartbeat),
        api(0..=1, consumer_group::describe),
        api(0..=1, configs::list),
        api(0..=0, cluster::describe_topic_partitions),
        // Version 0 was that of a preview.
        api(1..=1, share::membership::heartbeat),
        api(1..=1, share::membership::describe),
        api(1..=1, share::fetch::handle),
        api(1..=1, share::acknowledge::handle),
        api(0..=0, share::offsets::describe),
        api(0..=0, share::offsets::alter),
        api(0..=0, share::offsets::delete),
    ]
}

/// One API.
struct Row {
    key: ApiKey,
    versions: RangeInclusive<i16>,
    start:
        Box<dyn Fn(RequestContext, Envelope, BytesMut) -> Result<Work, DecodeError> + Send + Sync>,
}

/// Where a response goes: what its header repeats of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope {
    /// The API.
    pub(crate) key: ApiKey,
    /// Its version.
    pub(crate) version: i16,
    /// The client's number for the request.
    pub(crate) correlation_id: i32,
}

/// Makes the row of an API whose handler is one asynchronous function from request to response.
fn api<R, H, F>(versions: RangeInclusive<i16>, handler: H) -> Row
where
    R: Request,
    H: Fn(RequestContext, R) -> F + Send + Sync + Copy + 'static,
    F: Future<Output = R::Response> + 'static,
{
    raw(R::KEY, versions, move |cx, envelope, body| {
        let request = R::decode(envelope.version, body.freeze())?;
        Ok(Work::Alone(Box::pin(async move {
            let response = handler(cx, request).await;
            respond::<R>(envelope, response)
        })))
    })
}

/// Makes the row of an API that decodes and encodes its own bodies.
fn raw<S>(key: ApiKey, versions: RangeInclusive<i16>, start: S) -> Row
where
    S: Fn(RequestContext, Envelope, BytesMut) -> Result<Work, DecodeError> + Send + Sync + 'static,
{
    Row {
        key,
        versions,
        start: Box::new(start),
    }
}

/// Encodes a response.
fn respond<R: Request>(envelope: Envelope, response: R::Response) -> Outcome {
    let mut encoded = Ok(());
    let outcome = frame(envelope, |out| {
        encoded = R::encode_response(response, envelope.version, out)
    });
    match encoded {
        Ok(()) => outcome,
        Err(error) => {
            tracing::error!(key = %envelope.key, version = envelope.version, %error, "a response cannot be encoded");
            Outcome::Close(error.to_string())
        }
    }
}

/// Makes a response frame of what `encode` appends to its header.
pub(crate) fn frame(envelope: Envelope, encode: impl FnOnce(&mut BytesMut)) -> Outcome {
    let mut out = BytesMut::with_capacity(256);
    let start = start_response(
        &mut out,
        envelope.key,
        envelope.version,
        envelope.correlation_id,
    );
    encode(&mut out);
    finish_response(&mut out, start);
    Outcome::Reply(out.freeze().into())
}

/// The rows by key. An API has several where its oldest version means something else.
static TABLE: LazyLock<BTreeMap<i16, Vec<Row>>> = LazyLock::new(|| {
    let mut table = BTreeMap::<i16, Vec<Row>>::new();
    for row in rows() {
        table.entry(row.key.code()).or_default().push(row);
    }
    table
});

/// Lists the served APIs, by key, with their versions.
pub(crate) fn served() -> impl Iterator<Item = (ApiKey, RangeInclusive<i16>)> {
    TABLE.values().filter_map(|rows| {
        Some((
            rows.first()?.key,
            *rows.first()?.versions.start()..=*rows.last()?.versions.end(),
        ))
    })
}

/// Serves the requests of one connection from the table.
pub(crate) struct Dispatch {
    /// The broker.
    pub(crate) broker: Arc<BrokerContext>,
    /// Its fetch sessions.
    pub(crate) sessions: Arc<FetchSessions>,
    /// The address at which the client reached this broker.
    pub(crate) local_addr: SocketAddr,
    /// The client's address.
    pub(crate) peer_addr: SocketAddr,
    /// Name of the listener.
    pub(crate) listener: Arc<str>,
    /// Where the requests of this connection go.
    pub(crate) affinity: Rc<RefCell<Affinity>>,
}

impl Service for Dispatch {
    fn start(&self, request: BytesMut) -> Result<Work, Refused> {
        let (header, body) =
            RequestHeader::parse(request).map_err(|error| refused("header", error))?;
        let name = || api_name(&header);
        let version = header.api_version;
        let rows = TABLE
            .get(&header.api_key)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let Some(row) = rows.iter().find(|row| row.versions.contains(&version)) else {
            if header.api_key == ApiKey::ApiVersions.code() {
                return Ok(Work::Alone(unsupported_api_versions(header.correlation_id)));
            }
            return Err(refused(name(), "not served"));
        };
        let envelope = Envelope {
            key: row.key,
            version,
            correlation_id: header.correlation_id,
        };
        (row.start)(self.context(&header), envelope, body).map_err(|error| refused(name(), error))
    }

    fn destination(&self) -> Option<usize> {
        self.affinity.borrow().destination()
    }
}

impl Dispatch {
    fn context(&self, header: &RequestHeader) -> RequestContext {
        RequestContext {
            broker: Arc::clone(&self.broker),
            version: header.api_version,
            client_id: header.client_id.as_deref().map(Arc::from),
            local_addr: self.local_addr,
            peer_addr: self.peer_addr,
            listener: Arc::clone(&self.listener),
            sessions: Arc::clone(&self.sessions),
            affinity: Rc::clone(&self.affinity),
        }
    }
}

/// Answers an ApiVersions request that is newer than known in version 0, which every client reads (KIP-511).
fn unsupported_api_versions(correlation_id: i32) -> Pending {
    let envelope = Envelope {
        key: ApiKey::ApiVersions,
        version: 0,
        correlation_id,
    };
    Box::pin(async move {
        respond::<api_versions::Request>(envelope, api_versions::unsupported_version())
    })
}

fn refused(api: impl ToString, reason: impl ToString) -> Refused {
    Refused {
        api: api.to_string(),
        reason: reason.to_string(),
    }
}

fn api_name(header: &RequestHeader) -> String {
    match ApiKey::from_code(header.api_key) {
        Some(key) => format!("{key} version {}", header.api_version),
        None => format!("API key {} version {}", header.api_key, header.api_version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_served_by_the_codec_and_leave_no_gap() {
        for rows in TABLE.values() {
            for row in rows {
                let codec = row.key.codec_versions();
                let (first, last) = (row.versions.start(), row.versions.end());
                assert!(
                    codec.contains(first) && codec.contains(last),
                    "{}: {:?}, codec {codec:?}",
                    row.key,
                    row.versions
                );
            }
            for pair in rows.windows(2) {
                assert_eq!(
                    *pair[0].versions.end() + 1,
                    *pair[1].versions.start(),
                    "{}",
                    pair[0].key
                );
            }
        }
    }

    /// Rows of the table in `docs/compatibility.md` read `| 0 | Produce | 3-13 | … |`.
    #[test]
    fn the_documentation_lists_what_is_served() {
        let page = include_str!("../../../docs/compatibility.md");
        let rows = page.lines().filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let key: i16 = cells.next()?.parse().ok()?;
            Some((key, cells.next()?.to_owned(), cells.next()?.to_owned()))
        });
        let served = served().map(|(key, versions)| {
            let range = format!("{}-{}", versions.start(), versions.end());
            (key.code(), key.name().to_owned(), range)
        });
        assert_eq!(rows.collect::<Vec<_>>(), served.collect::<Vec<_>>());
    }
}
