//! `isocast-agent speaker`: the BGP speaker on its own, without a controller, services or a data
//! plane. For route servers, for benchmarks, and in place of speakers that are fed by scripts.
//!
//! ```text
//!  file ──► config ──┬── peers ──────────────────► bgp
//!                    └── announcements ──► routing ─┘ ▲
//!  HTTP ◄──► api ────────────────────────────┘        │
//!               └──────────── questions ──────────────┘
//! ```
//!
//! SIGHUP reads the file again: what differs is changed, and no session ends for a field that needs
//! no new one. SIGTERM and SIGINT end every session with a word to the peer (RFC 9003).

mod announcements;
mod api;
mod config;
mod file;
mod metrics;
mod routing;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::api::Context;
use self::config::Config;
use self::routing::Routing;
use crate::bgp::{KernelConfig, Stop};

/// What peers are told when the speaker is stopped.
const FAREWELL: &str = "the speaker was stopped";

/// Reads the file and says whether it could be run with.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check(path: &Path) -> anyhow::Result<()> {
    Config::load(path)?;
    Ok(())
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(path: &Path) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let config = Config::load(path)?;
    let running = Running::of(&config);
    let listener = match config.api {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("API on {address}"))?)
        }
    };
    let routing = Arc::new(Routing::start(config)?);
    let stop = CancellationToken::new();
    let api = serve(listener, Arc::clone(&routing), stop.clone());
    let control = async {
        while signals.next().await == Order::Reload {
            reload(path, &running, &routing);
        }
        tracing::info!("stopping: every peer is told");
        routing.shutdown(Stop::Drain { text: FAREWELL.into() }).await;
        stop.cancel();
    };
    let (served, ()) = tokio::join!(api, control);
    served.context("API")
}

async fn serve(
    listener: Option<TcpListener>,
    routing: Arc<Routing>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    match listener {
        None => Ok(()),
        Some(listener) => api::serve(listener, Context::new(routing), stop.cancelled_owned()).await,
    }
}

/// Does what the file says now, as far as that can be done without a restart.
fn reload(path: &Path, running: &Running, routing: &Routing) {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::error!(
                error = format!("{error:#}"),
                "not reloaded: everything stays as it was"
            );
            return;
        }
    };
    if Running::of(&config) != *running {
        tracing::warn!(
            "router, kernel and api are fixed while the speaker runs: restart it to change them"
        );
    }
    match routing.reload(config) {
        Err(error) => tracing::error!(%error, "not reloaded: everything stays as it was"),
        Ok(Some(refusal)) => {
            tracing::warn!(%refusal, "reloaded, but announcements that the file lost are held");
        }
        Ok(None) => tracing::info!("reloaded"),
    }
}

/// What takes a restart to change.
#[derive(Debug, PartialEq, Eq)]
struct Running {
    asn: u32,
    router_id: std::net::Ipv4Addr,
    listen: Vec<SocketAddr>,
    kernel: Option<KernelConfig>,
    api: Option<SocketAddr>,
}

// === impl Running ===

impl Running {
    fn of(config: &Config) -> Self {
        Self {
            asn: config.speaker.asn,
            router_id: config.speaker.router_id,
            listen: config.speaker.listen.clone(),
            kernel: config.speaker.kernel,
            api: config.api,
        }
    }
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Reload,
    Stop,
}

#[derive(Debug)]
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

// === impl Signals ===

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.hangup.recv() => Order::Reload,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.terminate.recv() => Order::Stop,
        }
    }
}
