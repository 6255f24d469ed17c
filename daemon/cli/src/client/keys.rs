//! As whom a request is made, and how long that holds.
//!
//! An access token lasts some minutes. Another is got with the refresh token,
//! which is good for one exchange: whoever shows an old one again is taken for a
//! thief and the session ends. So the exchange is made by one process at a time,
//! under a lock, and whoever waited for it reads the file again first.

use std::fs::{File, TryLockError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

use super::{Call, Client};
use crate::contexts::Book;
use crate::error::Trouble;
use crate::input;
use crate::place::Shown;

/// How long another process may take for its exchange: above the longest wait
/// for an answer.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries to get the lock.
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// How long Ctrl-C waits for an exchange that is under way.
const FAREWELL: Duration = Duration::from_millis(900);

/// Held during an exchange: what the server answers must not be lost. And by who
/// has something to take away after Ctrl-C.
static EXCHANGE: Mutex<()> = Mutex::const_new(());

/// Returns once no exchange is under way, or after a moment.
pub(crate) async fn exchange_finished() {
    // too long: then the session ends, and one signs in again
    let _either = timeout(FAREWELL, EXCHANGE.lock()).await;
}

/// As long as this is held, Ctrl-C waits a moment for whoever holds it.
pub(crate) async fn farewell() -> MutexGuard<'static, ()> {
    EXCHANGE.lock().await
}

/// As whom requests are made.
pub(super) enum Keys {
    /// As nobody, or as whom the kernel says.
    Nothing,
    /// As the service that has this token.
    Token(String),
    /// As who signed in, in a context.
    Context(Kept),
}

/// A context that somebody signed in to.
pub(super) struct Kept {
    book: Book,
    name: String,
    /// What was good when it was last looked at.
    seen: Mutex<Option<(String, Timestamp)>>,
}

impl Keys {
    pub(super) async fn of(shown: &Shown, book: Option<Book>) -> Result<Keys, Trouble> {
        Ok(match (shown, book) {
            (Shown::TokenFile(file), _) => Keys::Token(input::line(file, "the token").await?),
            (Shown::Context(name), Some(book)) => Keys::Context(Kept {
                book,
                name: name.clone(),
                seen: Mutex::new(None),
            }),
            (Shown::Context(_) | Shown::Nothing, _) => Keys::Nothing,
        })
    }
}

impl Client {
    /// The token to show.
    pub(super) async fn bearer(&self) -> Result<Option<String>, Trouble> {
        match &self.keys {
            Keys::Nothing => Ok(None),
            Keys::Token(token) => Ok(Some(token.clone())),
            Keys::Context(kept) => self.bearer_of(kept).await.map(Some),
        }
    }

    async fn bearer_of(&self, kept: &Kept) -> Result<String, Trouble> {
        let now = Timestamp::now();
        if let Some((token, ends)) = kept.seen.lock().await.as_ref()
            && *ends > now
        {
            return Ok(token.clone());
        }
        let context = kept.book.read()?.find(&kept.name)?.clone();
        if let Some(token) = context.api_token {
            return Ok(token);
        }
        if let Some((token, ends)) = context.fresh(now) {
            return Ok(kept.remember(token, ends).await);
        }
        match self.renew(kept, None).await? {
            Some(token) => Ok(token),
            None => Err(self.not_signed_in("nobody has signed in, or they signed out")),
        }
    }

    /// Another token in place of one that was refused, if there can be one.
    pub(super) async fn renewed(
        &self,
        status: StatusCode,
        refused: Option<&str>,
    ) -> Result<Option<String>, Trouble> {
        match (&self.keys, refused) {
            (Keys::Context(kept), Some(refused)) if status == StatusCode::UNAUTHORIZED => {
                self.renew(kept, Some(refused)).await
            }
            _ => Ok(None),
        }
    }

    /// Exchanges the refresh token, unless another process has just done so.
    async fn renew(&self, kept: &Kept, refused: Option<&str>) -> Result<Option<String>, Trouble> {
        let _exchange = EXCHANGE.lock().await;
        let _others = locked(kept.book.refresh_lock(&kept.name)?).await?;
        let context = kept.book.read()?.find(&kept.name)?.clone();
        if let Some((token, ends)) = context.fresh(Timestamp::now())
            && Some(token.as_str()) != refused
        {
            return Ok(Some(kept.remember(token, ends).await));
        }
        let Some(refresh) = context.refresh_token else {
            return Ok(None);
        };
        let granted = self.exchange_refresh(kept, &refresh).await?;
        let context = kept.book.change(|known| {
            let context = known.find_mut(&kept.name)?;
            context.keep(&granted, Timestamp::now());
            Ok(context.clone())
        })?;
        match context.fresh(Timestamp::now()) {
            Some((token, ends)) => Ok(Some(kept.remember(token, ends).await)),
            None => Err(Trouble::Garbled(
                "it granted a token that is over already".into(),
            )),
        }
    }

    async fn exchange_refresh(&self, kept: &Kept, refresh: &str) -> Result<Value, Trouble> {
        let mut call = Call::new(Method::POST, "/api/v1/sessions/refresh")
            .json(&json!({ "refresh_token": refresh }))
            .open();
        // the one before is good for some seconds more
        call.repeatable = true;
        let raw = self.deliver(&call, None).await?;
        match self.read(&call, &raw) {
            Ok(answer) => Ok(answer.body),
            Err(Trouble::Refused {
                status: 401 | 403,
                problem,
            }) => {
                kept.forget(refresh)?;
                let why = problem.get("detail").and_then(Value::as_str);
                Err(self.not_signed_in(why.unwrap_or("the session is over")))
            }
            Err(trouble) => Err(trouble),
        }
    }
}

impl Kept {
    async fn remember(&self, token: String, ends: Timestamp) -> String {
        *self.seen.lock().await = Some((token.clone(), ends));
        token
    }

    /// Forgets a session that is over, unless there is another by now.
    fn forget(&self, refresh: &str) -> Result<(), Trouble> {
        self.book.change(|known| {
            let context = known.find_mut(&self.name)?;
            if context.refresh_token.as_deref() == Some(refresh) {
                context.forget();
            }
            Ok(())
        })
    }
}

/// Waits for the lock of `file`; it is held as long as the file is open.
async fn locked(file: File) -> Result<File, Trouble> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(LOCK_LOOK).await,
            Err(TryLockError::WouldBlock) => {
                return Err(Trouble::NotNow(format!(
                    "another sotp has been signing in for {} s; try again, or end it",
                    LOCK_PATIENCE.as_secs()
                )));
            }
            Err(TryLockError::Error(source)) => {
                return Err(Trouble::local("lock the context", source));
            }
        }
    }
}
