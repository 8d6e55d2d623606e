//! The BFD driver: sockets, a precise clock and a thread around the sans-IO endpoint of
//! `isocast-bgp`.
//!
//! The thread is its own, ahead of all others where the kernel permits it: a busy agent must not
//! look like a dead host. It brings sessions up, negotiates, and notices when a peer falls silent.
//! Once a single-hop session is at peace, its packets are left to the XDP program ([`hand_over`]),
//! which goes on without this process; the thread then only reads when the peer was last heard.
//!
//! Dropping [`Bfd`] (or killing the process) changes nothing for sessions that the program answers;
//! all others end when their peers have waited long enough.

mod clock;
mod config;
mod driver;
mod hand_over;
mod metrics;
mod sockets;
mod status;

use std::{collections::BTreeSet, io, sync::Arc, thread::JoinHandle};

use isocast_dataplane::bfd::Reflector;
use tokio::sync::watch;

pub use self::{
    config::SessionSpec,
    driver::{Listener, Verdict},
    metrics::register,
    status::{Readout, SessionStatus, Statuses},
};
pub use isocast_bgp::bfd::{Diagnostic, Hops, State};

use self::driver::{Driver, Mailbox};

/// The forwarding plane that may answer for sessions.
#[derive(Debug)]
pub struct ForwardingPlane {
    /// Its entries.
    pub reflector: Reflector,
    /// Indices of the interfaces that its program runs on.
    pub interfaces: BTreeSet<u32>,
}

/// BFD on this host, until it is dropped.
#[derive(Debug)]
pub struct Bfd {
    mailbox: Arc<Mailbox>,
    readout: Readout,
    thread: Option<JoinHandle<()>>,
}

impl Bfd {
    /// Starts the thread, in the calling thread's network namespace. There are no sessions yet,
    /// and no sockets.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(seed: u64) -> io::Result<Self> {
        let (driver, mailbox, readout) = Driver::new(seed)?;
        let thread = std::thread::Builder::new().name("bfd".into()).spawn(|| driver.run())?;
        Ok(Self { mailbox, readout, thread: Some(thread) })
    }

    /// Replaces the set of sessions: those that stay are not disturbed, those that go say so.
    pub fn set_sessions(&self, sessions: Vec<SessionSpec>) {
        self.mailbox.post(|orders| orders.sessions = Some(sessions));
    }

    /// Leaves sessions to a forwarding plane, or to none from now on. Sessions that a predecessor
    /// left to it go on; so it is to be set before the first sessions are.
    pub fn set_forwarding_plane(&self, plane: Option<ForwardingPlane>) {
        self.mailbox.post(|orders| orders.plane = Some(plane));
    }

    /// Has a listener told what becomes of sessions, beginning with those that are up.
    pub fn set_listener(&self, listener: Option<Listener>) {
        self.mailbox.post(|orders| orders.listener = Some(listener));
    }

    /// All sessions, as they change.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Statuses> {
        self.readout.statuses.clone()
    }

    /// What there is to be known from outside.
    #[must_use]
    pub fn readout(&self) -> Readout {
        self.readout.clone()
    }
}

impl Drop for Bfd {
    fn drop(&mut self) {
        self.mailbox.post(|orders| orders.end = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the BFD thread panicked");
        }
    }
}
