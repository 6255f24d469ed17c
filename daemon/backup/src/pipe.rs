//! Pieces of an archive on their way between a thread that blocks and tasks
//! that do not: few at a time, and with an end that cannot be mistaken for a
//! failure.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::error::BackupError;

/// How large a piece is.
const PIECE: usize = 256 << 10;
/// Pieces on their way: so much is written ahead of a slow taker.
const WAITING: usize = 4;

enum Message {
    Piece(Bytes),
    Failed(BackupError),
    /// All was sent.
    End,
}

/// The pieces of an archive, in order.
#[derive(Debug)]
pub struct Pieces {
    messages: mpsc::Receiver<Message>,
    ended: bool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Pieces {
    /// The next piece; `None`: that was all. After an error what came before it
    /// is no archive, and there is no further piece.
    pub async fn next(&mut self) -> Option<Result<Bytes, BackupError>> {
        if self.ended {
            return None;
        }
        let message = self.messages.recv().await;
        self.take(message)
    }

    /// The same for a thread that may block.
    pub fn blocking_next(&mut self) -> Option<Result<Bytes, BackupError>> {
        if self.ended {
            return None;
        }
        let message = self.messages.blocking_recv();
        self.take(message)
    }

    fn take(&mut self, message: Option<Message>) -> Option<Result<Bytes, BackupError>> {
        if let Some(Message::Piece(piece)) = message {
            return Some(Ok(piece));
        }
        self.ended = true;
        match message {
            Some(Message::Failed(error)) => Some(Err(error)),
            Some(Message::End) => None,
            // whoever sent them is gone without a word
            Some(Message::Piece(_)) | None => Some(Err(BackupError::Interrupted)),
        }
    }
}

/// A way for pieces.
pub(crate) fn pipe() -> (PieceSender, Pieces) {
    let (sender, messages) = mpsc::channel(WAITING);
    let pieces = Pieces {
        messages,
        ended: false,
    };
    (PieceSender(sender), pieces)
}

/// Where pieces are put in. Dropped before its end, it leaves an error behind.
pub(crate) struct PieceSender(mpsc::Sender<Message>);

impl PieceSender {
    /// Whether somebody still takes them.
    pub(crate) async fn send(&self, piece: Bytes) -> bool {
        self.0.send(Message::Piece(piece)).await.is_ok()
    }

    /// The same with more than a piece, of which little waits at a time.
    pub(crate) async fn send_all(&self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            if !self.send(piece).await {
                return false;
            }
        }
        true
    }

    /// Says that this was all, or why there is no more.
    pub(crate) async fn end(self, outcome: Result<(), BackupError>) {
        let message = match outcome {
            Ok(()) => Message::End,
            Err(error) => Message::Failed(error),
        };
        // nobody may be there to hear it
        let _ = self.0.send(message).await;
    }

    /// For a thread that may block.
    pub(crate) fn into_writer(self) -> PieceWriter {
        PieceWriter {
            sender: self.0,
            buffer: BytesMut::new(),
            sent: 0,
        }
    }
}

/// Makes pieces of what is written; blocks while nobody takes them.
pub(crate) struct PieceWriter {
    sender: mpsc::Sender<Message>,
    buffer: BytesMut,
    sent: u64,
}

impl PieceWriter {
    /// Says that this was all; gives how many bytes it was.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.hand_over(Message::End)?;
        Ok(self.sent)
    }

    /// Says why there is no more.
    pub(crate) fn fail(self, error: BackupError) {
        // nobody may be there to hear it
        let _ = self.hand_over(Message::Failed(error));
    }

    fn hand_over(&self, message: Message) -> io::Result<()> {
        let sent = self.sender.blocking_send(message);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes it any more"))
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.buffer.len();
        let taken = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.sent += piece.len() as u64;
        self.hand_over(Message::Piece(piece))
    }
}

/// Pieces as something to read, for a thread that may block.
pub(crate) struct PieceReader {
    pieces: Pieces,
    piece: Bytes,
}

impl PieceReader {
    pub(crate) fn new(pieces: Pieces) -> PieceReader {
        PieceReader {
            pieces,
            piece: Bytes::new(),
        }
    }
}

impl Read for PieceReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_next() {
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let read = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..read]);
        Ok(read)
    }
}
