//! What waits to be written to a socket: many threads put frames in, one thread
//! writes everything that has come meanwhile in one go.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Frames up to this length are copied together; longer ones go by themselves.
const SMALL: usize = 16 << 10;
/// Bytes that are written at once.
const TOGETHER: usize = 256 << 10;

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Arc<[u8]>>,
    /// The writer sleeps and has to be woken.
    asleep: bool,
    closed: bool,
}

/// Frames that wait to be written.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

impl Outbox {
    /// Puts a frame in; it is dropped if the outbox is closed.
    pub(crate) fn put(&self, frame: Arc<[u8]>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return;
        }
        waiting.frames.push_back(frame);
        if std::mem::take(&mut waiting.asleep) {
            drop(waiting);
            self.came.notify_one();
        }
    }

    /// Nothing more is taken, and the writer ends.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.closed = true;
        waiting.frames.clear();
        drop(waiting);
        self.came.notify_all();
    }

    /// All frames there are; waits for the first one. `None`: closed.
    fn take(&self) -> Option<VecDeque<Arc<[u8]>>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if waiting.closed {
                return None;
            }
            if !waiting.frames.is_empty() {
                return Some(std::mem::take(&mut waiting.frames));
            }
            waiting.asleep = true;
            waiting = self
                .came
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes until the outbox is closed or the other side is gone.
    ///
    /// # Errors
    ///
    /// What the socket said.
    pub(crate) fn write_to(&self, mut socket: impl Write) -> io::Result<()> {
        let mut together = Vec::with_capacity(TOGETHER);
        while let Some(frames) = self.take() {
            for frame in frames {
                if together.len() + frame.len() > TOGETHER || frame.len() > SMALL {
                    socket.write_all(&together)?;
                    together.clear();
                }
                if frame.len() > SMALL {
                    socket.write_all(&frame)?;
                } else {
                    together.extend_from_slice(&frame);
                }
            }
            socket.write_all(&together)?;
            together.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Writes(Vec<Vec<u8>>, Arc<Outbox>, usize);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            self.2 -= bytes.len();
            if self.2 == 0 {
                self.1.close();
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_waits_goes_out_together_and_in_order() {
        let outbox = Arc::new(Outbox::default());
        let lengths = [3, 4, SMALL + 1, 5, 6];
        for (place, length) in lengths.into_iter().enumerate() {
            outbox.put(vec![u8::try_from(place).unwrap(); length].into());
        }
        let total = lengths.iter().sum();
        let mut writes = Writes(Vec::new(), Arc::clone(&outbox), total);
        outbox.write_to(&mut writes).unwrap();
        assert_eq!(writes.0.len(), 3);
        let all: Vec<u8> = writes.0.concat();
        assert!(all.is_sorted());
        assert_eq!(all.len(), total);
    }
}
