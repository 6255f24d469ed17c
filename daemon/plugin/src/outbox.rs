//! What waits to be written to a socket. Whoever puts a frame in sends it, if
//! nothing waits before it and the socket takes it at once; else one thread writes
//! everything that has come meanwhile in one go.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::sys::socket::{MsgFlags, send};

/// Frames up to this length are copied together; longer ones go by themselves.
const SMALL: usize = 16 << 10;
/// Bytes that are written at once.
const TOGETHER: usize = 256 << 10;

/// Bytes that may wait, without code to be loaded: all calls that may be under
/// way, and answers to questions. Whoever lets more wait does not read.
const MOST: usize = 384 << 20;

/// A longer frame is left to the thread: who puts it in may hold up others.
const AT_ONCE: usize = 64 << 10;

struct Frame {
    bytes: Arc<[u8]>,
    /// Bytes that are sent already.
    sent: usize,
    /// Bytes that count.
    counts: usize,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    /// Bytes that are not written yet.
    bytes: usize,
    overfull: bool,
    /// The writer sleeps and has to be woken.
    asleep: bool,
    closed: bool,
}

/// Frames that wait to be written.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    came: Condvar,
    /// Where they go; without it all are left to the thread.
    socket: Option<UnixStream>,
}

impl Outbox {
    /// Frames that go to `socket`.
    pub(crate) fn to(socket: Option<UnixStream>) -> Outbox {
        Outbox {
            socket,
            ..Outbox::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame in; it is dropped if the outbox is closed. One that does not
    /// fit is dropped as well, and all that come after it.
    pub(crate) fn put(&self, frame: Arc<[u8]>) {
        let counts = frame.len();
        self.put_frame(Frame {
            bytes: frame,
            sent: 0,
            counts,
        });
    }

    /// Puts code to be loaded in, which has limits of its own.
    pub(crate) fn put_code(&self, frame: Arc<[u8]>) {
        self.put_frame(Frame {
            bytes: frame,
            sent: 0,
            counts: 0,
        });
    }

    fn put_frame(&self, mut frame: Frame) {
        let mut waiting = self.lock();
        waiting.overfull |= waiting.bytes + frame.counts > MOST;
        if waiting.closed || waiting.overfull {
            return;
        }
        // the thread has nothing in hand: this one is the next
        if waiting.asleep && waiting.frames.is_empty() {
            frame.sent = self.sent_at_once(&frame.bytes);
            if frame.sent == frame.bytes.len() {
                return;
            }
        }
        waiting.bytes += frame.counts;
        waiting.frames.push_back(frame);
        if std::mem::take(&mut waiting.asleep) {
            drop(waiting);
            self.came.notify_one();
        }
    }

    /// Bytes of a frame that the socket took without being waited for.
    fn sent_at_once(&self, frame: &[u8]) -> usize {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match &self.socket {
            // what is wrong with it is seen by the thread
            Some(socket) if frame.len() <= AT_ONCE => {
                send(socket.as_raw_fd(), frame, flags).unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// More waited than may: whoever should read does not.
    pub(crate) fn is_overfull(&self) -> bool {
        self.lock().overfull
    }

    /// Nothing more is taken, and the writer ends.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.frames.clear();
        drop(waiting);
        self.came.notify_all();
    }

    /// All frames there are; waits for the first one. `None`: closed.
    fn take(&self) -> Option<VecDeque<Frame>> {
        let mut waiting = self.lock();
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

    fn written(&self, bytes: usize) {
        self.lock().bytes -= bytes;
    }

    /// Writes until the outbox is closed or the other side is gone.
    ///
    /// # Errors
    ///
    /// What the socket said.
    pub(crate) fn write_to(&self, mut socket: impl Write) -> io::Result<()> {
        let mut together = Vec::with_capacity(TOGETHER);
        while let Some(frames) = self.take() {
            let mut counted = 0;
            for Frame {
                bytes,
                sent,
                counts,
            } in frames
            {
                let frame = &bytes[sent..];
                if together.len() + frame.len() > TOGETHER || frame.len() > SMALL {
                    socket.write_all(&together)?;
                    together.clear();
                    self.written(std::mem::take(&mut counted));
                }
                counted += counts;
                if frame.len() > SMALL {
                    socket.write_all(frame)?;
                } else {
                    together.extend_from_slice(frame);
                }
            }
            socket.write_all(&together)?;
            together.clear();
            self.written(counted);
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

    #[test]
    fn what_a_socket_takes_at_once_and_what_it_does_not_keep_their_order() {
        use std::io::Read;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let outbox = Arc::new(Outbox::to(Some(ours.try_clone().unwrap())));
        let writer = {
            let outbox = Arc::clone(&outbox);
            std::thread::spawn(move || outbox.write_to(&ours))
        };
        // more than a socket holds, and frames that nobody sends at once among them
        let lengths = [7, SMALL + 1, AT_ONCE, AT_ONCE + 1, 300];
        let length_of = move |number: usize| lengths[number % lengths.len()];
        let count = 200;
        let putting = {
            let outbox = Arc::clone(&outbox);
            std::thread::spawn(move || {
                for number in 0..count {
                    let byte = u8::try_from(number).unwrap();
                    outbox.put(vec![byte; length_of(number)].into());
                }
            })
        };
        for number in 0..count {
            let mut frame = vec![0; length_of(number)];
            theirs.read_exact(&mut frame).unwrap();
            let byte = u8::try_from(number).unwrap();
            assert!(frame.iter().all(|read| *read == byte), "frame {number}");
        }
        putting.join().unwrap();
        outbox.close();
        drop(theirs);
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn what_nobody_reads_has_an_end_and_code_does_not_count() {
        let outbox = Outbox::default();
        let frame: Arc<[u8]> = vec![0; MOST / 4].into();
        (0..8).for_each(|_| outbox.put_code(Arc::clone(&frame)));
        (0..4).for_each(|_| outbox.put(Arc::clone(&frame)));
        assert!(!outbox.is_overfull());
        outbox.put(vec![0].into());
        assert!(outbox.is_overfull());
        assert_eq!(outbox.take().unwrap().len(), 12);
        assert!(outbox.is_overfull(), "what was taken is not written yet");
    }

    #[test]
    fn what_was_written_counts_no_more() {
        let outbox = Arc::new(Outbox::default());
        outbox.put(vec![0; 5].into());
        outbox.put(vec![0; SMALL + 1].into());
        let total = 5 + SMALL + 1;
        let mut writes = Writes(Vec::new(), Arc::clone(&outbox), total);
        outbox.write_to(&mut writes).unwrap();
        assert_eq!(outbox.lock().bytes, 0);
    }
}
