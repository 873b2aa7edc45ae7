//! Asks another broker: one connection, one request at a time, each in the newest version that both know.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use troupe_protocol::kafka::api::{ApiKey, Request};
use troupe_protocol::kafka::messages::ApiVersionsRequest;

/// The version in which the other broker is asked for its versions: the oldest, which everyone answers.
const API_VERSIONS: i16 = 0;

/// Bytes of an answer at most.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A connection to another broker. After an error it is of no use any more.
pub(crate) struct BrokerConnection {
    stream: TcpStream,
    client_id: String,
    /// How long an answer may take.
    timeout: Duration,
    /// What the other broker serves.
    served: BTreeMap<i16, RangeInclusive<i16>>,
    correlation_id: i32,
}

impl BrokerConnection {
    /// Connects, and asks which versions the other broker serves.
    ///
    /// # Errors
    /// When it does not answer within `timeout`.
    pub(crate) async fn connect(
        host: &str,
        port: u16,
        client_id: String,
        timeout: Duration,
    ) -> io::Result<Self> {
        let connecting = TcpStream::connect((host, port));
        let stream = tokio::time::timeout(timeout, connecting).await??;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            client_id,
            timeout,
            served: BTreeMap::new(),
            correlation_id: 0,
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
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = self.frame(version, request)?;
        let timeout = self.timeout;
        let exchange = async {
            self.stream.write_all(&frame).await?;
            self.answer().await
        };
        let mut answer = tokio::time::timeout(timeout, exchange).await??;
        if answer.try_get_i32().ok() != Some(self.correlation_id) {
            return Err(malformed("the answer is not that to the request"));
        }
        if R::KEY.response_header_version(version) >= 1 {
            // Tagged fields in a response header are nowhere defined.
            answer.try_get_u8().map_err(malformed)?;
        }
        R::decode_response(version, answer).map_err(malformed)
    }

    fn frame<R: Request>(&self, version: i16, request: R) -> io::Result<BytesMut> {
        let key: ApiKey = R::KEY;
        let mut frame = BytesMut::with_capacity(256);
        frame.put_i32(0);
        frame.put_i16(key.code());
        frame.put_i16(version);
        frame.put_i32(self.correlation_id);
        let header = key.request_header_version(version);
        if header >= 1 {
            let length = i16::try_from(self.client_id.len()).map_err(malformed)?;
            frame.put_i16(length);
            frame.put_slice(self.client_id.as_bytes());
        }
        if header >= 2 {
            frame.put_u8(0);
        }
        request.encode(version, &mut frame).map_err(malformed)?;
        let size = frame.len().saturating_sub(4);
        let size = i32::try_from(size).map_err(malformed)?.to_be_bytes();
        if let Some(start) = frame.first_chunk_mut() {
            *start = size;
        }
        Ok(frame)
    }

    async fn answer(&mut self) -> io::Result<Bytes> {
        let size = usize::try_from(self.stream.read_i32().await?).map_err(malformed)?;
        if size > MAX_ANSWER {
            return Err(malformed("the answer is too large"));
        }
        let mut answer = BytesMut::new();
        let mut body = (&mut self.stream).take(u64::try_from(size).map_err(malformed)?);
        // Grows with what has come, not with what was promised.
        while answer.len() < size {
            if body.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(answer.freeze())
    }
}

fn malformed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
