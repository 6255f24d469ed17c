//! HTTP/1.1 as a client needs it: one request out, one answer in.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde_json::{Value, json};

/// Anything that carries HTTP.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// An open connection, for one request after the other.
pub struct Line {
    stream: BufReader<Box<dyn Stream>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Ask<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Headers beside those that the message itself needs.
    pub headers: Vec<(&'a str, &'a str)>,
    /// Type and content.
    pub body: Option<(&'a str, Vec<u8>)>,
}

impl<'a> Ask<'a> {
    /// `method path` without a body.
    #[must_use]
    pub fn new(method: &'a str, path: &'a str) -> Ask<'a> {
        Ask {
            method,
            path,
            ..Ask::default()
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: &'a str) -> Ask<'a> {
        self.headers.push((name, value));
        self
    }

    /// With this JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Ask<'a> {
        self.bytes("application/json", body.to_string().into_bytes())
    }

    /// With this body.
    #[must_use]
    pub fn bytes(mut self, kind: &'a str, body: Vec<u8>) -> Ask<'a> {
        self.body = Some((kind, body));
        self
    }
}

/// What the API answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Every header, as it came.
    pub headers: Vec<(String, String)>,
    /// The body; a text, if it was not JSON.
    pub body: Value,
}

impl Response {
    /// The first header called `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as a text.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.body {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The body of a yes.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[track_caller]
    pub fn expect(self, what: &str) -> Value {
        let yes = (200..300).contains(&self.status);
        assert!(yes, "{what}: {} {}", self.status, self.body);
        self.body
    }
}

impl Line {
    /// Over a stream that is connected.
    pub(crate) fn new(stream: impl Stream + 'static) -> Line {
        Line {
            stream: BufReader::new(Box::new(stream)),
        }
    }

    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// If the other side closes, is silent for too long, or speaks no HTTP.
    pub fn send(&mut self, ask: &Ask<'_>) -> io::Result<Response> {
        let (kind, content) = match &ask.body {
            Some((kind, content)) => (*kind, content.as_slice()),
            None => ("", &b""[..]),
        };
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\n",
            ask.method, ask.path
        );
        for (name, value) in &ask.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !kind.is_empty() {
            head.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", content.len()));
        let stream = self.stream.get_mut();
        // who is cut off in the middle may have been answered all the same
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(content))
            .and_then(|()| stream.flush());
        self.receive(ask.method == "HEAD")
            .map_err(|error| sent.err().unwrap_or(error))
    }

    fn receive(&mut self, without_body: bool) -> io::Result<Response> {
        let status = self.line()?;
        let status = status.split_whitespace().nth(1);
        let status = status.and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(|| io::Error::other("no HTTP status"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        let mut response = Response {
            status,
            headers,
            body: Value::Null,
        };
        if !without_body {
            let body = self.body(&response)?;
            let text = String::from_utf8_lossy(&body);
            response.body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        }
        Ok(response)
    }

    /// As long as the headers say.
    fn body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.line()?;
                let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk)?;
                body.append(&mut chunk);
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        let length = response.header("content-length");
        match length.and_then(|length| length.parse().ok()) {
            Some(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body)?;
            }
            None if matches!(response.status, 204 | 304) => {}
            None => {
                self.stream.read_to_end(&mut body)?;
            }
        }
        Ok(body)
    }

    /// A line of the head, without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line);
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
