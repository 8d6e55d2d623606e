//! [`Liveness`]: BFD as the runtime uses it, from the model to sessions that the data plane
//! answers for.

use std::net::IpAddr;

use isocast_bgp::bfd::Hops;
use isocast_dataplane::bfd::Reflector;
use nix::net::if_::if_nametoindex;

use crate::{
    bfd::{Bfd, ForwardingPlane, Listener, Readout, SessionSpec, Statuses},
    model::{NodeModel, Peer, Remote, Uplink},
};

/// BFD of this host. Without it (the kernel gives no thread) routing goes on by hold times.
#[derive(Debug)]
pub(super) struct Liveness {
    bfd: Option<Bfd>,
}

// === impl Liveness ===

impl Liveness {
    /// Has no sessions yet.
    pub(super) fn start() -> Self {
        match Bfd::start(rand::random()) {
            Ok(bfd) => Self { bfd: Some(bfd) },
            Err(error) => {
                tracing::error!(%error, "BFD does not start");
                Self { bfd: None }
            }
        }
    }

    /// What metrics read.
    pub(super) fn readout(&self) -> Option<Readout> {
        self.bfd.as_ref().map(Bfd::readout)
    }

    /// What is known of every session.
    pub(super) fn statuses(&self) -> Option<Statuses> {
        self.bfd.as_ref().map(|bfd| bfd.statuses().borrow().clone())
    }

    /// Has the sessions that the model asks for; `reflector` is the data plane's.
    pub(super) fn ensure(&self, model: &NodeModel, reflector: Option<Reflector>) {
        let Some(bfd) = &self.bfd else { return };
        let interfaces = model.uplinks.iter().filter_map(index_of).collect();
        let plane = reflector.map(|reflector| ForwardingPlane { reflector, interfaces });
        bfd.set_forwarding_plane(plane);
        let peers = model.peers.iter().filter(|_| model.roles.edge);
        bfd.set_sessions(peers.filter_map(session).collect());
    }

    /// Has a listener told what becomes of the sessions.
    pub(super) fn set_listener(&self, listener: Option<Listener>) {
        if let Some(bfd) = &self.bfd {
            bfd.set_listener(listener);
        }
    }
}

fn index_of(uplink: &Uplink) -> Option<u32> {
    if_nametoindex(uplink.interface.as_str()).ok()
}

/// None where no BFD is asked for, or nobody knows whom to ask: a dynamic peer.
fn session(peer: &Peer) -> Option<SessionSpec> {
    let (bfd, Remote::Address(address)) = (peer.bfd?, peer.remote) else { return None };
    Some(SessionSpec {
        uid: peer.uid.clone(),
        name: peer.name.clone(),
        peer: address,
        local: peer.local_address.filter(|local| is_same_family(*local, address)),
        hops: if bfd.multihop { Hops::Many } else { Hops::One },
        interval: bfd.interval,
        multiplier: bfd.multiplier,
    })
}

const fn is_same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}
