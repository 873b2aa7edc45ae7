//! A raw socket that speaks the Kafka protocol one frame at a time, well or badly.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};

use super::process::HANG_GUARD;
use super::server::Server;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Wire {
    pub fn connect(server: &Server) -> Wire {
        Wire::connect_to("127.0.0.1", server.port())
    }

    /// Connects to an address that may not be the one the harness uses.
    pub fn connect_to(host: &str, port: u16) -> Wire {
        let stream = TcpStream::connect((host, port)).expect("the server listens");
        stream.set_read_timeout(Some(HANG_GUARD)).unwrap();
        stream.set_write_timeout(Some(HANG_GUARD)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire {
            stream,
            next_correlation_id: 1,
        }
    }

    /// Sends a request and returns its correlation id.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let frame = self.frame(version, request);
        self.send_frame(&frame);
        self.next_correlation_id - 1
    }

    /// Encodes header and body of a request, without the length in front.
    pub fn frame<R: Request>(&mut self, version: i16, request: &R) -> BytesMut {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("wire")));
        encode_request_header_into_buffer(&mut frame, &header).unwrap();
        request.encode(&mut frame, version).unwrap();
        frame
    }

    /// Sends a frame: its length, then the bytes.
    pub fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = Vec::with_capacity(frame.len() + 4);
        bytes.extend_from_slice(&i32::try_from(frame.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(frame);
        self.send_bytes(&bytes)
            .expect("the connection takes a frame");
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Tells the other side that nothing more comes from here.
    pub fn finish_sending(&mut self) {
        // The other side may have closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Receives the next frame without its length; nothing when the other side has closed the connection.
    pub fn receive_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length =
            usize::try_from(i32::from_be_bytes(length)).expect("a reply has a length of 0 or more");
        let mut frame = vec![0; length];
        self.fill(&mut frame)?;
        Some(Bytes::from(frame))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error)
                if matches!(
                    error.kind(),
                    UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe
                ) =>
            {
                None
            }
            Err(error) => panic!("waiting for a reply: {error}"),
        }
    }

    /// Receives the reply to a request of type `R` and returns its correlation id and body.
    pub fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self
            .receive_frame()
            .expect("a reply, and not the end of the connection");
        decode_reply::<R>(frame, version)
    }

    /// Sends a request and receives its reply.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request);
        let (received, response) = self.receive::<R>(version);
        assert_eq!(
            received, sent,
            "the reply carries the request's correlation id"
        );
        response
    }

    /// Returns whether the other side closes this connection without another reply.
    pub fn is_closed_by_peer(&mut self) -> bool {
        self.receive_frame().is_none()
    }
}

/// Decodes a reply frame to a request of type `R`, and checks that nothing is left over.
pub fn decode_reply<R: Request>(mut frame: Bytes, version: i16) -> (i32, R::Response) {
    // ApiVersions replies always have header v0, so that a client of any age can read them (KIP-511).
    let header_version = if R::KEY == ApiKey::ApiVersions as i16 {
        0
    } else {
        R::Response::header_version(version)
    };
    let header = ResponseHeader::decode(&mut frame, header_version).expect("a reply header");
    let response = R::Response::decode(&mut frame, version).expect("a reply of this version");
    assert!(frame.is_empty(), "{} bytes after the reply", frame.len());
    (header.correlation_id, response)
}
