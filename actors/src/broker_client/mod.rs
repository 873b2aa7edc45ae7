//! Asks another broker: each request in the newest version that both know.

mod connection;
mod pool;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::BytesMut;
use troupe_protocol::kafka::api::Request;
use troupe_protocol::kafka::messages::ApiVersionsRequest;

pub(crate) use self::connection::{Connection, invalid};
pub(crate) use self::pool::{Brokers, Start};
use crate::network::Network;

/// The version in which the other broker is asked for its versions: the oldest, which everyone answers.
const API_VERSIONS: i16 = 0;

/// Bytes of an answer at most.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A connection to another broker. After an error it is of no use any more.
pub(crate) struct BrokerConnection {
    connection: Connection,
    /// What the other broker serves.
    served: BTreeMap<i16, RangeInclusive<i16>>,
}

impl BrokerConnection {
    /// Connects, and asks which versions the other broker serves.
    ///
    /// # Errors
    /// When it does not answer within `timeout`.
    pub(crate) async fn connect(
        network: &Network,
        place: (&str, u16),
        client_id: String,
        timeout: Duration,
    ) -> io::Result<Self> {
        let mut connection = Self {
            connection: Connection::open(network, place, client_id, timeout, MAX_ANSWER).await?,
            served: BTreeMap::new(),
        };
        let answer = connection
            .ask(API_VERSIONS, ApiVersionsRequest::default())
            .await?;
        let served = answer.api_keys.iter();
        connection.served = served
            .map(|api| (api.api_key, api.min_version..=api.max_version))
            .collect();
        Ok(connection)
    }

    /// Returns the newest version of a request that both know; `None` when there is none.
    pub(crate) fn version<R: Request>(&self) -> Option<i16> {
        let theirs = self.served.get(&R::KEY.code())?;
        let ours = R::versions();
        let newest = *theirs.end().min(ours.end());
        (newest >= *theirs.start().max(ours.start())).then_some(newest)
    }

    /// Sends a request in that version and waits for the answer.
    pub(crate) async fn ask<R: Request>(
        &mut self,
        version: i16,
        request: R,
    ) -> io::Result<R::Response> {
        let write = |out: &mut BytesMut| request.encode(version, out).map_err(invalid);
        let answer = self.connection.call(R::KEY, version, write).await?;
        R::decode_response(version, answer.freeze()).map_err(invalid)
    }
}
