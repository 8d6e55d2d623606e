//! What the driver's thread is told by the others.
//!
//! Orders are levels, not a queue: the latest wish counts, however busy the thread is. Questions
//! are a queue with a limit, and are answered in turn.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Wake;

use isocast_bgp::fsm::Stop;
use isocast_bgp::guard::ExportGuard;
use isocast_bgp::speaker::Announcements;
use parking_lot::Mutex;

use super::config::PeerConfig;
use super::query::Question;
use crate::bfd::Verdict;

/// Questions that wait for an answer.
const QUESTIONS_MAX: usize = 32;

/// What BFD says of peers that waits to be heard.
const BFD_EVENTS_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    waker: mio::Waker,
}

/// What came in since the thread looked last. Nothing: as before.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) peers: Option<Vec<Arc<PeerConfig>>>,
    pub(super) announcements: Option<Announcements>,
    pub(super) guard: Option<ExportGuard>,
    pub(super) forwarding_preserved: Option<bool>,
    pub(super) initial_set_complete: bool,
    pub(super) bfd: VecDeque<(IpAddr, BfdChange)>,
    pub(super) questions: VecDeque<Question>,
    pub(super) end: Option<End>,
}

/// What BFD says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BfdChange {
    /// The path to it is lost.
    Down {
        /// Whether its BFD outlives its BGP speaker (the C bit).
        control_plane_independent: bool,
    },
    /// The path is there.
    Up,
}

/// How the thread is to end.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// At once and without a word: routes are to stay.
    Abandon,
    /// After every session has said its last word.
    Stop(Stop),
}

// === impl Mailbox ===

impl Mailbox {
    pub(super) fn new(registry: &mio::Registry, token: mio::Token) -> io::Result<Self> {
        let waker = mio::Waker::new(registry, token)?;
        Ok(Self { inbox: Mutex::default(), waker })
    }

    /// Changes what the thread will find, and wakes it.
    pub(super) fn post<R>(&self, change: impl FnOnce(&mut Inbox) -> R) -> R {
        let result = change(&mut self.inbox.lock());
        self.wake_up();
        result
    }

    /// All that came in.
    pub(super) fn take(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock())
    }

    fn wake_up(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the BGP thread cannot be woken");
        }
    }
}

/// Lets the thread wait for what is not a socket.
impl Wake for Mailbox {
    fn wake(self: Arc<Self>) {
        self.wake_up();
    }
}

impl From<Verdict> for BfdChange {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Up => Self::Up,
            Verdict::Lost { control_plane_independent } => Self::Down { control_plane_independent },
        }
    }
}

// === impl Inbox ===

impl Inbox {
    /// Asks something; false: too many ask already.
    pub(super) fn ask(&mut self, question: Question) -> bool {
        let room = self.questions.len() < QUESTIONS_MAX;
        if room {
            self.questions.push_back(question);
        }
        room
    }

    /// BFD noticed something. The latest word on a peer is the one that counts.
    pub(super) fn note_bfd(&mut self, peer: IpAddr, change: BfdChange) {
        self.bfd.retain(|(known, _)| *known != peer);
        if self.bfd.len() < BFD_EVENTS_MAX {
            self.bfd.push_back((peer, change));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_of_bfd_on_a_peer_counts() {
        let mut inbox = Inbox::default();
        let peer = IpAddr::from([192, 0, 2, 1]);

        inbox.note_bfd(peer, BfdChange::Down { control_plane_independent: false });
        inbox.note_bfd(peer, BfdChange::Up);

        assert_eq!(inbox.bfd, [(peer, BfdChange::Up)]);
    }
}
