//! One TCP connection with a peer: a socket, what is known of its readiness, and the bytes it did
//! not take yet. Knows no messages.
//!
//! Readiness is edge-triggered: the kernel says once that there is something, and it stays noted
//! here until a read or write finds otherwise.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

use isocast_bgp::fsm::ConnectionId;
use isocast_bgp::speaker::PeerId;
use mio::event::Event;
use mio::net::TcpStream;

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) id: ConnectionId,
    pub(super) stream: TcpStream,
    pub(super) stage: Stage,
    /// In one of the queues of links to read from.
    pub(super) is_queued: bool,
    writable: bool,
    /// The peer sends no more; what it has sent is still to be read.
    ending: bool,
    out: Vec<u8>,
    written: usize,
}

/// Whether TCP is established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Open,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// So many bytes, and there may be more.
    Bytes(usize),
    /// So many bytes, perhaps none, and no more for now.
    Last(usize),
    /// Nothing will follow.
    End,
}

// === impl Link ===

impl Link {
    pub(super) const fn new(
        peer: PeerId,
        id: ConnectionId,
        stream: TcpStream,
        stage: Stage,
    ) -> Self {
        Self {
            peer,
            id,
            stream,
            stage,
            is_queued: false,
            writable: matches!(stage, Stage::Open),
            ending: false,
            out: Vec::new(),
            written: 0,
        }
    }

    /// Takes note of what the kernel says.
    pub(super) fn note(&mut self, event: &Event) {
        self.writable |= event.is_writable();
        self.ending |= event.is_read_closed() || event.is_error();
    }

    /// Whether the attempt to connect came to an end: our address then, or why there is none.
    pub(super) fn connected(&mut self) -> Option<io::Result<SocketAddr>> {
        let outcome = match self.stream.take_error() {
            Ok(None) => self.stream.peer_addr().and_then(|_| self.stream.local_addr()),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Ok(local) => {
                self.stage = Stage::Open;
                Some(Ok(local))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Whether a new chunk can be written: the last one is gone, and the socket takes more.
    pub(super) fn takes_output(&self) -> bool {
        self.writable && self.stage == Stage::Open && self.out.is_empty()
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Found {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Found::End,
                // Less than fits is all there was, unless the end is near: its edge has been
                // reported and will not be again.
                Ok(count) if count < buffer.len() && !self.ending => Found::Last(count),
                Ok(count) => Found::Bytes(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Found::Last(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::debug!(%error, "read failed");
                    Found::End
                }
            };
        }
    }

    /// The empty chunk to fill; [`Self::write`] follows.
    pub(super) const fn chunk(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether a part of a chunk waits for the socket.
    pub(super) fn is_writing(&self) -> bool {
        !self.out.is_empty()
    }

    /// Writes what the socket takes. A broken connection shows when it is read.
    pub(super) fn write(&mut self) {
        while self.writable && self.written < self.out.len() {
            let rest = self.out.get(self.written..).unwrap_or_default();
            match self.stream.write(rest) {
                Ok(count) => self.written = self.written.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!(%error, "write failed");
                    }
                    self.writable = false;
                }
            }
        }
        if self.written >= self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    /// Says a last word after what is under way. A message cut in half would make it unreadable.
    pub(super) fn part(&mut self, farewell: &[u8]) {
        self.out.extend_from_slice(farewell);
        self.write();
        self.end_writing();
    }

    /// Once all is written, tells the peer that nothing follows.
    pub(super) fn end_writing(&self) {
        if !self.is_writing()
            && let Err(error) = self.stream.shutdown(Shutdown::Write)
        {
            tracing::debug!(%error, "connection already gone");
        }
    }
}
