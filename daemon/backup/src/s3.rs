//! Backups in an S3 bucket: signed requests (`rusty-s3`) over our own HTTP
//! client (`fetch`).
//!
//! An archive goes up in parts of the same size, each with its MD5, and appears
//! under its name when the last one is there; parts of one that failed are
//! thrown away. It comes down in ranges. One part is in memory at a time. What
//! fails on its way is tried again a few times.
//!
//! Whoever runs the bucket should let it throw away uploads that were never
//! completed: those of a daemon that was killed stay otherwise.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use fetch::{FetchError, FetchSettings, Fetcher};
use hyper::header::{CONTENT_LENGTH, ETAG, RANGE};
use hyper::{Request, Response, StatusCode, Uri};
use md5::{Digest, Md5};
use model::Timestamp;
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2};
use rusty_s3::{Bucket, Credentials, Method, S3Action, UrlStyle};
use tracing::warn;
use url::Url;
use zeroize::Zeroizing;

use crate::error::BackupError;
use crate::name::BackupName;
use crate::pipe::{PieceReader, PieceSender, Pieces, pipe};
use crate::place::StoredBackup;

/// The size of a part: above the 5 MiB that S3 wants at least.
const PART_BYTES: u64 = 8 << 20;
/// S3 allows 10,000 parts; an archive may become a little larger than thought.
const PARTS: u64 = 9_000;
/// The most that an answer may have: a range, or a page of a listing.
const ANSWER_BYTES: usize = 16 << 20;
/// How long a signed request may be on its way, clocks that differ included.
const EXPIRES: Duration = Duration::from_secs(900);
/// How often a request is tried, and how long after the first failure it is
/// tried again; then after twice as long.
const TRIES: u32 = 4;
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// Pages of a listing: of 1,000 names each.
const PAGES: usize = 1_000;
/// What names of ours begin with.
const NAME_START: &str = "sotp-";

type Asked = Pin<Box<dyn Future<Output = Result<Zeroizing<String>, String>> + Send>>;

/// The secret of the access key: asked for each time that it is needed.
/// `Debug` does not show it.
#[derive(Clone)]
pub struct SecretKey(Arc<dyn Fn() -> Asked + Send + Sync>);

impl SecretKey {
    /// One that `ask` gives, or says why not.
    pub fn new<F, A>(ask: F) -> SecretKey
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Zeroizing<String>, String>> + Send + 'static,
    {
        SecretKey(Arc::new(move || Box::pin(ask())))
    }

    /// One that is known.
    #[must_use]
    pub fn known(secret: Zeroizing<String>) -> SecretKey {
        SecretKey::new(move || std::future::ready(Ok(secret.clone())))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// How to reach a bucket.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The server: `https://s3.example.net`; `None`: AWS, by region.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What all names begin with, without a slash at either end; may be empty.
    pub prefix: String,
    /// Whether the bucket stands in the path, not in the server's name.
    pub path_style: bool,
    /// The access key's ID.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretKey,
    /// A file of PEM certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take.
    pub timeout: Duration,
}

#[derive(Clone)]
pub(crate) struct S3 {
    fetcher: Fetcher,
    bucket: Arc<Bucket>,
    /// Empty, or ends with a slash.
    prefix: String,
    access_key: String,
    secret_key: SecretKey,
    server: String,
    /// Names in a page of a listing; `None`: as many as the server likes.
    page: Option<usize>,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (&self.server, self.bucket.name(), &self.prefix);
        f.debug_tuple("S3").field(&shown).finish()
    }
}

impl S3 {
    pub(crate) fn new(settings: &S3Settings) -> Result<S3, BackupError> {
        let refused = |why: String| BackupError::S3Settings { why };
        let mut endpoint = settings
            .endpoint
            .clone()
            .unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", settings.region));
        if !endpoint.ends_with('/') {
            endpoint.push('/');
        }
        let endpoint: Url = endpoint
            .parse()
            .map_err(|error| refused(format!("the endpoint is no address: {error}")))?;
        let server = match (endpoint.host_str(), endpoint.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(refused("the endpoint names no server".to_owned())),
        };
        let style = match settings.path_style {
            true => UrlStyle::Path,
            false => UrlStyle::VirtualHost,
        };
        let (name, region) = (settings.bucket.clone(), settings.region.clone());
        let bucket = Bucket::new(endpoint, style, name, region).map_err(|_| {
            let bucket = &settings.bucket;
            refused(format!(
                "{bucket} cannot stand before {server}; try path_style = true"
            ))
        })?;
        let fetcher = Fetcher::new(&FetchSettings {
            ca_file: settings.ca_file.clone(),
            timeout: settings.timeout,
            max_body: ANSWER_BYTES,
        })?;
        Ok(S3 {
            fetcher,
            bucket: Arc::new(bucket),
            prefix: match settings.prefix.trim_matches('/') {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            access_key: settings.access_key.clone(),
            secret_key: settings.secret_key.clone(),
            server,
            page: None,
        })
    }

    /// As few names in a page as the server is asked for.
    #[cfg(test)]
    pub(crate) fn with_page(self, names: usize) -> S3 {
        S3 {
            page: Some(names),
            ..self
        }
    }

    pub(crate) async fn put(
        &self,
        name: &BackupName,
        about_bytes: u64,
        pieces: Pieces,
    ) -> Result<u64, BackupError> {
        let keys = self.keys().await?;
        let mut parts = Parts {
            pieces,
            size: part_size(about_bytes),
            rest: BytesMut::new(),
            ended: false,
        };
        let first = parts.next().await?.unwrap_or_default();
        if parts.ended {
            let bytes = first.len() as u64;
            self.put_whole(&keys, name, first).await?;
            return Ok(bytes);
        }
        let mut upload = self.begin(&keys, name).await?;
        let outcome = self.put_parts(&keys, &mut upload, first, parts).await;
        match &outcome {
            // no answer to the last request does not mean that it was not done
            Ok(_) => upload.is_open = false,
            Err(_) => upload.abort().await,
        }
        outcome
    }

    async fn put_whole(
        &self,
        keys: &Credentials,
        name: &BackupName,
        content: Bytes,
    ) -> Result<(), BackupError> {
        let key = self.key(name);
        let sum = md5(&content);
        let request = || {
            let mut action = self.bucket.put_object(Some(keys), &key);
            action.headers_mut().insert("content-md5", sum.as_str());
            signed(&action, &[("content-md5", &sum)], content.clone())
        };
        let doing = format!("take {name}");
        self.ask(&doing, request).await.map(drop)
    }

    async fn begin(&self, keys: &Credentials, name: &BackupName) -> Result<Upload, BackupError> {
        let key = self.key(name);
        let doing = format!("begin {name}");
        let request = || {
            let action = self.bucket.create_multipart_upload(Some(keys), &key);
            signed(&action, &[], Bytes::new())
        };
        let answer = self.ask(&doing, request).await?;
        let answer = CreateMultipartUpload::parse_response(answer.body())
            .map_err(|_| self.nonsense(&doing, "its answer is no XML of S3's"))?;
        Ok(Upload {
            s3: self.clone(),
            keys: keys.clone(),
            name: name.clone(),
            id: answer.upload_id().to_owned(),
            is_open: true,
        })
    }

    async fn put_parts(
        &self,
        keys: &Credentials,
        upload: &mut Upload,
        first: Bytes,
        mut parts: Parts,
    ) -> Result<u64, BackupError> {
        let (mut tags, mut bytes) = (Vec::new(), 0);
        let mut part = Some(first);
        while let Some(content) = part {
            bytes += content.len() as u64;
            tags.push(self.put_part(keys, upload, tags.len() + 1, content).await?);
            part = parts.next().await?;
        }
        self.complete(keys, upload, &tags, bytes).await?;
        Ok(bytes)
    }

    async fn put_part(
        &self,
        keys: &Credentials,
        upload: &Upload,
        number: usize,
        content: Bytes,
    ) -> Result<String, BackupError> {
        let doing = format!("take part {number} of {}", upload.name);
        let number =
            u16::try_from(number).map_err(|_| self.nonsense(&doing, "there are too many"))?;
        let (key, sum) = (self.key(&upload.name), md5(&content));
        let request = || {
            let mut action = self
                .bucket
                .upload_part(Some(keys), &key, number, &upload.id);
            action.headers_mut().insert("content-md5", sum.as_str());
            signed(&action, &[("content-md5", &sum)], content.clone())
        };
        let answer = self.ask(&doing, request).await?;
        let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        tag.map(str::to_owned)
            .ok_or_else(|| self.nonsense(&doing, "its answer has no ETag"))
    }

    async fn complete(
        &self,
        keys: &Credentials,
        upload: &Upload,
        tags: &[String],
        bytes: u64,
    ) -> Result<(), BackupError> {
        let key = self.key(&upload.name);
        let doing = format!("complete {}", upload.name);
        let request = || {
            let (key, id) = (key.as_str(), upload.id.as_str());
            let tags = || tags.iter().map(String::as_str);
            let action = || {
                self.bucket
                    .complete_multipart_upload(Some(keys), key, id, tags())
            };
            signed(&action(), &[], Bytes::from(action().body()))
        };
        let answer = self.ask(&doing, request).await;
        let refused = match &answer {
            // it may have begun its answer before it knew
            Ok(answer) => error_code(answer.body()).is_some(),
            Err(_) => true,
        };
        if !refused {
            return Ok(());
        }
        // the first of several tries may have done it, and its answer been lost
        if matches!(self.look(keys, &upload.name).await, Ok(found) if found.bytes == bytes) {
            return Ok(());
        }
        let answer = answer?;
        Err(self.refused(&doing, &answer))
    }

    pub(crate) async fn list(&self) -> Result<Vec<StoredBackup>, BackupError> {
        let keys = self.keys().await?;
        let doing = format!("list {}", self.bucket.name());
        let (mut found, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let request = || {
                let mut action = self.bucket.list_objects_v2(Some(&keys));
                action.with_prefix(format!("{}{NAME_START}", self.prefix));
                if let Some(token) = &token {
                    action.with_continuation_token(token.as_str());
                }
                if let Some(page) = self.page {
                    action.with_max_keys(page);
                }
                signed(&action, &[], Bytes::new())
            };
            let answer = self.ask(&doing, request).await?;
            let page = ListObjectsV2::parse_response(answer.body())
                .map_err(|_| self.nonsense(&doing, "its answer is no XML of S3's"))?;
            for object in page.contents {
                found.extend(self.backup(&object.key, object.size, &object.last_modified));
            }
            match page.next_continuation_token {
                None => return Ok(found),
                next if next == token => break,
                next => token = next,
            }
        }
        Err(self.nonsense(&doing, "the list does not end"))
    }

    /// An object, if it is a backup of ours.
    fn backup(&self, key: &str, bytes: u64, modified: &str) -> Option<StoredBackup> {
        let key = percent_decoded(key)?;
        Some(StoredBackup {
            name: key.strip_prefix(&self.prefix)?.parse().ok()?,
            bytes,
            modified: modified.parse::<Timestamp>().ok(),
        })
    }

    pub(crate) async fn open(
        &self,
        name: &BackupName,
    ) -> Result<Box<dyn Read + Send>, BackupError> {
        let keys = self.keys().await?;
        let found = self.look(&keys, name).await?;
        let (sender, pieces) = pipe();
        let (here, name) = (self.clone(), name.clone());
        tokio::spawn(async move {
            let outcome = here.download(&keys, &name, &found, &sender).await;
            sender.end(outcome).await;
        });
        Ok(Box::new(PieceReader::new(pieces)))
    }

    /// The size of an object, and what it is told by if it changes.
    async fn look(&self, keys: &Credentials, name: &BackupName) -> Result<Found, BackupError> {
        let key = self.key(name);
        let doing = format!("look at {name}");
        let request = || {
            signed(
                &self.bucket.head_object(Some(keys), &key),
                &[],
                Bytes::new(),
            )
        };
        let answer = match self.ask(&doing, request).await {
            Err(BackupError::S3 { status: 404, .. }) => {
                return Err(BackupError::Missing {
                    name: name.to_string(),
                });
            }
            answer => answer?,
        };
        let length = answer.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(Found {
            bytes: length.ok_or_else(|| self.nonsense(&doing, "its answer has no length"))?,
            tag: tag(&answer),
        })
    }

    async fn download(
        &self,
        keys: &Credentials,
        name: &BackupName,
        found: &Found,
        sender: &PieceSender,
    ) -> Result<(), BackupError> {
        let key = self.key(name);
        let doing = format!("give {name}");
        let mut at = 0;
        while at < found.bytes {
            let end = found.bytes.min(at + PART_BYTES);
            let range = format!("bytes={at}-{}", end - 1);
            let request = || {
                let action = self.bucket.get_object(Some(keys), &key);
                signed(&action, &[(RANGE.as_str(), &range)], Bytes::new())
            };
            let answer = self.ask(&doing, request).await?;
            let whole = at == 0 && end == found.bytes;
            let is_range = answer.status() == StatusCode::PARTIAL_CONTENT || whole;
            if !is_range || answer.body().len() as u64 != end - at {
                return Err(self.nonsense(&doing, "it is not what was asked for"));
            }
            if tag(&answer) != found.tag {
                return Err(self.nonsense(&doing, "it was replaced meanwhile"));
            }
            if !sender.send_all(answer.into_body()).await {
                return Ok(());
            }
            at = end;
        }
        Ok(())
    }

    pub(crate) async fn remove(&self, name: &BackupName) -> Result<(), BackupError> {
        let keys = self.keys().await?;
        let key = self.key(name);
        let request = || {
            signed(
                &self.bucket.delete_object(Some(&keys), &key),
                &[],
                Bytes::new(),
            )
        };
        let doing = format!("remove {name}");
        match self.ask(&doing, request).await {
            Err(BackupError::S3 {
                status: 404, code, ..
            }) if code == "NoSuchKey" => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn key(&self, name: &BackupName) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn keys(&self) -> Result<Credentials, BackupError> {
        let secret = (self.secret_key.0)().await;
        let secret = secret.map_err(|why| BackupError::SecretKey { why })?;
        Ok(Credentials::new(self.access_key.as_str(), secret.as_str()))
    }

    /// Makes a request, signed anew each time, until it is answered; gives only
    /// answers of success.
    async fn ask(
        &self,
        doing: &str,
        request: impl Fn() -> Request<Bytes>,
    ) -> Result<Response<Bytes>, BackupError> {
        let mut wait = RETRY_WAIT;
        for _ in 1..TRIES {
            match self.ask_once(doing, request()).await {
                Err(error) if is_passing(&error) => {
                    warn!(%error, "asking the S3 server again");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                answer => return answer,
            }
        }
        self.ask_once(doing, request()).await
    }

    async fn ask_once(
        &self,
        doing: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, BackupError> {
        let answer = self.fetcher.fetch(request).await?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(self.refused(doing, &answer)),
        }
    }

    fn refused(&self, doing: &str, answer: &Response<Bytes>) -> BackupError {
        let status = answer.status();
        let code = error_code(answer.body());
        let code = code.unwrap_or_else(|| {
            let reason = status.canonical_reason().unwrap_or("no reason given");
            reason.to_owned()
        });
        BackupError::S3 {
            server: self.server.clone(),
            doing: doing.to_owned(),
            hint: hint(status, &code),
            status: status.as_u16(),
            code,
        }
    }

    fn nonsense(&self, doing: &str, why: &'static str) -> BackupError {
        BackupError::Nonsense {
            server: self.server.clone(),
            doing: doing.to_owned(),
            why,
        }
    }
}

/// What an object is now.
struct Found {
    bytes: u64,
    tag: Option<String>,
}

fn tag(answer: &Response<Bytes>) -> Option<String> {
    let tag = answer.headers().get(ETAG)?;
    tag.to_str().ok().map(str::to_owned)
}

/// An upload in parts. Whoever drops it while it is open throws its parts away.
struct Upload {
    s3: S3,
    keys: Credentials,
    name: BackupName,
    id: String,
    is_open: bool,
}

impl Upload {
    async fn abort(&mut self) {
        self.is_open = false;
        abort(&self.s3, &self.keys, &self.name, &self.id).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        let (true, Ok(runtime)) = (self.is_open, runtime) else {
            return;
        };
        let (s3, keys) = (self.s3.clone(), self.keys.clone());
        let (name, id) = (self.name.clone(), self.id.clone());
        runtime.spawn(async move { abort(&s3, &keys, &name, &id).await });
    }
}

async fn abort(s3: &S3, keys: &Credentials, name: &BackupName, id: &str) {
    let key = s3.key(name);
    let request = || {
        let action = s3.bucket.abort_multipart_upload(Some(keys), &key, id);
        signed(&action, &[], Bytes::new())
    };
    let doing = format!("throw away the parts of {name}");
    if let Err(error) = s3.ask(&doing, request).await {
        warn!(%error, "parts of a backup that failed are left in the bucket");
    }
}

/// Pieces, put together to parts.
struct Parts {
    pieces: Pieces,
    size: usize,
    rest: BytesMut,
    ended: bool,
}

impl Parts {
    /// The next part; only the last one is smaller than the others.
    async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        while !self.ended && self.rest.len() < self.size {
            match self.pieces.next().await {
                Some(piece) => self.rest.extend_from_slice(&piece?),
                None => self.ended = true,
            }
        }
        let length = self.rest.len().min(self.size);
        let part = self.rest.split_to(length).freeze();
        Ok((!part.is_empty()).then_some(part))
    }
}

/// The size of the parts of an archive of about so many bytes: whole MiB.
fn part_size(about_bytes: u64) -> usize {
    let needed = about_bytes.div_ceil(PARTS).next_multiple_of(1 << 20);
    usize::try_from(needed.max(PART_BYTES)).unwrap_or(usize::MAX)
}

fn md5(content: &[u8]) -> String {
    STANDARD.encode(Md5::digest(content))
}

/// The request for `action` with `headers`; those that are signed have to be
/// among the action's, too.
fn signed<'a>(action: &impl S3Action<'a>, headers: &[(&str, &str)], body: Bytes) -> Request<Bytes> {
    let url = action.sign(EXPIRES);
    let uri: Uri = url.as_str().parse().expect("an address is a URI");
    let method = method(action);
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if matches!(method, hyper::Method::PUT | hyper::Method::POST) {
        // an empty body has a length, too
        request = request.header(CONTENT_LENGTH, body.len());
    }
    let request = request.method(method).body(body);
    request.expect("headers are of digits and letters")
}

fn method<'a, A: S3Action<'a>>(_action: &A) -> hyper::Method {
    match A::METHOD {
        Method::Head => hyper::Method::HEAD,
        Method::Get => hyper::Method::GET,
        Method::Post => hyper::Method::POST,
        Method::Put => hyper::Method::PUT,
        Method::Delete => hyper::Method::DELETE,
    }
}

/// Whether it may be better in a moment.
fn is_passing(error: &BackupError) -> bool {
    match error {
        BackupError::Fetch(error) => !matches!(
            error,
            FetchError::NotHttps { .. } | FetchError::CaFile { .. }
        ),
        BackupError::S3 { status, code, .. } => {
            matches!(status, 429 | 500 | 502 | 503 | 504) || code == "RequestTimeout"
        }
        _ => false,
    }
}

/// The longest word that S3 has for an error.
const CODE_BYTES: usize = 64;

/// The word for what is wrong, in an answer such as
/// `<Error><Code>NoSuchBucket</Code>…`. The rest may repeat the request.
fn error_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, error) = text.split_once("<Error>")?;
    let (_, code) = error.split_once("<Code>")?;
    let (code, _) = code.split_once("</Code>")?;
    let is_word = (1..=CODE_BYTES).contains(&code.len())
        && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    is_word.then(|| code.to_owned())
}

/// What to do, in our settings' words.
fn hint(status: StatusCode, code: &str) -> &'static str {
    match (code, status.as_u16()) {
        ("NoSuchBucket", _) => ": make the bucket, or correct to = …",
        ("NoSuchKey", _) => ": it is not there any more",
        ("InvalidAccessKeyId", _) => ": access_key is not known there",
        ("SignatureDoesNotMatch", _) => ": the secret of access_key is another one",
        ("RequestTimeTooSkewed", _) => ": set the clock of this machine, or of that one",
        ("AuthorizationHeaderMalformed" | "PermanentRedirect", _) | (_, 301 | 307 | 308) => {
            ": the bucket lies in another region; correct region = … or endpoint = …"
        }
        ("AccessDenied", _) | (_, 401 | 403) => {
            ": look at access_key, its secret and the clock; the key has to be allowed to list \
             the bucket, and to put, get, delete and abort uploads in it"
        }
        (_, 507) | ("QuotaExceeded" | "XMinioStorageFull", _) => {
            ": there is no space left; keep fewer backups"
        }
        (_, 429 | 500..) => ": try again later, or ask whoever runs it",
        _ => "",
    }
}

/// `text`, in which a byte may stand as `%2F` and a space as `+`.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: Option<&str>, path_style: bool) -> S3Settings {
        S3Settings {
            endpoint: endpoint.map(str::to_owned),
            region: "eu-central-1".to_owned(),
            bucket: "backups".to_owned(),
            prefix: "noc".to_owned(),
            path_style,
            access_key: "AKIA".to_owned(),
            secret_key: SecretKey::known(Zeroizing::new("canary".to_owned())),
            ca_file: None,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_bucket_stands_in_the_path_or_in_the_name() {
        for (endpoint, path_style, expected) in [
            (None, true, "https://s3.eu-central-1.amazonaws.com/backups/"),
            (
                None,
                false,
                "https://backups.s3.eu-central-1.amazonaws.com/",
            ),
            (
                Some("https://s3.example.net"),
                true,
                "https://s3.example.net/backups/",
            ),
            (
                Some("https://example.net:9000/s3"),
                true,
                "https://example.net:9000/s3/backups/",
            ),
            (
                Some("https://example.net:9000"),
                false,
                "https://backups.example.net:9000/",
            ),
        ] {
            let s3 = S3::new(&settings(endpoint, path_style)).unwrap();
            assert_eq!(s3.bucket.base_url().as_str(), expected);
        }
        for (endpoint, path_style) in [("http://127.0.0.1:9000", false), ("no address", true)] {
            let error = S3::new(&settings(Some(endpoint), path_style)).unwrap_err();
            assert!(matches!(error, BackupError::S3Settings { .. }), "{error}");
        }
    }

    #[test]
    fn settings_and_places_do_not_show_the_secret() {
        let settings = settings(None, true);
        let shown = format!("{settings:?} {:?}", S3::new(&settings).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn an_archive_of_any_size_fits_into_the_parts_that_there_may_be() {
        assert_eq!(part_size(0), 8 << 20);
        assert_eq!(part_size(70 << 30), 8 << 20);
        for about in [80_u64 << 30, 1 << 40, 4 << 40] {
            let size = part_size(about) as u64;
            assert!(
                size.is_multiple_of(1 << 20) && about.div_ceil(size) <= PARTS,
                "{about}"
            );
        }
    }

    #[test]
    fn an_error_is_told_by_its_word_alone() {
        let body = b"<?xml?><Error><Code>NoSuchBucket</Code><Message>canary</Message></Error>";
        assert_eq!(error_code(body), Some("NoSuchBucket".to_owned()));
        for none in [
            &b""[..],
            b"<Code>NoSuchBucket</Code>",
            b"<Error><Code></Code></Error>",
            b"<Error><Code>a b</Code></Error>",
            b"<Error><Code>\x1b[2J</Code></Error>",
            b"<Error><Code>unended",
            b"\xff",
        ] {
            assert_eq!(error_code(none), None);
        }
    }

    #[test]
    fn a_name_in_a_list_may_be_written_with_escapes() {
        assert_eq!(
            percent_decoded("noc%2Fsotp%2fa+b"),
            Some("noc/sotp/a b".to_owned())
        );
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
    }
}
