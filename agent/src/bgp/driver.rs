//! The event loop: one thread that owns the [`Speaker`] and every socket.
//!
//! A turn: what others ordered, deadlines, then input. Links that were silent are served before a
//! busy one, each by one quantum; after either, whatever peers are to be told is written, as far as
//! their sockets take it. So a route of a quiet peer waits for one quantum of a busy one at most,
//! and for no slow receiver at all: what a peer does not read waits in the table, as a mark, not
//! in a queue, as a message.
//!
//! Dumb on purpose: read → [`Speaker`] → write. Decides nothing about routes or sessions.

mod answer;
mod exchange;
mod link;
mod links;
mod listeners;
mod orders;
mod parting;
mod peers;
mod report;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isocast_bgp::fsm::{Action, ConnectionId, Input};
use isocast_bgp::speaker::{PeerId, Speaker};
use mio::event::Event;
use mio::{Events, Poll, Token};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::links::Links;
use self::listeners::Listeners;
use self::parting::Parting;
use self::peers::Peers;
use self::report::Reports;
use super::config::SpeakerConfig;
use super::kernel::{Kernel, KernelReport};
use super::mailbox::Mailbox;
use super::speaker::SpeakerError;
use super::status::PeerStatuses;

/// Bytes read from one peer before others have their turn. Small enough that what comes in while
/// they are worked on does not wait for long, large enough that the system call does not count.
const QUANTUM_BYTES: usize = 8 * 1024;

/// Readiness reports taken at once.
const EVENTS_MAX: usize = 256;

/// The token of the mailbox; those of listeners and links follow.
const MAILBOX: Token = Token(0);

/// See the module.
#[derive(Debug)]
pub(super) struct Driver {
    config: Arc<SpeakerConfig>,
    poll: Poll,
    mailbox: Arc<Mailbox>,
    speaker: Speaker,
    kernel: Option<Kernel>,
    peers: Peers,
    listeners: Listeners,
    links: Links,
    parting: Parting,
    next_token: usize,
    buffer: Vec<u8>,
    actions: Vec<(PeerId, Action)>,
    /// Peers for whom there may be something besides routes; some may be there twice.
    to_tell: Vec<PeerId>,
    /// Connections that failed at once; their sessions are told in the next turn.
    failed: Vec<(PeerId, ConnectionId, io::Error)>,
    reports: Reports,
    /// No session is left; when to give up on farewells.
    ending: Option<Instant>,
}

// === impl Driver ===

impl Driver {
    /// Binds the listening addresses; nothing happens before [`Self::run`].
    ///
    /// # Errors
    /// An address that cannot be bound, or the kernel's refusal of what every process has, or of
    /// installing routes.
    pub(super) fn new(
        config: Arc<SpeakerConfig>,
        statuses: watch::Sender<PeerStatuses>,
        kernel: &Arc<Mutex<KernelReport>>,
    ) -> Result<(Self, Arc<Mailbox>), SpeakerError> {
        let poll = Poll::new().map_err(SpeakerError::Thread)?;
        let mailbox = Mailbox::new(poll.registry(), MAILBOX).map_err(SpeakerError::Thread)?;
        let mailbox = Arc::new(mailbox);
        let first = MAILBOX.0.saturating_add(1);
        let listeners = Listeners::bind(&config.listen, first)
            .map_err(|(address, source)| SpeakerError::Listen { address, source })?;
        let mut speaker = Speaker::new(Instant::now(), config.core(), config.seed);
        let kernel = match config.kernel {
            None => None,
            Some(config) => {
                speaker.watch_forwarding();
                let waker = Arc::clone(&mailbox).into();
                let started = Kernel::start(config, waker, Arc::clone(kernel));
                Some(started.map_err(SpeakerError::Kernel)?)
            }
        };
        let driver = Self {
            speaker,
            kernel,
            next_token: first.saturating_add(listeners.len()),
            config,
            poll,
            mailbox: Arc::clone(&mailbox),
            peers: Peers::default(),
            listeners,
            links: Links::new(),
            parting: Parting::default(),
            buffer: vec![0; QUANTUM_BYTES],
            actions: Vec::new(),
            to_tell: Vec::new(),
            failed: Vec::new(),
            reports: Reports::new(statuses),
            ending: None,
        };
        Ok((driver, mailbox))
    }

    /// Runs until told to end.
    ///
    /// # Errors
    /// The kernel's, from waiting for events: there is nothing to go on with then.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let timeout = self.timeout(Instant::now());
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            let now = Instant::now();
            for event in &events {
                self.note(now, event);
            }
            if self.take_orders(now).is_break() {
                return Ok(());
            }
            self.keep_time(now);
            self.accept(now);
            self.exchange();
            if let Some(kernel) = &mut self.kernel {
                kernel.feed(&mut self.speaker);
            }
            self.report(now);
            if self.has_ended(now) {
                return Ok(());
            }
        }
    }

    /// How long to wait for events.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let hungry = self.kernel.as_ref().is_some_and(|kernel| kernel.is_hungry(&self.speaker));
        if self.links.has_input() || self.can_write() || !self.failed.is_empty() || hungry {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.speaker.next_deadline(),
            self.listeners.next_deadline(),
            self.parting.next_deadline(),
            self.reports.next_deadline(),
            self.ending,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Takes note of what the kernel says.
    fn note(&mut self, now: Instant, event: &Event) {
        let token = event.token();
        // The mailbox is looked into in every turn.
        if token == MAILBOX || self.listeners.note(now, token) {
            return;
        }
        match self.links.get(token) {
            Some(_) => self.note_link(now, token, event),
            None => self.parting.note(token, event, &mut self.buffer),
        }
    }

    fn keep_time(&mut self, now: Instant) {
        for (peer, id, error) in std::mem::take(&mut self.failed) {
            self.feed(now, peer, Input::ConnectFailed { id, error: error.to_string() });
        }
        if self.speaker.next_deadline().is_some_and(|at| at <= now) {
            self.speaker.tick(now, &mut self.actions);
            self.act(now);
            self.tell_all();
            self.dismiss(now);
        }
        self.parting.expire(now);
    }

    /// Tells one session what happened, and does what it says.
    fn feed(&mut self, now: Instant, peer: PeerId, input: Input<'_>) {
        self.speaker.handle(now, peer, input, &mut self.actions);
        self.to_tell.push(peer);
        self.act(now);
    }

    /// Every session may have something to say.
    fn tell_all(&mut self) {
        self.to_tell.clear();
        self.to_tell.extend(self.peers.iter().map(|(peer, _)| peer));
    }

    /// Whether the last word is said, or nobody listens to it, and the kernel's table is left as it
    /// is to stay.
    fn has_ended(&self, now: Instant) -> bool {
        let settled =
            || self.parting.is_empty() && self.kernel.as_ref().is_none_or(Kernel::has_ended);
        self.ending.is_some_and(|until| until <= now || settled())
    }

    fn next_token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token = self.next_token.wrapping_add(1);
        token
    }
}
