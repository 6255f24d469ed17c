//! HTTPS: the files behind the listener, and the listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::tls::{self, TlsFiles};
use config::Settings;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::failure::Failure;
use crate::settings::host_name;
use crate::status::Board;

/// Between two tries to bind the listener.
const BIND_AGAIN: Duration = Duration::from_secs(10);

/// What the listener is set up with.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) server: Arc<ServerConfig>,
    /// SHA-256 of the certificate, `AB:CD:…`.
    pub(crate) fingerprint: String,
}

/// Reads the files, and makes a certificate where the settings name none; blocks.
pub(crate) fn read(settings: &Settings) -> Result<Option<Tls>, Failure> {
    if settings.api.https.is_none() {
        return Ok(None);
    }
    let files = files(settings);
    if settings.api.certificate.is_none() {
        make(settings, &files)?;
    }
    Ok(Some(Tls {
        server: tls::load(&files).map_err(Failure::Tls)?,
        fingerprint: tls::fingerprint(&files.certificate).map_err(Failure::Tls)?,
    }))
}

fn make(settings: &Settings, files: &TlsFiles) -> Result<(), Failure> {
    let names = [name(settings), "localhost".to_owned()];
    let made = tls::make(&files.certificate, &files.key, &names, clock::now());
    if made.map_err(Failure::Tls)? {
        let path = files.certificate.display();
        info!(%path, "made a certificate for HTTPS; api.certificate and api.key replace it");
    }
    Ok(())
}

/// The files that the settings name, or those beside the store.
pub(crate) fn files(settings: &Settings) -> TlsFiles {
    let beside_the_store = |name: &str| -> PathBuf {
        let folder = settings.store.path.parent();
        folder
            .unwrap_or(&settings.store.path)
            .join("tls")
            .join(name)
    };
    let named =
        |path: &Option<PathBuf>, name| path.clone().unwrap_or_else(|| beside_the_store(name));
    TlsFiles {
        certificate: named(&settings.api.certificate, "certificate.pem"),
        key: named(&settings.api.key, "key.pem"),
        client_ca: settings.api.client_ca.clone(),
        client_crl: settings.api.client_crl.clone(),
    }
}

/// What this machine is called in links.
pub(crate) fn name(settings: &Settings) -> String {
    settings.api.https_name.clone().unwrap_or_else(host_name)
}

/// Serves the API until `stop`. An address that is taken is no reason to stop
/// watching a network: it is said, and tried again.
pub(crate) async fn serve(
    address: SocketAddr,
    config: watch::Receiver<Arc<ServerConfig>>,
    api: api::Api,
    board: Board,
    stop: CancellationToken,
) {
    loop {
        match bind(address) {
            Ok(listener) => {
                board.note_https(None);
                return api::serve_https(listener, config, api, stop).await;
            }
            Err(error) => {
                let why = format!(
                    "the API is not served over HTTPS: cannot listen on {address} (api.https): {error}"
                );
                if board.note_https(Some(why.clone())) {
                    warn!("{why}; trying again");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BIND_AGAIN) => {}
        }
    }
}

/// Connections that wait in the kernel to be taken.
const BACKLOG: i32 = 1024;

/// `[::]` is IPv4 as well, whatever the system's default is; on a machine without
/// IPv6 it is IPv4 alone.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match bind_to(address) {
        Err(error) if address.ip().is_unspecified() && is_without_ipv6(&error) => {
            let any = std::net::Ipv4Addr::UNSPECIFIED;
            bind_to(SocketAddr::new(any.into(), address.port()))
        }
        bound => bound,
    }
}

fn is_without_ipv6(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT)
        || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

fn bind_to(address: SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
