//! A route collector: BGP sessions with every border, over the management network.
//!
//! It announces nothing and counts what borders withdraw. Borders show it only what their own
//! edges announce, so a withdrawal is one even when another datacenter still has the prefix. That
//! a session ends is no withdrawal.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use isocast_agent::bgp::{
    BgpSpeaker, ImportPolicy, PeerConfig, PeerStatuses, RouteChange, RouteEvent, SpeakerConfig,
    SpeakerError, State,
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    netns::{EnterError, Namespace},
    topology::{Node, Topology},
};

/// A running collector; it ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    log: Arc<Mutex<Log>>,
    statuses: watch::Receiver<PeerStatuses>,
    peer_count: usize,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A collector that cannot be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CollectorError {
    /// Its namespace.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The management network has no host address.
    #[error("the management network has no address for the collector")]
    NoAddress,
    /// The speaker.
    #[error("the collector's BGP speaker")]
    Speaker(#[from] SpeakerError),
    /// Its thread.
    #[error("cannot start the collector's thread")]
    Thread(#[source] std::io::Error),
    /// Its thread ended before it began.
    #[error("the collector's thread ended at once")]
    Ended,
}

/// What happened in a window.
#[derive(Debug, Default)]
struct Log {
    prefixes: Vec<IpNet>,
    /// Withdrawals of the prefixes: from whom, and when.
    withdrawals: Vec<(Arc<str>, SystemTime)>,
    /// Sessions that ended: whose, and when.
    ends: Vec<(Arc<str>, SystemTime)>,
}

impl Collector {
    /// Starts sessions with `borders`, to count withdrawals of `prefixes`.
    ///
    /// # Errors
    /// The management network cannot be entered, or no session can run with a border.
    pub async fn start<'a>(
        topology: &Topology,
        borders: impl Iterator<Item = &'a Node>,
        prefixes: impl Iterator<Item = IpNet>,
    ) -> Result<Self, CollectorError> {
        let address = topology.management.subnet.hosts().next().ok_or(CollectorError::NoAddress)?;
        let peers: Vec<_> = borders.map(|border| peer(border, address)).collect();
        let peer_count = peers.len();
        let log = Arc::new(Mutex::new(Log { prefixes: prefixes.collect(), ..Log::default() }));
        let stop = CancellationToken::new();
        let (started, has_started) = oneshot::channel();
        let thread = {
            let (log, stop) = (Arc::clone(&log), stop.clone());
            let namespace = topology.management_namespace();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(CollectorError::Thread)?;
            std::thread::Builder::new()
                .name("collector".to_owned())
                .spawn(move || runtime.block_on(run(namespace, address, peers, log, stop, started)))
                .map_err(CollectorError::Thread)?
        };
        let statuses = has_started.await.map_err(|_closed| CollectorError::Ended).flatten()?;
        Ok(Self { log, statuses, peer_count, stop, thread: Some(thread) })
    }

    /// Whether the sessions with all borders are up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let statuses = self.statuses.borrow();
        let up = statuses.values().filter(|status| status.state == State::Established);
        up.count() == self.peer_count
    }

    /// Forgets what happened so far.
    pub fn begin_window(&self) {
        let mut log = self.log.lock();
        log.withdrawals.clear();
        log.ends.clear();
    }

    /// Withdrawals in this window.
    #[must_use]
    pub fn withdrawals(&self) -> u64 {
        self.log.lock().count()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the collector's thread panicked");
        }
    }
}

impl Log {
    fn note(&mut self, event: RouteEvent) {
        if let RouteChange::Withdrawn { prefix } = event.change
            && self.prefixes.contains(&prefix)
            && self.withdrawals.len() < WITHDRAWALS_MAX
        {
            self.withdrawals.push((event.peer, event.at));
        }
    }

    /// Notes sessions that are not up, once each time.
    fn note_ends(&mut self, statuses: &PeerStatuses) {
        let down = statuses.iter().filter(|(_, status)| status.state != State::Established);
        for (uid, status) in down {
            let end = (Arc::clone(uid), status.since);
            if self.ends.len() < WITHDRAWALS_MAX && !self.ends.contains(&end) {
                self.ends.push(end);
            }
        }
    }

    /// Withdrawals, without the routes that went because their session did.
    fn count(&self) -> u64 {
        let went_with_session = |(peer, at): &(Arc<str>, SystemTime)| {
            self.ends.iter().any(|(other, end)| {
                let apart = end.duration_since(*at).or_else(|_| at.duration_since(*end));
                other == peer && apart.is_ok_and(|apart| apart <= SAME_MOMENT)
            })
        };
        let real = self.withdrawals.iter().filter(|withdrawal| !went_with_session(withdrawal));
        u64::try_from(real.count()).unwrap_or(u64::MAX)
    }
}

type Started = oneshot::Sender<Result<watch::Receiver<PeerStatuses>, CollectorError>>;

async fn run(
    namespace: Namespace,
    address: Ipv4Addr,
    peers: Vec<PeerConfig>,
    log: Arc<Mutex<Log>>,
    stop: CancellationToken,
    started: Started,
) {
    let (routes, mut events) = mpsc::channel(EVENTS_MAX);
    let config = SpeakerConfig { routes: Some(routes), ..SpeakerConfig::new(ASN, address) };
    let speaker = namespace.enter().map_err(CollectorError::from).and_then(|()| {
        let mut speaker = BgpSpeaker::start(config)?;
        speaker.set_peers(peers)?;
        Ok(speaker)
    });
    let Ok(mut statuses) = speaker.as_ref().map(BgpSpeaker::status) else {
        let _nobody_waits = started.send(speaker.map(|speaker| speaker.status()));
        return;
    };
    let _nobody_waits = started.send(Ok(statuses.clone()));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = events.recv() => log.lock().note(event),
            Ok(()) = statuses.changed() => {
                log.lock().note_ends(&statuses.borrow_and_update());
            }
        }
    }
}

fn peer(border: &Node, local: Ipv4Addr) -> PeerConfig {
    let address = IpAddr::V4(border.management_address);
    let asn = border.asn.unwrap_or_default();
    PeerConfig {
        name: border.name.clone(),
        local_address: Some(local.into()),
        import: ImportPolicy::AcceptAll { prefixes_max: PREFIXES_MAX },
        ..PeerConfig::new(border.name.as_str(), address, asn)
    }
}

/// The collector's autonomous system, as borders know it.
const ASN: u32 = 65_099;
/// Most prefixes that a border may show.
const PREFIXES_MAX: usize = 1000;
/// Most route events that wait to be counted.
const EVENTS_MAX: usize = 1000;
/// Most withdrawals that are kept; far more than any limit.
const WITHDRAWALS_MAX: usize = 10_000;
/// A route that goes this close to its session's end went because of it.
const SAME_MOMENT: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "203.0.113.10/32";

    fn log() -> Log {
        Log { prefixes: vec![PREFIX.parse().unwrap()], ..Log::default() }
    }

    fn withdrawn(prefix: &str, at: SystemTime) -> RouteEvent {
        let change = RouteChange::Withdrawn { prefix: prefix.parse().unwrap() };
        RouteEvent { peer: "bor-ams".into(), at, change }
    }

    #[test]
    fn only_the_services_prefixes_count() {
        let mut log = log();

        log.note(withdrawn(PREFIX, SystemTime::now()));
        log.note(withdrawn("203.0.113.20/32", SystemTime::now()));

        assert_eq!(log.count(), 1);
    }

    #[test]
    fn a_route_that_goes_with_its_session_is_no_withdrawal() {
        let now = SystemTime::now();
        let mut log = log();
        log.note(withdrawn(PREFIX, now));
        log.note(withdrawn(PREFIX, now - Duration::from_secs(1)));

        log.ends.push(("bor-ams".into(), now + Duration::from_millis(10)));

        assert_eq!(log.count(), 1);
    }
}
