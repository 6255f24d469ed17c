//! What of a request's body nobody read.
//!
//! A request may be refused before its body was read, or has come. The rest is
//! then read here, within bounds, so that the connection can go on; a body that is
//! too long or too slow for that ends it, and the answer says so. Closing on unread
//! bytes without a word would take the answer away from whoever still sends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// How much is read for nobody.
const MOST: usize = 64 * 1024;

/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that leaves behind what is not read of it.
pub(crate) struct Shared(Arc<Mutex<Incoming>>);

/// What is left of a body.
pub(crate) struct Leftover(Arc<Mutex<Incoming>>);

/// `body`, and what will be left of it.
pub(crate) fn split(body: Incoming) -> (Shared, Leftover) {
    let body = Arc::new(Mutex::new(body));
    (Shared(Arc::clone(&body)), Leftover(body))
}

fn lock(body: &Mutex<Incoming>) -> MutexGuard<'_, Incoming> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *lock(&self.0)).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).size_hint()
    }
}

impl Leftover {
    /// Reads the rest, if it is short and comes soon; whether nothing is left.
    pub(crate) async fn drained(self) -> bool {
        if lock(&self.0).is_end_stream() {
            return true;
        }
        let stated = usize::try_from(lock(&self.0).size_hint().lower()).unwrap_or(usize::MAX);
        if stated > MOST {
            return false;
        }
        let mut rest = Shared(self.0);
        let read = async {
            let mut seen = 0;
            while let Some(frame) = rest.frame().await {
                let Ok(frame) = frame else { return false };
                seen += frame.data_ref().map_or(0, Bytes::len);
                if seen > MOST {
                    return false;
                }
            }
            true
        };
        timeout(PATIENCE, read).await.unwrap_or(false)
    }
}
