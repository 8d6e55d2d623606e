//! Installation of learnt routes in a routing table of the kernel.
//!
//! A thread of its own writes ([`writer`]); the BGP thread only puts down where prefixes lead, and
//! never waits ([`tray`]). What is written when is worked out in [`plan`]. The best route and those
//! that tie with it share the traffic of a prefix; the speaker's own announcements are not
//! installed, as their traffic ends here.
//!
//! Routes are ours by table, protocol and metric: no one else may use all three.
//!
//! Killed, the process leaves its routes behind, as graceful restart wants it; the next one adopts
//! them, and takes away what no peer speaks of once each has sent End-of-RIB, or two minutes later.

mod netlink;
mod plan;
mod tray;
mod writer;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::thread;

use isocast_bgp::fsm::State;
use isocast_bgp::speaker::{ForwardingRoute, PeerId, Speaker};
use isocast_bgp::types::Family;
use parking_lot::Mutex;

pub(super) use self::tray::Fate;
use self::tray::Tray;
use self::writer::Writer;

/// Prefixes looked at in one turn of the BGP thread.
const VISITS: usize = 512;

/// Where routes are installed, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// The routing table.
    pub table: u32,
    /// Metric of the routes.
    pub metric: u32,
    /// Protocol of the routes (`RTPROT_*`), by which they are known.
    pub protocol: u8,
    /// Most next hops of a route.
    pub multipath_max: usize,
    /// Most routes.
    pub routes_max: usize,
}

/// What the kernel holds, and what went on since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelReport {
    /// Routes in the kernel.
    pub installed: usize,
    /// Routes that the kernel does not take as it is now: no link leads to a next hop, or another's
    /// route is in their place.
    pub refused: usize,
    /// Routes are left out for the sake of the limit.
    pub over_limit: bool,
    /// Routes added and replaced.
    pub written: u64,
    /// Routes removed.
    pub removed: u64,
    /// Attempts that the kernel refused.
    pub refusals: u64,
    /// Routes left out for the sake of the limit.
    pub beyond_limit: u64,
}

/// The BGP thread's end of it.
#[derive(Debug)]
pub(super) struct Kernel {
    tray: Arc<Tray>,
    multipath_max: usize,
    routes: Vec<ForwardingRoute>,
    /// Who has said all it has to say of which family; nothing: so have all.
    said: Option<BTreeSet<(PeerId, Family)>>,
    /// One more has said so since that was looked at.
    news: bool,
    /// What the speaker loses as it ends is no news of the network.
    over: bool,
}

// === impl Kernel ===

impl Kernel {
    /// Begins to install routes in the network namespace of the calling thread. `bgp` wakes the
    /// thread that is to call [`Self::feed`].
    ///
    /// # Errors
    /// The kernel's, which does not let itself be asked.
    pub(super) fn start(
        config: KernelConfig,
        bgp: Waker,
        report: Arc<Mutex<KernelReport>>,
    ) -> io::Result<Self> {
        let (writer, tray) = Writer::open(config, bgp, report)?;
        thread::Builder::new().name("bgp-kernel".to_owned()).spawn(move || writer.run())?;
        Ok(Self {
            tray,
            multipath_max: config.multipath_max,
            routes: Vec::new(),
            said: Some(BTreeSet::new()),
            news: false,
            over: false,
        })
    }

    /// Puts down where prefixes lead that changed, as far as there is room.
    pub(super) fn feed(&mut self, speaker: &mut Speaker) {
        if self.over {
            return;
        }
        if self.tray.take_again() {
            speaker.watch_forwarding();
        }
        if speaker.has_forwarding() {
            let visits = self.tray.room().min(VISITS);
            speaker.take_forwarding(self.multipath_max, visits, &mut self.routes);
            if !self.routes.is_empty() {
                self.tray.put(&mut self.routes);
            }
        } else if std::mem::take(&mut self.news)
            && self.said.as_ref().is_some_and(|said| is_complete(said, speaker))
        {
            self.said = None;
            self.tray.complete();
        }
    }

    /// Whether [`Self::feed`] has something to do.
    pub(super) fn is_hungry(&self, speaker: &Speaker) -> bool {
        !self.over && speaker.has_forwarding() && self.tray.room() > 0
    }

    /// A peer has said all it has to say of a family, for a start.
    pub(super) fn note_end_of_rib(&mut self, peer: PeerId, family: Family) {
        if let Some(said) = &mut self.said {
            self.news |= said.insert((peer, family));
        }
    }

    /// Nothing is told from here on.
    pub(super) fn end(&mut self, fate: Fate) {
        self.over = true;
        self.tray.end(fate);
    }

    /// Whether the kernel's table is as it is to stay.
    pub(super) fn has_ended(&self) -> bool {
        self.tray.has_ended()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.tray.end(Fate::Keep);
    }
}

/// Whether every peer has said all it has to say.
fn is_complete(said: &BTreeSet<(PeerId, Family)>, speaker: &Speaker) -> bool {
    speaker.peers().all(|peer| {
        let families = peer.session.negotiated().map(|agreed| agreed.codec.families);
        peer.state == State::Established
            && families.is_some_and(|all| all.iter().all(|f| said.contains(&(peer.id, f))))
    })
}
