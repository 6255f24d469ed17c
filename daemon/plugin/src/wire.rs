//! What goes over the socket pair between the daemon and the host: frames of a
//! head of fixed form and a body in postcard.
//!
//! The head says how long the frame is, what it is and which call it belongs
//! to, so that either side can hand a body on without reading it. Whoever
//! receives a frame checks its length before it makes room for it.

use std::io::{self, Read};

use contract::{Fault, Grants, HostAnswer, HostAsk, Kind, Limits, Nanos, Settings};
use serde::{Deserialize, Serialize};

/// Both sides must have the same; a package may be upgraded under a daemon that
/// runs.
pub(crate) const PROTOCOL: u32 = 1;

/// Bytes of the head: length, tag, id, generation.
pub(crate) const HEAD: usize = 4 + 1 + 8 + 8;

/// Bytes of a frame to the host: compiled code is the largest.
pub(crate) const TO_HOST: usize = 129 << 20;

/// Bytes of a frame from the host: a result with its log and what is to be kept.
pub(crate) const FROM_HOST: usize = 64 << 20;

/// Bytes of what a plugin says when it is loaded.
pub(crate) const LOADED: usize = 8 << 20;

/// Bytes of a question.
pub(crate) const ASK: usize = 64 << 10;

/// Bytes that a frame has room for before it grows: most are shorter.
const ROOM: usize = 4 << 10;

/// What a frame is. To the host.
pub(crate) mod to_host {
    pub(crate) const BEGIN: u8 = 1;
    pub(crate) const LOAD: u8 = 2;
    pub(crate) const CALL: u8 = 3;
    pub(crate) const ANSWER: u8 = 4;
    pub(crate) const DROP: u8 = 5;
    pub(crate) const PING: u8 = 6;
}

/// What a frame is. From the host.
pub(crate) mod from_host {
    pub(crate) const HELLO: u8 = 101;
    pub(crate) const LOADED: u8 = 102;
    pub(crate) const ENDED: u8 = 103;
    pub(crate) const ASK: u8 = 104;
    pub(crate) const PONG: u8 = 106;
}

/// The first frame to the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) protocol: u32,
    pub(crate) threads: u32,
    pub(crate) memory: u64,
}

/// The host's first frame.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) not_in_force: Vec<String>,
}

/// The code of a plugin, ready to be run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WireCode<'a> {
    Script { file: &'a str, source: &'a str },
    Compiled(&'a [u8]),
}

/// A plugin to be loaded; the generation stands in the head.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireLoad<'a> {
    pub(crate) kind: Kind,
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
    pub(crate) settings: Settings,
    pub(crate) for_its_author: bool,
    pub(crate) now: Nanos,
    #[serde(borrow)]
    pub(crate) code: WireCode<'a>,
}

/// A call of a golden case brings its own host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recording {
    pub(crate) settings: Settings,
    pub(crate) host: Vec<(HostAsk, HostAnswer)>,
}

/// A call; the generation stands in the head.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireCall<C> {
    pub(crate) now: Nanos,
    pub(crate) recording: Option<Recording>,
    /// A [`contract::Call`], which is only looked at where it is sent.
    pub(crate) call: C,
}

/// The answer to a question of a call.
pub(crate) type WireAnswer = Result<HostAnswer, Fault>;

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) tag: u8,
    pub(crate) id: u64,
    pub(crate) generation: u64,
}

/// A frame: head and body, as it goes over the socket.
///
/// # Errors
///
/// Says that it cannot be written as postcard, or is longer than `limit`.
pub(crate) fn frame<T: Serialize>(head: Head, body: &T, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(ROOM);
    bytes.resize(HEAD, 0);
    bytes[4] = head.tag;
    bytes[5..13].copy_from_slice(&head.id.to_le_bytes());
    bytes[13..HEAD].copy_from_slice(&head.generation.to_le_bytes());
    let mut bytes = postcard::to_extend(body, bytes).map_err(|error| error.to_string())?;
    let length = bytes.len() - 4;
    let too_long = || format!("{length} bytes: at most {limit} are allowed");
    let word = u32::try_from(length).map_err(|_| too_long())?;
    if length > limit {
        return Err(too_long());
    }
    bytes[..4].copy_from_slice(&word.to_le_bytes());
    Ok(bytes)
}

/// A frame that was received.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    bytes: Vec<u8>,
}

impl Received {
    /// What stands behind the head.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[HEAD - 4..]
    }

    /// The body, read.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, String> {
        postcard::from_bytes(self.body()).map_err(|error| error.to_string())
    }

    /// A frame that this process made for itself.
    #[cfg(test)]
    fn of(frame: &[u8]) -> Received {
        let mut frames = Frames::new(frame, FROM_HOST);
        frames.next().expect("a frame").expect("not the end")
    }
}

/// Bytes that are read at once: many frames.
const CHUNK: usize = 256 << 10;

/// Frames from a socket, many of them in one read.
pub(crate) struct Frames<R> {
    from: R,
    limit: usize,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Frames<R> {
    pub(crate) fn new(from: R, limit: usize) -> Frames<R> {
        Frames {
            from,
            limit,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
        }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    ///
    /// What the socket said; `InvalidData` for a frame that is none.
    pub(crate) fn next(&mut self) -> io::Result<Option<Received>> {
        if !self.fill(4)? {
            return Ok(None);
        }
        let mut word = [0; 4];
        word.copy_from_slice(&self.buffer[self.start..self.start + 4]);
        let length = u32::from_le_bytes(word) as usize;
        if length < HEAD - 4 || length > self.limit {
            let message = format!("a frame of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.start += 4;
        let bytes = self.take(length)?;
        let number = |from: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(word)
        };
        let head = Head {
            tag: bytes[0],
            id: number(1),
            generation: number(9),
        };
        Ok(Some(Received { head, bytes }))
    }

    /// Reads until `wanted` bytes are there; false at the end.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        while self.end - self.start < wanted {
            if self.buffer.len() - self.start < wanted || self.start == self.end {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let read = retried(|| self.from.read(&mut self.buffer[self.end..]))?;
            if read == 0 {
                return if self.end == self.start {
                    Ok(false)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            self.end += read;
        }
        Ok(true)
    }

    /// The next `length` bytes; room is made as they come, so that a length
    /// alone costs nothing.
    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let at_hand = length.min(self.end - self.start);
        let mut bytes = Vec::with_capacity(length.min(CHUNK));
        bytes.extend_from_slice(&self.buffer[self.start..self.start + at_hand]);
        self.start += at_hand;
        let missing = length - at_hand;
        if missing > 0 {
            let mut rest = (&mut self.from).take(missing as u64);
            if rest.read_to_end(&mut bytes)? < missing {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(bytes)
    }
}

fn retried(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_OF_TEST: Head = Head {
        tag: 3,
        id: 7,
        generation: 9,
    };

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let bytes = frame(HEAD_OF_TEST, &"hello".to_owned(), 100).unwrap();
        let received = Received::of(&bytes);
        assert_eq!(received.head, HEAD_OF_TEST);
        assert_eq!(received.read::<String>().unwrap(), "hello");
    }

    /// Gives the bytes in pieces of one length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn frames_are_told_apart_however_they_arrive() {
        let texts: Vec<String> = [0, 1, 300, CHUNK + 5, 3, 2 * CHUNK]
            .map(|length| "x".repeat(length))
            .to_vec();
        let stream: Vec<u8> = texts
            .iter()
            .flat_map(|text| frame(HEAD_OF_TEST, text, FROM_HOST).unwrap())
            .collect();
        for piece in [1, 7, 4096, CHUNK, 10 * CHUNK] {
            let mut frames = Frames::new(Pieces(&stream, piece), FROM_HOST);
            for text in &texts {
                let received = frames.next().unwrap().unwrap();
                assert!(
                    received.read::<String>().unwrap() == *text,
                    "pieces of {piece}"
                );
            }
            assert!(frames.next().unwrap().is_none());
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_room_is_made() {
        for length in [0, 3, u32::MAX, 101] {
            let mut stream = length.to_le_bytes().to_vec();
            stream.extend([0; 64]);
            let error = Frames::new(&stream[..], 100).next().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
        }
        let long = "x".repeat(100);
        assert!(
            frame(HEAD_OF_TEST, &long, 100)
                .unwrap_err()
                .contains("at most 100")
        );
    }

    #[test]
    fn half_a_frame_is_an_error_and_no_end() {
        let bytes = frame(HEAD_OF_TEST, &"hello".to_owned(), 100).unwrap();
        for length in 1..bytes.len() {
            let error = Frames::new(&bytes[..length], 100).next().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }
}
