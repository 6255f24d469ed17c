//! HTTP over the daemon's Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::error::Trouble;

/// Longest wait for an answer: above the daemon's own limit, so that its reason
/// arrives.
const PATIENCE: Duration = Duration::from_secs(40);

/// The largest answer that is read: 10,000 devices with all we know are 20 MB.
const ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// A daemon to talk to.
pub(crate) struct Client {
    socket: PathBuf,
}

/// What the daemon answered, if it said yes.
pub(crate) struct Answer {
    pub(crate) body: Value,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Client {
        Client {
            socket: socket.to_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, Trouble> {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Trouble> {
        self.ask(Method::POST, path, Some(json(body))).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Answer, Trouble> {
        self.ask(Method::PUT, path, Some(json(body))).await
    }

    /// RFC 7396: what is null is unset, what is absent stays.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Answer, Trouble> {
        let body = ("application/merge-patch+json", json(body).1);
        self.ask(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, Trouble> {
        self.ask(Method::DELETE, path, None).await
    }

    pub(crate) async fn post_csv(&self, path: &str, csv: Vec<u8>) -> Result<Answer, Trouble> {
        let body = ("text/csv", Bytes::from(csv));
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Answer, Trouble> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_silence) => Err(Trouble::unreachable(
                &self.socket,
                std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("no answer within {} s", PATIENCE.as_secs()),
                ),
            )),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Answer, Trouble> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| Trouble::unreachable(&self.socket, source))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(garbled)?;
        let driver = tokio::spawn(connection);

        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "sotpd")
            .header("accept", "application/json")
            .header("user-agent", concat!("sotp/", env!("CARGO_PKG_VERSION")));
        let mut bytes = Bytes::new();
        if let Some((content_type, content)) = body {
            request = request.header("content-type", content_type);
            bytes = content;
        }
        let request = request.body(Full::new(bytes)).map_err(garbled)?;
        let response = sender.send_request(request).await.map_err(garbled)?;
        let status = response.status();
        let content = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await
            .map_err(garbled)?
            .to_bytes();
        driver.abort();
        read(status, &content)
    }
}

fn json(body: &Value) -> (&'static str, Bytes) {
    ("application/json", Bytes::from(body.to_string()))
}

fn read(status: StatusCode, content: &[u8]) -> Result<Answer, Trouble> {
    let body = if content.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(content).map_err(garbled)?
    };
    if status.is_success() {
        return Ok(Answer { body });
    }
    Err(Trouble::Refused {
        status: status.as_u16(),
        problem: body,
    })
}

fn garbled(error: impl std::fmt::Display) -> Trouble {
    Trouble::Garbled(error.to_string())
}

/// A part of a path, with everything but unreserved characters escaped
/// (RFC 3986 §2.3): a name may hold any character.
pub(crate) fn segment(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// `?a=b&c=d` of those that are given.
pub(crate) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = pairs
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|v| format!("{name}={}", segment(v))))
        .collect();
    if given.is_empty() {
        String::new()
    } else {
        format!("?{}", given.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(segment("a/../b?x=ü"), "a%2F..%2Fb%3Fx%3D%C3%BC");
        assert_eq!(
            query(&[("q", Some("a b".into())), ("site", None)]),
            "?q=a%20b"
        );
        assert_eq!(query(&[("site", None)]), "");
    }
}
