//! Frames to and from another broker: one request at a time.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use troupe_protocol::kafka::api::ApiKey;

use crate::network::{Network, Stream};

const SIZE_LEN: usize = 4;
const CORRELATION_ID_LEN: usize = 4;

/// What an answer takes before any of it has come, in bytes at most.
const BELIEVED: usize = 1024 * 1024;

/// An open connection. After an error it is of no use any more.
pub(crate) struct Connection {
    stream: Stream,
    client_id: String,
    /// How long an answer may take.
    patience: Duration,
    /// The largest answer that is read, in bytes.
    limit: usize,
    correlation_id: i32,
}

/// Says of bytes that they make no sense.
pub(crate) fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn too_late(_: tokio::time::error::Elapsed) -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

impl Connection {
    /// Connects within `patience`.
    pub(crate) async fn open(
        network: &Network,
        place: (&str, u16),
        client_id: String,
        patience: Duration,
        limit: usize,
    ) -> io::Result<Self> {
        let stream = timeout(patience, network.connect(place))
            .await
            .map_err(too_late)??;
        Ok(Self {
            stream,
            client_id,
            patience,
            limit,
            correlation_id: 0,
        })
    }

    /// Sends a request, whose body `write` appends, and returns the body of the answer.
    pub(crate) async fn call(
        &mut self,
        key: ApiKey,
        version: i16,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> io::Result<BytesMut> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let mut frame = BytesMut::with_capacity(512);
        frame.put_i32(0);
        frame.put_i16(key.code());
        frame.put_i16(version);
        frame.put_i32(self.correlation_id);
        let header = key.request_header_version(version);
        if header >= 1 {
            frame.put_i16(i16::try_from(self.client_id.len()).map_err(invalid)?);
            frame.put_slice(self.client_id.as_bytes());
        }
        if header >= 2 {
            frame.put_u8(0);
        }
        write(&mut frame)?;
        let size = i32::try_from(frame.len() - SIZE_LEN)
            .map_err(|_| invalid("a request of more than 2 GiB"))?;
        if let Some(field) = frame.first_chunk_mut() {
            *field = size.to_be_bytes();
        }
        let answer = timeout(self.patience, self.exchange(&frame)).await;
        let mut body = answer.map_err(too_late)??;
        if key.response_header_version(version) >= 1 {
            // Tagged fields in the header of an answer are nowhere defined.
            body.try_get_u8().map_err(invalid)?;
        }
        Ok(body)
    }

    async fn exchange(&mut self, frame: &[u8]) -> io::Result<BytesMut> {
        self.stream.write_all(frame).await?;
        let size = usize::try_from(self.stream.read_i32().await?).unwrap_or(usize::MAX);
        if !(CORRELATION_ID_LEN..=self.limit).contains(&size) {
            return Err(invalid("an answer of an impossible size"));
        }
        if self.stream.read_i32().await? != self.correlation_id {
            return Err(invalid("the answer is not that to the request"));
        }
        let size = size - CORRELATION_ID_LEN;
        // Grows with what has come, not with what was promised.
        let mut body = BytesMut::with_capacity(size.min(BELIEVED));
        while body.len() < size {
            let missing = size - body.len();
            if self
                .stream
                .read_buf(&mut (&mut body).limit(missing))
                .await?
                == 0
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(body)
    }
}
