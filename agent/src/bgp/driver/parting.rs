//! Connections on which only the last word is still to be said.
//!
//! Closing a socket with unread bytes in it sends a reset, which may overtake the farewell and turn
//! a shutdown into a restart. So we say that nothing follows, read until the peer closes, too, and
//! close then, or after a second. There are no more than [`PARTINGS_MAX`] with one peer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mio::Token;
use mio::event::Event;

use super::link::{Found, Link};

/// How long a farewell may take: to be written, then to be read by the peer.
const LINGER: Duration = Duration::from_secs(1);

/// Reads after which a peer that goes on sending has to wait for the others' turn.
const READS_MAX: usize = 16;

/// Connections of one peer at a time: who is refused again and again and never hangs up is not to use up our
/// descriptors. A peer that behaves has one or two.
const PARTINGS_MAX: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Parting {
    links: HashMap<Token, (Link, Instant)>,
}

// === impl Parting ===

impl Parting {
    /// Says a last word. A peer with too many of these does without the oldest.
    pub(super) fn begin(&mut self, now: Instant, token: Token, mut link: Link, farewell: &[u8]) {
        let peer = link.peer;
        let same = || self.links.iter().filter(|(_, (link, _))| link.peer == peer);
        if same().count() >= PARTINGS_MAX {
            let oldest = same().min_by_key(|(_, (_, until))| *until).map(|(token, _)| *token);
            oldest.map(|token| self.links.remove(&token));
        }
        link.part(farewell);
        let until = now.checked_add(LINGER).unwrap_or(now);
        self.links.insert(token, (link, until));
    }

    /// Takes note of what the kernel says; whether it was about one of these.
    pub(super) fn note(&mut self, token: Token, event: &Event, buffer: &mut [u8]) {
        let Some((link, _)) = self.links.get_mut(&token) else { return };
        link.note(event);
        if link.is_writing() {
            link.write();
            link.end_writing();
        }
        for _ in 0..READS_MAX {
            match link.read(buffer) {
                Found::Bytes(_) => {}
                Found::Last(_) => return,
                Found::End => break,
            }
        }
        self.links.remove(&token);
    }

    /// Gives up on those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.links.retain(|_, (_, until)| *until > now);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.links.values().map(|(_, until)| *until).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}
