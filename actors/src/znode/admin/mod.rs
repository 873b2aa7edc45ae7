//! The admin server: what four-letter words tell, by HTTP and in JSON, at `/commands/NAME`.
//!
//! It reads nothing but a path, answers one request per connection, and knows nobody: where it listens, anyone may ask.

pub mod commands;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_rt::task::JoinHandle;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::actor::{AdminCommand, Znode};

/// Requests at a time; the next ones wait in the system's queue.
const CONNECTIONS: usize = 16;
/// How long a client may take for its request, and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Below this are the commands.
const ROOT: &str = "/commands";

/// A running admin server; it ends when this is dropped.
pub struct AdminServer {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Listens and serves from the calling thread.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(addr: SocketAddr, znode: Addr<Znode>) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        Ok(Self {
            addr: listener.local_addr()?,
            task: actix_rt::spawn(accept(listener, znode)),
        })
    }

    /// Returns the address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, znode: Addr<Znode>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let znode = znode.clone();
                actix_rt::spawn(async move {
                    let served = actix_rt::time::timeout(PATIENCE, serve(stream, znode)).await;
                    if let Ok(Err(error)) = served {
                        tracing::debug!(%error, "an admin connection was closed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                // Out of file descriptors, most likely: the next attempt would fail at once.
                actix_rt::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, znode: Addr<Znode>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let znode = znode.clone();
        async move { Ok::<_, Infallible>(respond(&request, &znode).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(request: &Request<Incoming>, znode: &Addr<Znode>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new());
        let allowed = HeaderValue::from_static("GET");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    let name = match request.uri().path().strip_prefix(ROOT) {
        Some("" | "/") => return response(StatusCode::OK, "text/html", links()),
        Some(rest) => rest.strip_prefix('/'),
        None => None,
    };
    let Some(name) = name else {
        return response(StatusCode::NOT_FOUND, "text/plain", String::new());
    };
    match znode.send(AdminCommand(name.to_owned())).await {
        Ok(answer) => response(StatusCode::OK, "application/json", format!("{answer:#}\n")),
        Err(_) => response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", String::new()),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn links() -> String {
    let link = |name: &str| format!("<a href=\"{ROOT}/{name}\">{name}</a>\n<br/>\n");
    commands::names().map(link).collect()
}
