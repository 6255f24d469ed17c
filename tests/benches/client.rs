//! An HTTP client that does as little as possible, so that what is measured is
//! the server.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// An answer, and the time from before the connection to its last byte.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) took: Duration,
}

/// `GET path` over the socket, on a connection of its own.
pub(crate) fn get(socket: &Path, path: &str) -> io::Result<Answer> {
    let began = Instant::now();
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, path, began)
}

/// `GET path` over a stream that was opened after `began`.
pub(crate) fn exchange(
    mut stream: impl Read + Write,
    path: &str,
    began: Instant,
) -> io::Result<Answer> {
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: bench\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let took = began.elapsed();
    let (status, body) = parts(&answer).ok_or_else(|| io::Error::other("not an HTTP answer"))?;
    Ok(Answer {
        status,
        body: body.to_vec(),
        took,
    })
}

fn parts(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, &answer[end + 4..]))
}
