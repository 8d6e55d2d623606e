//! [`Forwarding`]: the data plane as the runtime uses it, opened when there is something to open.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use isocast_dataplane::{
    ApplyError, Config, Counters, Dataplane, Mode, OpenError, Opened, Tables, bfd::Reflector,
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::task::block_in_place;

use crate::model::{NodeModel, Roles, Uplink, XdpMode};

/// Why tables are not in force.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum ForwardingError {
    /// The tables were refused; the former ones are in force.
    #[error("the tables are refused")]
    Apply(#[source] ApplyError),
    /// There is no data plane to put them in.
    #[error("the data plane cannot be opened")]
    Open(#[source] OpenError),
}

/// What was found when the data plane was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A predecessor's tables are in force: its maps, or others that forward until there are ours.
    Adopted,
    /// Nothing was in force.
    Fresh,
    /// It was open already.
    Running,
}

/// Reads the kernel's counters from any thread.
#[derive(Clone, Debug, Default)]
pub struct KernelCounters {
    open: Arc<Mutex<Option<Open>>>,
}

/// The data plane of this host.
#[derive(Debug)]
pub(super) struct Forwarding {
    bpffs: PathBuf,
    shared: KernelCounters,
}

struct Open {
    dataplane: Dataplane,
    shape: Shape,
}

/// What a data plane is opened with; if it changes, it is opened anew over the same pins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    roles: Roles,
    tunnel_addresses: Vec<IpAddr>,
    uplinks: Vec<Uplink>,
}

// === impl Forwarding ===

impl Forwarding {
    pub(super) fn new(bpffs: PathBuf) -> Self {
        Self { bpffs, shared: KernelCounters::default() }
    }

    /// A reader of the kernel's counters.
    pub(super) fn counters(&self) -> KernelCounters {
        self.shared.clone()
    }

    /// Has a data plane of the shape that the model asks for.
    pub(super) fn ensure(&self, model: &NodeModel) -> Result<Start, ForwardingError> {
        let shape = Shape::of(model);
        let mut open = self.shared.open.lock();
        if open.as_ref().is_some_and(|open| open.shape == shape) {
            return Ok(Start::Running);
        }
        let was_open = open.is_some();
        let config = shape.config(self.bpffs.clone());
        let (dataplane, opened) =
            block_in_place(|| Dataplane::open(config)).map_err(ForwardingError::Open)?;
        *open = Some(Open { dataplane, shape });
        Ok(match opened {
            _ if was_open => Start::Running,
            Opened::Adopted { .. } | Opened::Succeeding => Start::Adopted,
            Opened::Fresh => Start::Fresh,
        })
    }

    /// The sessions of BFD that the data plane answers for; none without one.
    pub(super) fn reflector(&self) -> Option<Reflector> {
        match Reflector::open(&self.bpffs) {
            Ok(reflector) => Some(reflector),
            Err(error) => {
                tracing::warn!(%error, "BFD sessions cannot be left to the data plane");
                None
            }
        }
    }

    /// Whether the pinned programs and maps forward what was put in force last.
    pub(super) fn verify(&self) -> bool {
        let open = self.shared.open.lock();
        let Some(open) = open.as_ref() else { return false };
        match open.dataplane.verify() {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the data plane is not what was put in force");
                false
            }
        }
    }

    /// Whether the next tables can be put in force without waiting for the last ones.
    pub(super) fn is_settled(&self) -> bool {
        let open = self.shared.open.lock();
        let Some(open) = open.as_ref() else { return true };
        let settled = open.dataplane.settled();
        let is_over = *settled.borrow();
        is_over || settled.has_changed().is_err()
    }

    /// Waits until [`Self::is_settled`]. Cancellation-safe.
    pub(super) async fn settled(&self) {
        let settled = self.shared.open.lock().as_ref().map(|open| open.dataplane.settled());
        if let Some(mut settled) = settled {
            // Nobody who could say so is as good as somebody who does.
            drop(settled.wait_for(|is_over| *is_over).await);
        }
    }

    /// Puts `tables` in force, whole or not at all; returns their generation. Blocks for some ten
    /// milliseconds.
    pub(super) fn apply(&self, tables: &Tables) -> Result<u32, ForwardingError> {
        let mut open = self.shared.open.lock();
        let Some(open) = open.as_mut() else { return Ok(0) };
        let outcome = block_in_place(|| open.dataplane.apply(tables));
        outcome.map(|generation| generation.0).map_err(ForwardingError::Apply)
    }
}

// === impl KernelCounters ===

impl KernelCounters {
    /// What `look` finds in the data plane; nothing before it is open.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Dataplane) -> T) -> Option<T> {
        self.open.lock().as_ref().map(|open| look(&open.dataplane))
    }

    /// The counters now; nothing before the data plane is open.
    #[must_use]
    pub fn read(&self) -> Option<Counters> {
        let open = self.open.lock();
        match open.as_ref()?.dataplane.counters() {
            Ok(counters) => Some(counters),
            Err(error) => {
                tracing::warn!(%error, "counters cannot be read");
                None
            }
        }
    }
}

// === impl Open ===

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("shape", &self.shape).finish_non_exhaustive()
    }
}

// === impl Shape ===

impl Shape {
    fn of(model: &NodeModel) -> Self {
        Self {
            roles: model.roles,
            tunnel_addresses: model.tunnel_addresses.clone(),
            uplinks: model.uplinks.clone(),
        }
    }

    fn config(&self, pin_dir: PathBuf) -> Config {
        let uplink = |link: &Uplink| isocast_dataplane::Uplink {
            interface: link.interface.clone(),
            mode: match link.xdp {
                XdpMode::Auto => Mode::Auto,
                XdpMode::Generic => Mode::Generic,
                XdpMode::Native => Mode::Native,
            },
            mtu: link.mtu,
        };
        Config {
            pin_dir,
            uplinks: self.uplinks.iter().map(uplink).collect(),
            tunnel_addresses: self.tunnel_addresses.clone(),
            roles: isocast_dataplane::Roles { edge: self.roles.edge, backend: self.roles.backend },
            pass_on_per_second: isocast_dataplane::PASS_ON_PER_SECOND,
        }
    }
}
