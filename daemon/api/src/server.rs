//! Listening: hyper with every limit that `axum::serve` does not have.
//!
//! A header has to arrive in time and be small, only so many connections are
//! open at once, an answer has to be read in time, and a stop waits for
//! requests in hand but not for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::Api;
use crate::request::Peer;
use crate::router;
use crate::stall::NoStall;

/// Bytes of a request's header: 431 beyond that.
const HEADER_BYTES: usize = 64 * 1024;

/// Fields of a request's header: 431 beyond that.
const HEADER_FIELDS: usize = 64;

/// Connections that are told at the same time that there is no room; while
/// that many are, further ones wait in the kernel.
const TURNED_AWAY_AT_ONCE: usize = 32;

/// How long a connection without room is listened to, so that it reads why.
const TURNED_AWAY_FOR: Duration = Duration::from_secs(1);

/// How much of its request is read meanwhile.
const TURNED_AWAY_READ: u64 = 64 * 1024;

/// What a connection without room is told.
const NO_ROOM: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\n\
    retry-after: 5\r\n\
    connection: close\r\n\
    content-length: 135\r\n\r\n\
    {\"type\":\"/problems/unavailable\",\"title\":\"The daemon cannot do this now\",\"status\":503,\
    \"detail\":\"too many connections are open just now\"}";

/// How long accepting rests after it failed: file descriptors do not come back
/// at once.
const AFTER_A_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// Something that connections come from.
trait Listen {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listen for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = self.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok((stream, Peer::User(user)))
    }
}

impl Listen for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = self.accept().await?;
        // only slower without it; a peer that is gone already must not stop us
        let _ = stream.set_nodelay(true);
        Ok((stream, Peer::Network))
    }
}

/// Serves the whole API on a Unix socket until `stop`, then for at most
/// [`crate::Limits::grace`] what is in hand.
pub async fn serve_unix(listener: UnixListener, api: Api, stop: CancellationToken) {
    let router = router::everything(api.clone());
    serve(listener, router, api, stop).await;
}

/// Serves health and metrics, and nothing else, on a TCP socket until `stop`,
/// then for at most [`crate::Limits::grace`] what is in hand.
pub async fn serve_tcp(listener: TcpListener, api: Api, stop: CancellationToken) {
    let router = router::health_and_metrics(api.clone());
    serve(listener, router, api, stop).await;
}

async fn serve<L: Listen>(listener: L, router: Router, api: Api, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(api.limits().connections));
    let antechamber = Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE));
    let mut open = JoinSet::new();

    while let Some((stream, peer)) = next_connection(&listener, &antechamber, &stop).await {
        while open.try_join_next().is_some() {}
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => {
                let connection = Connection {
                    router: router.clone(),
                    api: api.clone(),
                    peer,
                    stop: stop.clone(),
                    _place: place,
                };
                open.spawn(connection.serve(stream));
            }
            Err(_full) => {
                api.telemetry().turned_away.fetch_add(1, Ordering::Relaxed);
                if let Ok(place) = Arc::clone(&antechamber).try_acquire_owned() {
                    open.spawn(turn_away(stream, place));
                }
            }
        }
    }
    drop(listener);
    finish(open, api.limits().grace).await;
}

/// The next connection; `None` once told to stop. Waits while too many are
/// being turned away.
async fn next_connection<L: Listen>(
    listener: &L,
    antechamber: &Semaphore,
    stop: &CancellationToken,
) -> Option<(L::Stream, Peer)> {
    let accepted = async {
        loop {
            let free = antechamber.acquire().await;
            drop(free.expect("the antechamber is never closed"));
            match listener.next().await {
                Ok(connection) => return connection,
                Err(error) => {
                    warn!(%error, "cannot accept a connection: {error}");
                    sleep(AFTER_A_FAILED_ACCEPT).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => None,
        connection = accepted => Some(connection),
    }
}

/// Waits for the open connections, but not longer than `grace`.
async fn finish(mut open: JoinSet<()>, grace: Duration) {
    let all = async { while open.join_next().await.is_some() {} };
    if timeout(grace, all).await.is_err() {
        warn!(
            connections = open.len(),
            ?grace,
            "gave up waiting for requests in hand"
        );
    }
}

/// Says that there is no room, and reads a little so that the peer gets to
/// read it: closing on unread bytes would take the answer away again.
async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, _place: OwnedSemaphorePermit) {
    let told = async {
        stream.write_all(NO_ROOM.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(TURNED_AWAY_READ);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // whoever does not listen to why is let go all the same
    let _ = timeout(TURNED_AWAY_FOR, told).await;
}

/// One connection and its place among those that may be open.
struct Connection {
    router: Router,
    api: Api,
    peer: Peer,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let counted = Counted::new(self.api.clone());
        let limits = self.api.limits();
        let router = self.router;
        let peer = self.peer;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request.map(Body::new))
        });
        let stream = TokioIo::new(NoStall::new(stream, limits.request_timeout));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_header_size(HEADER_BYTES)
            .max_buf_size(HEADER_BYTES)
            .max_headers(HEADER_FIELDS)
            .serve_connection(stream, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "a connection ended early");
        }
        drop(counted);
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Counted(Api);

impl Counted {
    fn new(api: Api) -> Counted {
        let open = &api.telemetry().connections;
        open.fetch_add(1, Ordering::Relaxed);
        Counted(api)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let open = &self.0.telemetry().connections;
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_answer_has_the_length_it_states() {
        let (head, body) = NO_ROOM.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 503);
    }
}
