//! [`Told`]: since when each peer has been told of each prefix.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use isocast_bgp::speaker::Withheld;

use crate::bgp::{PeerStatuses, Uid};

/// What the sessions announce, with its age. A prefix that is told again after a withdrawal, or in
/// a new session, is young again.
#[derive(Debug, Default)]
pub struct Told {
    peers: BTreeMap<Uid, Prefixes>,
}

/// One peer's share.
#[derive(Debug)]
struct Prefixes {
    name: String,
    /// What `since` was made of.
    announced: Arc<[IpNet]>,
    /// In milliseconds of the Unix epoch.
    since: BTreeMap<IpNet, u64>,
    withheld: BTreeMap<IpNet, Withheld>,
}

/// What one peer was told of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerTold<'a> {
    /// Name of the peer.
    pub peer: &'a str,
    /// Since when it is told, in milliseconds of the Unix epoch.
    pub since_ms: Option<u64>,
    /// Why it is not told.
    pub withheld: Option<Withheld>,
}

// === impl Told ===

impl Told {
    /// Takes in what the sessions say now.
    pub(crate) fn follow(&mut self, statuses: &PeerStatuses, now: SystemTime) {
        self.peers.retain(|uid, _| statuses.contains_key(uid));
        let now = milliseconds(now);
        for (uid, status) in statuses {
            let peer = self.peers.entry(Arc::clone(uid)).or_insert_with(|| Prefixes {
                name: String::new(),
                announced: Arc::default(),
                since: BTreeMap::new(),
                withheld: BTreeMap::new(),
            });
            peer.name.clone_from(&status.name);
            peer.withheld.clone_from(&status.withheld);
            if !Arc::ptr_eq(&peer.announced, &status.announced) {
                peer.announced = Arc::clone(&status.announced);
                let since = |prefix: &IpNet| *peer.since.get(prefix).unwrap_or(&now);
                peer.since = peer.announced.iter().map(|prefix| (*prefix, since(prefix))).collect();
            }
        }
    }

    /// What every peer was told of a prefix.
    pub fn of(&self, prefix: IpNet) -> impl Iterator<Item = PeerTold<'_>> {
        self.peers.values().map(move |peer| PeerTold {
            peer: &peer.name,
            since_ms: peer.since.get(&prefix).copied(),
            withheld: peer.withheld.get(&prefix).copied(),
        })
    }
}

/// A time as the protocol has it.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isocast_bgp::fsm::State;

    use super::*;
    use crate::bgp::PeerStatus;

    fn prefix() -> IpNet {
        "192.0.2.1/32".parse().unwrap()
    }

    fn status(announced: &[IpNet]) -> PeerStatuses {
        let status = PeerStatus {
            name: "tor1".into(),
            state: State::Established,
            announced: announced.into(),
            ..PeerStatus::unknown()
        };
        BTreeMap::from([("uid".into(), status)])
    }

    fn since(told: &Told) -> Option<u64> {
        told.of(prefix()).next().and_then(|peer| peer.since_ms)
    }

    #[test]
    fn a_prefix_keeps_its_age_until_it_is_withdrawn() {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        let mut told = Told::default();

        told.follow(&status(&[prefix()]), at(5));
        told.follow(&status(&["192.0.2.0/32".parse().unwrap(), prefix()]), at(7));
        assert_eq!(since(&told), Some(5));

        told.follow(&status(&[]), at(8));
        assert_eq!(since(&told), None);
        told.follow(&status(&[prefix()]), at(9));
        assert_eq!(since(&told), Some(9));
    }

    #[test]
    fn a_peer_that_is_gone_was_told_nothing() {
        let mut told = Told::default();
        told.follow(&status(&[prefix()]), UNIX_EPOCH);

        told.follow(&PeerStatuses::new(), UNIX_EPOCH);

        assert_eq!(told.of(prefix()).count(), 0);
    }
}
