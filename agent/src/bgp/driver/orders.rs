//! What the [`Driver`] is told by others.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isocast_bgp::fsm::{Input, State, Stop};
use isocast_bgp::speaker::PeerId;
use isocast_bgp::types::FamilySet;

use super::Driver;
use super::peers::{Peer, Plan};
use crate::bgp::changes;
use crate::bgp::config::{PeerConfig, Uid};
use crate::bgp::kernel::Fate;
use crate::bgp::mailbox::{BfdChange, End, Inbox};
use crate::model::Remote;

/// How long a shutdown waits for farewells.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);

impl Driver {
    /// Does what came in. What widens the set of announcements goes before the announcements, so
    /// that none is sent twice.
    pub(super) fn take_orders(&mut self, now: Instant) -> ControlFlow<()> {
        let Inbox {
            peers,
            announcements,
            guard,
            forwarding_preserved,
            initial_set_complete,
            bfd,
            questions,
            end,
        } = self.mailbox.take();
        if let Some(guard) = guard {
            self.speaker.set_guard(Arc::new(guard));
        }
        if let Some(announcements) = announcements {
            self.speaker.set_local(Arc::new(announcements));
            self.reports.mark();
        }
        if let Some(preserved) = forwarding_preserved {
            self.speaker.set_forwarding_preserved(preserved);
        }
        if initial_set_complete {
            self.speaker.initial_set_complete();
            self.tell_all();
        }
        if let Some(peers) = peers {
            self.set_peers(now, peers);
        }
        for (address, change) in bfd {
            self.bfd(now, address, change);
        }
        for question in questions {
            self.answer(question);
        }
        match end {
            None => ControlFlow::Continue(()),
            Some(End::Abandon) => ControlFlow::Break(()),
            Some(End::Stop(stop)) => {
                self.stop(now, &stop);
                ControlFlow::Continue(())
            }
        }
    }

    /// The peer of an address that belongs to none, if a prefix covers it.
    pub(super) fn invite(&mut self, now: Instant, address: IpAddr) -> Option<PeerId> {
        let template = self.peers.template(address)?;
        let (config, uid) = (Arc::new(template.instance(address)), Arc::clone(&template.uid));
        self.add(now, config, Some(uid))
    }

    fn set_peers(&mut self, now: Instant, wanted: Vec<Arc<PeerConfig>>) {
        let Plan { removed, changed, added } = self.peers.plan(wanted);
        for peer in removed {
            self.remove(now, peer, Stop::Deconfigure);
        }
        for (peer, config) in changed {
            self.change(now, peer, config);
        }
        // Before anybody connects.
        self.listeners.set_keys(self.peers.keys());
        for config in added {
            self.add(now, config, None);
        }
        self.listeners.set_keys(self.peers.keys());
        self.listeners.open(self.poll.registry());
        self.act(now);
        self.reports.mark();
    }

    fn add(&mut self, now: Instant, config: Arc<PeerConfig>, uid: Option<Uid>) -> Option<PeerId> {
        let Remote::Address(address) = config.remote else { return None };
        let peer = self.peers.insert(Arc::clone(&config), uid);
        let core = config.core(address, &self.config);
        if let Err(error) = self.speaker.set_peer(now, peer, core, &mut self.actions) {
            // It was checked when it came in: there are too many.
            tracing::error!(peer = %config.name, %error, "peer refused");
            self.peers.remove(peer);
            return None;
        }
        self.feed(now, peer, Input::Start);
        self.reports.mark();
        Some(peer)
    }

    fn change(&mut self, now: Instant, peer: PeerId, config: Arc<PeerConfig>) {
        let Some(old) = self.peers.get(peer).map(|peer| Arc::clone(&peer.config)) else { return };
        for (field, cost) in changes::between(&old, &config) {
            tracing::info!(peer = %config.name, field, %cost, "configuration changed");
        }
        let Remote::Address(address) = config.remote else { return };
        // Other sockets, and perhaps another router behind them; or what kept it from coming up may
        // be mended, so there is nothing to wait for.
        if old.needs_reconnect(&config) || self.is_down(peer) {
            let template = self.peers.get(peer).and_then(|peer| peer.template.clone());
            self.remove(now, peer, Stop::Deconfigure);
            self.add(now, config, template);
            return;
        }
        let core = config.core(address, &self.config);
        self.peers.reconfigure(peer, Arc::clone(&config));
        if let Err(error) = self.speaker.set_peer(now, peer, core, &mut self.actions) {
            tracing::error!(peer = %config.name, %error, "change refused");
        }
        self.to_tell.push(peer);
        self.act(now);
    }

    /// Whether there is no session, nor anything left of one.
    fn is_down(&self, peer: PeerId) -> bool {
        self.speaker
            .peer(peer)
            .is_none_or(|view| view.state != State::Established && view.session.stale().is_empty())
    }

    /// Forgets a peer after a last word.
    pub(super) fn remove(&mut self, now: Instant, peer: PeerId, stop: Stop) {
        self.speaker.remove_peer(now, peer, stop, &mut self.actions);
        self.act(now);
        self.peers.remove(peer);
        self.reports.mark();
    }

    fn bfd(&mut self, now: Instant, address: IpAddr, change: BfdChange) {
        let Some(peer) = self.peers.at(address) else { return };
        let input = match change {
            BfdChange::Up => Input::BfdUp,
            BfdChange::Down { control_plane_independent } => {
                Input::BfdDown { control_plane_independent }
            }
        };
        self.feed(now, peer, input);
    }

    /// Forgets peers that came from a prefix and are gone, with all that they said.
    pub(super) fn dismiss(&mut self, now: Instant) {
        let is_gone = |(id, peer): &(PeerId, &Peer)| {
            let may_leave = peer.template.is_some() && peer.links.is_empty();
            let stale = || self.speaker.peer(*id).map(|view| view.session.stale());
            may_leave && stale().is_none_or(FamilySet::is_empty)
        };
        let gone: Vec<_> = self.peers.iter().filter(is_gone).map(|(id, _)| id).collect();
        for peer in gone {
            self.remove(now, peer, Stop::Deconfigure);
        }
    }

    fn stop(&mut self, now: Instant, stop: &Stop) {
        let all: Vec<PeerId> = self.peers.iter().map(|(peer, _)| peer).collect();
        for peer in all {
            self.remove(now, peer, stop.clone());
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.end(if *stop == Stop::Preserve { Fate::Keep } else { Fate::Remove });
        }
        self.ending = now.checked_add(SHUTDOWN_WAIT);
    }
}
