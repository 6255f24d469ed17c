//! Places for what takes memory while it lasts: only so many in all, and of
//! these nobody holds more than a few, so that who is slow waits for
//! themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for one thing.
pub(crate) struct Places {
    all: Arc<Semaphore>,
    each: usize,
    own: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A place; it is free again when this is dropped.
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Places {
    /// `all` places, of which nobody holds more than `each`.
    pub(crate) fn new(all: usize, each: usize) -> Places {
        Places {
            all: Arc::new(Semaphore::new(all)),
            each,
            own: Mutex::default(),
        }
    }

    /// A place for `who`; waits for it, first among those of `who`.
    pub(crate) async fn take(&self, who: &str) -> Place {
        let closed = "places are never closed";
        let own = self.own(who).acquire_owned().await.expect(closed);
        let all = Arc::clone(&self.all).acquire_owned().await.expect(closed);
        Place {
            _own: own,
            _all: all,
        }
    }

    /// The places of `who`. Those that nobody has or waits for are forgotten,
    /// so there are never more than there are requests.
    fn own(&self, who: &str) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|_, places| places.strong_count() > 0);
        if let Some(places) = own.get(who).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Semaphore::new(self.each));
        own.insert(who.to_owned(), Arc::downgrade(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// The place, if it is free.
    fn now(places: &Places, who: &str) -> Option<Place> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(places.take(who)).poll(&mut context) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn nobody_holds_more_than_a_few_and_all_together_no_more_than_there_are() {
        let places = Places::new(3, 2);
        let one = now(&places, "a");
        let two = now(&places, "a");
        assert!(one.is_some() && two.is_some());
        assert!(now(&places, "a").is_none());
        let other = now(&places, "b");
        assert!(other.is_some());
        assert!(now(&places, "c").is_none(), "all are taken");
        drop(one);
        assert!(now(&places, "c").is_some());
        assert!(now(&places, "a").is_some());
        drop((two, other));
        now(&places, "d");
        assert!(
            places.own.lock().unwrap().len() <= 1,
            "the others are forgotten"
        );
    }
}
