//! [`Sync`]: runs the protocol's session and the link to the controller side by side.

use std::{path::PathBuf, sync::Arc};

use axum::Router;
use isocast_api::agent::{FromAgent, entry::Value};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};
use tracing::{error, info, warn};

use super::{
    controllers::Controllers,
    fleet::{self, FleetView},
    handle::SyncHandle,
    identity::{Identity, IdentityError},
    link::{Event, Link, LinkOptions, LinkState},
    lkg::{LastKnownGood, Stored},
    metrics::Metrics,
    session::{Action, Base, Received, Session, Source, Verdict},
    state_dir::{StateDir, StateDirError},
};

/// What the channel needs to know.
#[derive(Debug)]
pub struct Options {
    /// Host and port of the controller; of several, all, with commas between.
    pub controller: String,
    /// This node's name.
    pub node: String,
    /// Folder for identity and last-known-good configuration.
    pub state_dir: StateDir,
    /// File with a join token, for a node that has not joined yet.
    pub join_token_file: Option<PathBuf>,
    /// Version of this agent.
    pub agent_version: String,
}

/// Why the channel cannot start. A controller out of reach is no such reason.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The identity on disk cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state folder cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
}

/// The running channel.
#[derive(Debug)]
pub struct Sync {
    link: Link,
    core: Core,
    events: mpsc::Receiver<Event>,
    verdicts: watch::Receiver<Option<Verdict>>,
}

/// Feeds the session and does what it says.
#[derive(Debug)]
struct Core {
    session: Session,
    lkg: Arc<Mutex<LastKnownGood>>,
    outbox: Option<mpsc::Sender<FromAgent>>,
    config: watch::Sender<Option<Arc<Received>>>,
    fleet: watch::Sender<FleetView>,
    metrics: Metrics,
}

/// Delivers the last-known-good configuration, if there is one.
///
/// # Errors
/// The state folder is unusable, or another node's.
pub fn start(options: Options, metrics: Metrics) -> Result<(SyncHandle, Sync), SyncError> {
    let Options { controller, node, state_dir, join_token_file, agent_version } = options;
    let dir = Arc::new(state_dir);
    let identity = Identity::load(&dir, &node)?;
    let (lkg, stored) = LastKnownGood::open(Arc::clone(&dir));
    let base = stored.filter(|stored| is_of(stored, &node)).map(|stored| {
        let Stored { revision, configuration, refusals } = stored;
        info!(revision, entries = configuration.len(), "starting from last-known-good");
        let received = Received::new(revision, configuration, Source::LastKnownGood);
        Arc::new(Received { refusals: Arc::new(refusals), ..received })
    });

    let (config_sender, config) = watch::channel(base.clone());
    let (verdict_sender, verdicts) = watch::channel(None);
    let (status_sender, status) = watch::channel(None);
    let reason = "no attempt made yet".to_owned();
    let (state, link_state) = watch::channel(LinkState::Disconnected { reason });
    let (event_sender, events) = mpsc::channel(EVENTS);

    let (fleet_sender, fleet) = watch::channel(None);
    let handle = SyncHandle {
        config,
        fleet,
        link: link_state,
        verdicts: verdict_sender,
        status: status_sender,
    };
    let link = Link {
        options: LinkOptions {
            controllers: Controllers::new(controller, rand::random_range(0..=usize::MAX)),
            node: node.clone(),
            join_token_file,
        },
        dir,
        identity,
        is_renewal_due: false,
        events: event_sender,
        status,
        state,
        metrics: metrics.clone(),
        local: None,
    };
    let core = Core {
        session: Session::new(node, agent_version, base),
        lkg: Arc::new(Mutex::new(lkg)),
        outbox: None,
        config: config_sender,
        fleet: fleet_sender,
        metrics,
    };
    Ok((handle, Sync { link, core, events, verdicts }))
}

/// A copied state folder must not make this host announce what another one should.
fn is_of(stored: &Stored, node: &str) -> bool {
    let mut names = stored.configuration.entries().filter_map(|entry| match &entry.value {
        Some(Value::Node(it)) => Some(it.name.as_str()),
        _ => None,
    });
    let is_ours = names.next().is_none_or(|name| name == node);
    if !is_ours {
        warn!(node, "the last-known-good configuration is of another node and is not used");
    }
    is_ours
}

impl Sync {
    /// Lets the controller ask what `local` answers.
    #[must_use]
    pub fn answering(mut self, local: Router) -> Self {
        self.link.local = Some(local);
        self
    }

    /// Runs until the future is dropped, which closes the connection.
    pub async fn run(self) {
        let Self { link, core, events, verdicts } = self;
        tokio::select! {
            () = link.run() => {}
            () = core.run(events, verdicts) => {}
        }
    }
}

impl Core {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut verdicts: watch::Receiver<Option<Verdict>>,
    ) {
        loop {
            let actions = tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Opened { outbox }) => {
                        self.outbox = Some(outbox);
                        vec![self.session.opened()]
                    }
                    Some(Event::Received(message)) => {
                        self.session.received(message).into_iter().collect()
                    }
                    None => return,
                },
                changed = verdicts.changed() => {
                    if changed.is_err() {
                        return; // the handle is gone, and with it the agent
                    }
                    let verdict = verdicts.borrow_and_update().clone();
                    verdict.map(|verdict| self.judged(verdict)).unwrap_or_default()
                }
            };
            for action in actions {
                self.act(action).await;
            }
        }
    }

    fn judged(&mut self, verdict: Verdict) -> Vec<Action> {
        match &verdict {
            Verdict::Ack { revision, refusals } => {
                self.metrics.revision.set(*revision);
                self.metrics.refused_entries.set(refusals.errors.len() as u64);
            }
            Verdict::Nack { revision, reason, .. } => {
                warn!(revision, reason, "configuration refused");
                self.metrics.nacks.inc();
            }
        }
        self.session.verdict(verdict)
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Deliver(received) => {
                self.config.send_replace(Some(received));
            }
            Action::Send(message) => {
                // A box that is full or closed belongs to a connection that is lost; the next one
                // begins with a Hello that says it all.
                if self.outbox.as_ref().is_some_and(|outbox| outbox.try_send(message).is_err()) {
                    self.outbox = None;
                }
            }
            Action::Store(base) => self.store(base).await,
            Action::View(said) => self.fleet.send_modify(|view| *view = fleet::merge(view, said)),
        }
    }

    /// A disk that fails must not keep a configuration from being in force: it is said, counted,
    /// and the earlier generation stays.
    async fn store(&self, base: Base) {
        let lkg = Arc::clone(&self.lkg);
        let write = move || {
            let Base { received, refusals } = base;
            lkg.lock().store(received.revision, &received.configuration, &refusals)
        };
        let outcome = match spawn_blocking(write).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = outcome {
            error!(error, "the last-known-good configuration could not be stored");
            self.metrics.store_failures.inc();
        }
    }
}

const EVENTS: usize = 16;
