//! Prometheus remote_write 1.0, as much of it as a sender needs: a protobuf
//! WriteRequest in snappy's block format.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use model::Timestamp;

/// Longer than a receiver may take for one request.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request that grows series by series.
#[derive(Default)]
pub(crate) struct WriteRequest {
    body: Vec<u8>,
    series: Vec<u8>,
}

impl WriteRequest {
    /// Adds a series: its labels, sorted and already in their encoding, and its
    /// samples.
    pub(crate) fn add(&mut self, labels: &[u8], samples: impl Iterator<Item = (Timestamp, f64)>) {
        self.series.clear();
        self.series.extend_from_slice(labels);
        for (at, value) in samples {
            let mut sample = Vec::with_capacity(20);
            sample.push(0x09);
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(0x10);
            varint(&mut sample, at.0);
            field(&mut self.series, 0x12, &sample);
        }
        field(&mut self.body, 0x0A, &self.series);
    }

    /// The request's body, and an empty request.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let body = std::mem::take(&mut self.body);
        let packed = snap::raw::Encoder::new().compress_vec(&body);
        packed.expect("a request is smaller than 4 GiB")
    }
}

/// Labels in their encoding; `pairs` are sorted by name.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        let mut label = Vec::new();
        field(&mut label, 0x0A, name.as_bytes());
        field(&mut label, 0x12, value.as_bytes());
        field(&mut out, 0x0A, &label);
    }
    out
}

fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// A connection that stays.
pub(crate) struct Sender {
    stream: BufReader<TcpStream>,
    path: &'static str,
}

impl Sender {
    pub(crate) fn connect(address: &str, path: &'static str) -> io::Result<Sender> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Sender {
            stream: BufReader::new(stream),
            path,
        })
    }

    /// Sends a body and waits for the answer.
    ///
    /// # Errors
    ///
    /// Also where the answer says that it was not taken.
    pub(crate) fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
            self.path,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        match status.split_whitespace().nth(1) {
            Some(code) if code.starts_with('2') => Ok(()),
            _ => {
                let said = String::from_utf8_lossy(&answer);
                Err(io::Error::other(format!("{status}{said}")))
            }
        }
    }
}
