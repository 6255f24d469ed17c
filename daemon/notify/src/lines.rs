//! A TCP stream that hands out one line at a time.
//!
//! Before STARTTLS anybody on the way can write into the stream. What stands
//! behind the server's "go ahead" in the same packet would wait in the reader's
//! buffer and be taken for the first answer *inside* TLS: every answer after it
//! would belong to the command before, and a mail that was refused would count
//! as taken. So the reader never gets more than the line it asked for; what
//! stands behind it goes to the TLS handshake, which fails on it.
//!
//! Inside TLS it makes no difference but a shorter read now and then.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// As much as is taken from the socket at once: more than any reply.
const CHUNK: usize = 4096;

/// The stream, and what was read of it but not handed out.
#[derive(Debug)]
pub(crate) struct LineByLine {
    stream: TcpStream,
    chunk: Vec<u8>,
    handed_out: usize,
}

impl LineByLine {
    pub(crate) fn new(stream: TcpStream) -> LineByLine {
        LineByLine {
            stream,
            chunk: Vec::new(),
            handed_out: 0,
        }
    }

    /// Reads a chunk if there is nothing left of the last one; an empty one is
    /// the stream's end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.handed_out < self.chunk.len() {
            return Poll::Ready(Ok(()));
        }
        self.chunk.resize(CHUNK, 0);
        self.handed_out = CHUNK;
        let mut into = ReadBuf::new(&mut self.chunk);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into))?;
        let length = into.filled().len();
        self.chunk.truncate(length);
        self.handed_out = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for LineByLine {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_chunk(cx))?;
        let left = &this.chunk[this.handed_out..];
        let line = left.iter().position(|byte| *byte == b'\n');
        let length = line.map_or(left.len(), |end| end + 1).min(into.remaining());
        into.put_slice(&left[..length]);
        this.handed_out += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LineByLine {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for LineByLine {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_read_never_goes_beyond_a_line() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = "x".repeat(2 * CHUNK);
        let sent = format!("220 go\r\n250 injected\r\n\n{long}");
        let writer = async {
            let (mut there, _) = listener.accept().await.unwrap();
            there.write_all(sent.as_bytes()).await.unwrap();
        };
        let reader = async {
            let mut stream = LineByLine::new(TcpStream::connect(address).await.unwrap());
            let mut reads = Vec::new();
            loop {
                let mut buffer = vec![0; 4 * CHUNK];
                let length = stream.read(&mut buffer).await.unwrap();
                if length == 0 {
                    return reads;
                }
                buffer.truncate(length);
                reads.push(String::from_utf8(buffer).unwrap());
            }
        };
        let ((), reads) = tokio::join!(writer, reader);
        assert_eq!(reads[..3], ["220 go\r\n", "250 injected\r\n", "\n"]);
        assert_eq!(reads.concat(), sent);
    }
}
