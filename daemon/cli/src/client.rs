//! HTTP with a daemon: over its Unix socket, or HTTPS.
//!
//! One connection serves a whole run. If it breaks, what is safe to send again is
//! sent again once: what only reads, what never left, and what carries an
//! `Idempotency-Key`. Anything else is told, since it may have been done.

mod keys;
mod transport;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_LENGTH, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde_json::Value;

use crate::contexts::Book;
use crate::error::Trouble;
use crate::output::Output;
use crate::place::{Place, Where};

use keys::Keys;
pub(crate) use keys::{exchange_finished, farewell};
pub(crate) use transport::look_at_certificate;
use transport::{Broken, Transport, collect};

/// Longest wait for an answer: above the daemon's own limit, so that its reason
/// arrives.
const PATIENCE: Duration = Duration::from_secs(40);

/// Longest silence while a backup is made: the daemon copies its catalog before
/// the first byte comes.
const BACKUP_PATIENCE: Duration = Duration::from_secs(900);

/// The largest answer that is read: 10,000 devices with all we know are 20 MB.
const ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Makes a POST safe to repeat.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A daemon to talk to.
pub(crate) struct Client {
    transport: Transport,
    keys: Keys,
}

/// What the daemon answered, if it said yes.
pub(crate) struct Answer {
    pub(crate) body: Value,
    etag: Option<String>,
}

impl Answer {
    /// A change is to apply to this state and no other.
    pub(crate) fn unchanged(&self) -> If {
        let revision = || Some(format!("\"{}\"", self.body.get("revision")?.as_u64()?));
        match self.etag.clone().or_else(revision) {
            Some(tag) => If::Is(tag),
            None => If::Exists,
        }
    }
}

/// When a change is to be made.
pub(crate) enum If {
    /// Its state has this tag.
    Is(String),
    /// It is there, in whatever state: for what nobody can have seen.
    Exists,
    /// It is not there.
    New,
    /// It has no states.
    Always,
}

/// A request that is not sent yet.
struct Call {
    method: Method,
    path: String,
    accept: &'static str,
    headers: HeaderMap,
    body: Option<(&'static str, Bytes)>,
    /// Whether sending it twice does no more than sending it once.
    repeatable: bool,
    /// Whether it is asked by whom nobody knows yet.
    open: bool,
    /// Whether it proves something, so that a 401 means that this was wrong and
    /// says nothing of who asks.
    proves: bool,
    /// How long the daemon may be silent.
    patience: Duration,
}

impl Call {
    fn new(method: Method, path: &str) -> Call {
        Call {
            repeatable: method == Method::GET,
            method,
            path: path.to_owned(),
            accept: "application/json",
            headers: HeaderMap::new(),
            body: None,
            open: false,
            proves: false,
            patience: PATIENCE,
        }
    }

    fn json(mut self, body: &Value) -> Call {
        self.body = Some(("application/json", Bytes::from(body.to_string())));
        self
    }

    fn content(mut self, kind: &'static str, content: Vec<u8>) -> Call {
        self.body = Some((kind, Bytes::from(content)));
        self
    }

    fn given(mut self, condition: &If) -> Result<Call, Trouble> {
        let (name, value) = match condition {
            If::Is(tag) => (IF_MATCH, tag.as_str()),
            If::Exists => (IF_MATCH, "*"),
            If::New => (IF_NONE_MATCH, "*"),
            If::Always => return Ok(self),
        };
        self.headers.insert(name, value.parse().map_err(garbled)?);
        Ok(self)
    }

    /// The daemon does it once, however often it arrives.
    fn once(mut self) -> Result<Call, Trouble> {
        let key = random_key()?.parse().map_err(garbled)?;
        self.headers.insert(IDEMPOTENCY_KEY, key);
        self.repeatable = true;
        Ok(self)
    }

    fn open(mut self) -> Call {
        self.open = true;
        self
    }
}

fn random_key() -> Result<String, Trouble> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Trouble::local("draw a random key", std::io::Error::other(error)))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What came back.
struct Raw {
    status: StatusCode,
    etag: Option<String>,
    /// Seconds after which it may be tried again.
    retry_after: Option<u64>,
    content: Bytes,
}

impl Client {
    /// Reads the files that are needed; connects with the first request.
    pub(crate) async fn new(place: Place, book: Option<Book>) -> Result<Client, Trouble> {
        Ok(Client {
            keys: Keys::of(&place.shown, book).await?,
            transport: Transport::new(place.at)?,
        })
    }

    /// Shows a token that is not kept anywhere.
    pub(crate) fn with_token(place: Place, token: String) -> Result<Client, Trouble> {
        Ok(Client {
            keys: Keys::Token(token),
            transport: Transport::new(place.at)?,
        })
    }

    /// Whom we talk to.
    pub(crate) fn at(&self) -> &Where {
        self.transport.at()
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, Trouble> {
        self.ask(Call::new(Method::GET, path)).await
    }

    /// Does something, once even if the connection breaks.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Trouble> {
        self.ask(Call::new(Method::POST, path).json(body).once()?)
            .await
    }

    /// Does something whose answer is a secret: the daemon does not keep it to
    /// give it twice.
    pub(crate) async fn post_for_secret(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Trouble> {
        self.ask(Call::new(Method::POST, path).json(body)).await
    }

    /// Does something as nobody: signing in, setting up.
    pub(crate) async fn post_as_nobody(&self, path: &str, body: &Value) -> Result<Answer, Trouble> {
        self.ask(Call::new(Method::POST, path).json(body).open())
            .await
    }

    pub(crate) async fn get_as_nobody(&self, path: &str) -> Result<Answer, Trouble> {
        self.ask(Call::new(Method::GET, path).open()).await
    }

    pub(crate) async fn post_csv(&self, path: &str, csv: Vec<u8>) -> Result<Answer, Trouble> {
        self.ask(
            Call::new(Method::POST, path)
                .content("text/csv", csv)
                .once()?,
        )
        .await
    }

    /// Hands a file over, once: it is not repeated by itself.
    pub(crate) async fn post_bytes(&self, path: &str, bytes: Vec<u8>) -> Result<Answer, Trouble> {
        let kind = "application/octet-stream";
        self.ask(Call::new(Method::POST, path).content(kind, bytes))
            .await
    }

    /// The same, in the place of what was there.
    pub(crate) async fn put_bytes(&self, path: &str, bytes: Vec<u8>) -> Result<Answer, Trouble> {
        let mut call = Call::new(Method::PUT, path);
        call.repeatable = true;
        self.ask(call.content("application/octet-stream", bytes))
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value, when: If) -> Result<Answer, Trouble> {
        self.ask(Call::new(Method::PUT, path).json(body).given(&when)?)
            .await
    }

    /// RFC 7396: what is null is unset, what is absent stays.
    pub(crate) async fn patch(
        &self,
        path: &str,
        body: &Value,
        when: If,
    ) -> Result<Answer, Trouble> {
        let content = body.to_string().into_bytes();
        let call = Call::new(Method::PATCH, path).content("application/merge-patch+json", content);
        self.ask(call.given(&when)?).await
    }

    pub(crate) async fn delete(&self, path: &str, when: If) -> Result<Answer, Trouble> {
        self.ask(Call::new(Method::DELETE, path).given(&when)?)
            .await
    }

    /// Changes or removes something of one's own, with a password or a code in the
    /// body. Makes sure first that it is still known who asks.
    pub(crate) async fn prove(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Trouble> {
        self.get("/api/v1/me").await?;
        let mut call = Call::new(method, path).json(body);
        call.proves = true;
        self.ask(call).await
    }

    /// Changes what is there now, unless somebody else does so in between.
    pub(crate) async fn patch_seen(&self, path: &str, body: &Value) -> Result<Answer, Trouble> {
        let (_state, when) = self.look(path).await?;
        self.patch(path, body, when).await
    }

    /// Removes what is there now; gives what it was, or null to who may not see it.
    pub(crate) async fn delete_seen(&self, path: &str) -> Result<Value, Trouble> {
        let (state, when) = self.look(path).await?;
        self.delete(path, when).await?;
        Ok(state)
    }

    /// Sets something, new or again.
    pub(crate) async fn put_seen(&self, path: &str, body: &Value) -> Result<Answer, Trouble> {
        let when = match self.look(path).await {
            Ok((_state, when)) => when,
            Err(trouble) if trouble.status() == Some(404) => If::New,
            Err(trouble) => return Err(trouble),
        };
        let blind = matches!(when, If::Exists);
        match self.put(path, body, when).await {
            // who may not look cannot know that there is none yet
            Err(trouble) if blind && trouble.status() == Some(412) => {
                self.put(path, body, If::New).await
            }
            other => other,
        }
    }

    /// The state that a change is to apply to; whatever it is, for who may write
    /// but not read.
    async fn look(&self, path: &str) -> Result<(Value, If), Trouble> {
        match self.get(path).await {
            Ok(seen) => {
                let when = seen.unchanged();
                Ok((seen.body, when))
            }
            Err(trouble) if trouble.status() == Some(403) => Ok((Value::Null, If::Exists)),
            Err(trouble) => Err(trouble),
        }
    }

    /// Prints an answer as it comes, however long it is.
    pub(crate) async fn stream(
        &self,
        path: &str,
        accept: &'static str,
        output: &Output,
    ) -> Result<(), Trouble> {
        let mut call = Call::new(Method::GET, path);
        call.accept = accept;
        let mut pour = output.pour();
        self.streamed(&call, "what was printed is not all", &mut |piece| {
            pour.add(piece)
        })
        .await?;
        pour.end()
    }

    /// Has a backup made, and gives it to `take` piece by piece. What was taken is
    /// whole if this went well, and otherwise not.
    pub(crate) async fn post_for_backup(
        &self,
        path: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut call = Call::new(Method::POST, path);
        call.accept = "application/x-tar";
        call.patience = BACKUP_PATIENCE;
        self.streamed(&call, "there is no backup", take).await
    }

    /// `torn`: what it means if the end does not come.
    async fn streamed(
        &self,
        call: &Call,
        torn: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut bearer = self.bearer().await?;
        for _try in 0..2 {
            let begun = self.transport.begin(call, bearer.as_deref()).await;
            let (response, _sender) = begun.map_err(|broken| self.broken(call, broken))?;
            if response.status().is_success() {
                return self.pour(call, response, torn, take).await;
            }
            let refused = collect(response).await;
            let refused = refused.map_err(|broken| self.broken(call, broken))?;
            bearer = self.renewed(refused.status, bearer.as_deref()).await?;
            if bearer.is_none() {
                return self.read(call, &refused).map(|_answer| ());
            }
        }
        Err(self.not_signed_in("a new access token is refused too"))
    }

    async fn pour(
        &self,
        call: &Call,
        response: Response<Incoming>,
        torn: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let lost = |why: String| {
            Trouble::Partly(format!(
                "the connection to {} broke in the middle: {why}; {torn}",
                self.at()
            ))
        };
        // what just ends with the connection may end anywhere
        let bounded = [TRANSFER_ENCODING, CONTENT_LENGTH];
        if !bounded
            .iter()
            .any(|name| response.headers().contains_key(name))
        {
            return Err(garbled(
                "an answer whose end cannot be told from a torn one",
            ));
        }
        let mut body = response.into_body();
        loop {
            let Ok(frame) = tokio::time::timeout(call.patience, body.frame()).await else {
                return Err(lost(late(call.patience)));
            };
            match frame {
                None => return Ok(()),
                Some(Err(error)) => return Err(lost(error.to_string())),
                Some(Ok(frame)) => {
                    if let Some(content) = frame.data_ref() {
                        take(content)?;
                    }
                }
            }
        }
    }

    async fn ask(&self, call: Call) -> Result<Answer, Trouble> {
        if call.open {
            let raw = self.deliver(&call, None).await?;
            return self.read(&call, &raw);
        }
        let bearer = self.bearer().await?;
        let mut raw = self.deliver(&call, bearer.as_deref()).await?;
        if call.proves {
            return self.read(&call, &raw);
        }
        // the daemon may have been restarted, and its keys with it; what is
        // answered so was not done
        if let Some(renewed) = self.renewed(raw.status, bearer.as_deref()).await? {
            raw = self.deliver(&call, Some(&renewed)).await?;
        }
        self.read(&call, &raw)
    }

    async fn deliver(&self, call: &Call, bearer: Option<&str>) -> Result<Raw, Trouble> {
        let first = self.transport.exchange(call, bearer).await;
        let last = match first {
            Err(Broken::Lost { unsent, .. }) if unsent || call.repeatable => {
                self.transport.exchange(call, bearer).await
            }
            other => other,
        };
        last.map_err(|broken| self.broken(call, broken))
    }

    fn broken(&self, call: &Call, broken: Broken) -> Trouble {
        let at = Box::new(self.at().clone());
        match broken {
            Broken::Never(trouble) => trouble,
            Broken::Lost { why, .. } => Trouble::Lost { at, why },
            Broken::Late if call.method == Method::GET => Trouble::Unreachable {
                at,
                source: std::io::Error::new(std::io::ErrorKind::TimedOut, late(call.patience)),
            },
            Broken::Late => Trouble::Lost {
                at,
                why: late(call.patience),
            },
        }
    }

    fn read(&self, call: &Call, raw: &Raw) -> Result<Answer, Trouble> {
        let body = match raw.content.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&raw.content).map_err(|error| {
                match raw.status.is_success() {
                    true => garbled(error),
                    false => garbled(format!("status {} without a reason", raw.status)),
                }
            })?,
        };
        if raw.status.is_success() {
            return Ok(Answer {
                body,
                etag: raw.etag.clone(),
            });
        }
        if raw.status == StatusCode::UNAUTHORIZED && !call.open && !call.proves {
            let why = body.get("detail").and_then(Value::as_str);
            return Err(self.not_signed_in(why.unwrap_or("nobody said who asks")));
        }
        let mut problem = body;
        if let (Some(seconds), Some(fields)) = (raw.retry_after, problem.as_object_mut()) {
            fields.insert("retry_after".into(), seconds.into());
        }
        Err(Trouble::Refused {
            status: raw.status.as_u16(),
            problem,
        })
    }

    fn not_signed_in(&self, why: &str) -> Trouble {
        Trouble::NotSignedIn {
            at: Box::new(self.at().clone()),
            why: why.to_owned(),
        }
    }
}

fn late(patience: Duration) -> String {
    format!("no answer within {} s", patience.as_secs())
}

fn etag_of(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(ETAG)?.to_str().ok()?.to_owned())
}

fn retry_after_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
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
    use serde_json::json;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(segment("a/../b?x=ü"), "a%2F..%2Fb%3Fx%3D%C3%BC");
        assert_eq!(
            query(&[("q", Some("a b".into())), ("site", None)]),
            "?q=a%20b"
        );
        assert_eq!(query(&[("site", None)]), "");
    }

    #[test]
    fn a_change_applies_to_the_state_that_was_seen() {
        let tag = |etag: Option<&str>, body: Value| {
            let etag = etag.map(str::to_owned);
            match (Answer { body, etag }).unchanged() {
                If::Is(tag) => tag,
                _ => "*".to_owned(),
            }
        };
        assert_eq!(tag(Some("\"7\""), json!({"revision": 8})), "\"7\"");
        assert_eq!(tag(None, json!({"revision": 8})), "\"8\"");
        assert_eq!(tag(None, json!({})), "*");
    }
}
