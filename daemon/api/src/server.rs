//! Listening: hyper with every limit that `axum::serve` does not have.
//!
//! A handshake and a header have to arrive in time, a header has to be small,
//! only so many connections are open at once, an answer has to be read in time,
//! and a stop waits for requests in hand but not for ever.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::Api;
use crate::leftover;
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
trait Listen: Send {
    /// A connection as the kernel hands it out.
    type Raw: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What makes it one that HTTP is spoken over.
    type Door: Door<Self::Raw>;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Raw, Self::Door)>> + Send;
}

/// What happens on a connection before HTTP.
trait Door<Raw>: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Whether who has to go can be told why.
    const SPEAKS_PLAIN: bool;

    fn open(self, raw: Raw) -> impl Future<Output = io::Result<Opened<Self::Stream>>> + Send;
}

/// A connection that HTTP is spoken over.
struct Opened<S> {
    stream: S,
    peer: Peer,
    /// Changes when the connection is to be made anew after the request in
    /// hand: who came with a certificate has to show it to the new lists.
    stale: Option<watch::Receiver<Arc<ServerConfig>>>,
}

/// HTTP at once.
struct Plain(Peer);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Door<S> for Plain {
    type Stream = S;

    const SPEAKS_PLAIN: bool = true;

    async fn open(self, stream: S) -> io::Result<Opened<S>> {
        Ok(Opened {
            stream,
            peer: self.0,
            stale: None,
        })
    }
}

/// A Unix socket, and the daemon's own user.
struct Local {
    listener: UnixListener,
    own: u32,
}

impl Listen for Local {
    type Raw = UnixStream;
    type Door = Plain;

    async fn next(&self) -> io::Result<(UnixStream, Plain)> {
        let (stream, _) = self.listener.accept().await?;
        let uid = stream.peer_cred()?.uid();
        let own = self.own;
        Ok((stream, Plain(Peer::User { uid, own })))
    }
}

impl Listen for TcpListener {
    type Raw = TcpStream;
    type Door = Plain;

    async fn next(&self) -> io::Result<(TcpStream, Plain)> {
        let (stream, address) = accept(self).await?;
        Ok((stream, Plain(Peer::Plain { address })))
    }
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, IpAddr)> {
    let (stream, address) = listener.accept().await?;
    // only slower without it; a peer that is gone already must not stop us
    let _ = stream.set_nodelay(true);
    Ok((stream, address.ip().to_canonical()))
}

/// A TCP socket for TLS, with the configuration of the hour.
struct Secure {
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    api: Api,
}

impl Listen for Secure {
    type Raw = TcpStream;
    type Door = Handshake;

    async fn next(&self) -> io::Result<(TcpStream, Handshake)> {
        let (stream, address) = accept(&self.listener).await?;
        let door = Handshake {
            address,
            config: self.config.clone(),
            api: self.api.clone(),
        };
        Ok((stream, door))
    }
}

/// TLS, and who the client proves to be.
struct Handshake {
    address: IpAddr,
    config: watch::Receiver<Arc<ServerConfig>>,
    api: Api,
}

impl Door<TcpStream> for Handshake {
    type Stream = TlsStream<TcpStream>;

    const SPEAKS_PLAIN: bool = false;

    async fn open(mut self, raw: TcpStream) -> io::Result<Opened<TlsStream<TcpStream>>> {
        let config = Arc::clone(&self.config.borrow_and_update());
        let shaken = timeout(
            self.api.limits().header_timeout,
            TlsAcceptor::from(config).accept(raw),
        );
        let stream = match shaken.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.failed(error)),
            Err(_elapsed) => return Err(self.failed(io::ErrorKind::TimedOut.into())),
        };
        let (_, session) = stream.get_ref();
        let certificate: Option<Arc<[u8]>> = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| Arc::from(leaf.as_ref()));
        Ok(Opened {
            stale: certificate.is_some().then_some(self.config),
            peer: Peer::Tls {
                address: self.address,
                certificate,
            },
            stream,
        })
    }
}

impl Handshake {
    fn failed(&self, error: io::Error) -> io::Error {
        let failed = &self.api.telemetry().handshakes_failed;
        failed.fetch_add(1, Ordering::Relaxed);
        error
    }
}

/// Serves the whole API on a Unix socket until `stop`, then for at most
/// [`crate::Limits::grace`] what is in hand. Local processes are known by their
/// user, unless they show a token.
pub async fn serve_unix(listener: UnixListener, api: Api, stop: CancellationToken) {
    let own = match own_user() {
        Ok(own) => own,
        Err(error) => {
            warn!(%error, "cannot tell the daemon's own user, root alone is trusted: {error}");
            0
        }
    };
    let router = router::everything(api.clone());
    serve(Local { listener, own }, router, api, stop).await;
}

/// The user that this process runs as: the kernel says so of a socket's other
/// end.
fn own_user() -> io::Result<u32> {
    let (one, _other) = UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

/// Serves health and metrics, and nothing else, on a TCP socket until `stop`,
/// then for at most [`crate::Limits::grace`] what is in hand.
pub async fn serve_tcp(listener: TcpListener, api: Api, stop: CancellationToken) {
    let router = router::health_and_metrics(api.clone());
    serve(listener, router, api, stop).await;
}

/// Serves the whole API over TLS until `stop`, then for at most
/// [`crate::Limits::grace`] what is in hand. Connections that begin after `tls`
/// changed follow it; those that are open stay, but those of clients with a
/// certificate end after the request in hand, as that may have been revoked.
pub async fn serve_https(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    api: Api,
    stop: CancellationToken,
) {
    let router = router::everything(api.clone());
    let secure = Secure {
        listener,
        config: tls,
        api: api.clone(),
    };
    serve(secure, router, api, stop).await;
}

async fn serve<L: Listen>(listener: L, router: Router, api: Api, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(api.limits().connections));
    let antechamber = Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE));
    let mut open = JoinSet::new();

    while let Some((raw, door)) = next_connection(&listener, &antechamber, &stop).await {
        while open.try_join_next().is_some() {}
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => {
                let connection = Connection {
                    router: router.clone(),
                    api: api.clone(),
                    stop: stop.clone(),
                    _place: place,
                };
                open.spawn(connection.serve(raw, door));
            }
            Err(_full) => {
                api.telemetry().turned_away.fetch_add(1, Ordering::Relaxed);
                if <L::Door as Door<L::Raw>>::SPEAKS_PLAIN
                    && let Ok(place) = Arc::clone(&antechamber).try_acquire_owned()
                {
                    open.spawn(turn_away(raw, place));
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
) -> Option<(L::Raw, L::Door)> {
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
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve<Raw, D: Door<Raw>>(self, raw: Raw, door: D) {
        let counted = Counted::new(self.api.clone());
        let opened = tokio::select! {
            opened = door.open(raw) => opened,
            () = self.stop.cancelled() => return,
        };
        match opened {
            Ok(opened) => self.speak(opened).await,
            Err(error) => debug!(%error, "a connection did not begin"),
        }
        drop(counted);
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, opened: Opened<S>) {
        let limits = self.api.limits();
        let router = self.router;
        let peer = opened.peer.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            answer(router.clone(), request)
        });
        let stream = TokioIo::new(NoStall::new(opened.stream, limits.request_timeout));
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
            () = over(&self.stop, opened.stale) => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = ended {
            debug!(peer = %opened.peer, %error, "a connection ended early");
        }
    }
}

/// Answers a request, and says that the connection ends where its body is not at
/// an end.
async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    // who waits to be asked for the body does not send one that is not wanted
    let waits = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let (body, rest) = leftover::split(body);
    let request = Request::from_parts(head, Body::new(body));
    let mut response = router.oneshot(request).await?;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    if refused && (waits || !rest.drained().await) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

/// Returns when no further request is to be taken.
async fn over(stop: &CancellationToken, stale: Option<watch::Receiver<Arc<ServerConfig>>>) {
    let changed = async {
        if let Some(mut stale) = stale
            && stale.changed().await.is_ok()
        {
            return;
        }
        // nobody who could change it is left: nothing changes any more
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = changed => {}
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
