//! A route collector: BGP sessions with every border, over the management network.
//!
//! It announces nothing and counts what borders withdraw. Borders show it only what their own
//! edges announce, so a withdrawal is one even when another datacenter still has the prefix. That
//! a session ends is no withdrawal.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
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
    withdrawals: u64,
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
        self.log.lock().withdrawals = 0;
    }

    /// Withdrawals in this window.
    #[must_use]
    pub fn withdrawals(&self) -> u64 {
        self.log.lock().withdrawals
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
    fn note(&mut self, event: &RouteEvent) {
        if let RouteChange::Withdrawn { prefix } = event.change
            && self.prefixes.contains(&prefix)
        {
            tracing::info!(border = %event.peer, %prefix, "withdrawn");
            self.withdrawals += 1;
        }
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
    let Ok(statuses) = speaker.as_ref().map(BgpSpeaker::status) else {
        let _nobody_waits = started.send(speaker.map(|speaker| speaker.status()));
        return;
    };
    let _nobody_waits = started.send(Ok(statuses));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = events.recv() => log.lock().note(&event),
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
#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const PREFIX: &str = "203.0.113.10/32";

    fn log() -> Log {
        Log { prefixes: vec![PREFIX.parse().unwrap()], ..Log::default() }
    }

    fn event(change: RouteChange) -> RouteEvent {
        RouteEvent { peer: "bor-ams".into(), at: SystemTime::now(), change }
    }

    #[test]
    fn only_withdrawals_of_the_services_prefixes_count() {
        let mut log = log();
        let [prefix, other] = [PREFIX, "203.0.113.20/32"].map(|text| text.parse().unwrap());

        log.note(&event(RouteChange::Withdrawn { prefix }));
        log.note(&event(RouteChange::Withdrawn { prefix: other }));
        log.note(&event(RouteChange::Lost { prefix }));

        assert_eq!(log.withdrawals, 1);
    }
}
