//! Next hops: resolves every target by the kernel's routes and neighbours, and keeps following.
//!
//! XDP bypasses the stack, so nobody but this thread asks who has a next hop's address. Resolving
//! is level-triggered: whatever is announced, or after a while, all targets are looked up again,
//! and what changed is written into the target in place, without a new generation.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use isocast_dataplane_common::tables::{ECHO_V4, ECHO_V6, FIRST_TARGET, Target};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::{
    header::{NextHop, set_next_hop},
    maps::Targets,
    netlink::Announcements,
    resolve::Resolver,
};

/// Why a tunnel address cannot be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unresolved {
    /// Not looked up yet.
    #[error("not resolved yet")]
    Pending,
    /// This node has no tunnel address of the same family.
    #[error("no tunnel address of this family here")]
    NoTunnelAddress,
    /// No route leads there.
    #[error("no route")]
    NoRoute,
    /// Nobody answers for the next hop.
    #[error("next hop {0} does not answer")]
    Neighbour(IpAddr),
    /// The route leaves by something that is not Ethernet.
    #[error("the route does not leave by an Ethernet interface")]
    NotEthernet,
}

/// What is known of each tunnel address.
pub type NextHops = BTreeMap<IpAddr, Result<NextHop, Unresolved>>;

/// What is to be kept resolved.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Where a route is looked up to.
    pub(crate) destination: IpAddr,
    /// The target without a next hop; `None` when this node cannot send there.
    pub(crate) template: Option<Target>,
}

/// Destinations that only a default route leads to: nobody has these addresses.
const ANYWHERE: [(u16, IpAddr); 2] = [
    (ECHO_V4, IpAddr::V4(Ipv4Addr::new(0, 0, 0, 1))),
    (ECHO_V6, IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0))),
];

/// Announcements that may change an answer: links, neighbours, routes, addresses.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
/// How long nothing need happen before everything is looked up again, and neighbours refreshed.
const REFRESH: Duration = Duration::from_secs(10);
/// The same while something is unresolved.
const RETRY: Duration = Duration::from_secs(1);

/// How long announcements are gathered before a round.
const BURST: Duration = Duration::from_millis(10);

/// The resolving thread's owner.
pub(crate) struct NextHopKeeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    wake: EventFd,
    published: watch::Sender<Arc<NextHops>>,
}

struct State {
    targets: Targets,
    wanted: BTreeMap<u16, Wanted>,
    /// What the kernel's map holds, as far as it was written from here.
    written: BTreeMap<u16, Target>,
    resolved: NextHops,
    /// In place of everything that would be looked up.
    fixed: Option<NextHop>,
    stopping: bool,
}

impl NextHopKeeper {
    /// Sends everything to one next hop, whatever the kernel's routes say, and resolves nothing.
    pub(crate) fn fixed(targets: Targets, next_hop: NextHop) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(targets, BTreeMap::new(), Some(next_hop))?);
        Ok(Self { shared, thread: None })
    }

    /// Starts resolving in the calling thread's network namespace.
    pub(crate) fn start(
        targets: Targets,
        wanted: BTreeMap<u16, Wanted>,
        mtu_ceilings: BTreeMap<String, u32>,
    ) -> io::Result<Self> {
        let announcements = Announcements::of(&GROUPS)?;
        let resolver = Resolver::open(mtu_ceilings)?;
        let shared = Arc::new(Shared::new(targets, wanted, None)?);
        let thread = std::thread::Builder::new().name("next-hops".to_owned()).spawn({
            let shared = shared.clone();
            move || run(&shared, &announcements, resolver)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<NextHops>> {
        self.shared.published.subscribe()
    }

    /// A target as it is written now; nothing where there can be none.
    pub(crate) fn target(&self, number: u16) -> Option<Target> {
        self.shared.state.lock().targets.read(number).ok()
    }

    /// Replaces what is wanted, and waits, for at most `patience`, until what is new is resolved.
    pub(crate) fn want(&self, wanted: BTreeMap<u16, Wanted>, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.state.lock();
        let fresh: BTreeSet<_> = wanted
            .values()
            .filter(|wanted| wanted.template.is_some_and(|t| t.flags & Target::LOCAL == 0))
            .map(|wanted| wanted.destination)
            .filter(|destination| !state.resolved.contains_key(destination))
            .collect();
        state.wanted = with_anywhere(wanted);
        if let Some(fixed) = state.fixed {
            state.resolved = state.wanted.values().map(|it| (it.destination, Ok(fixed))).collect();
        }
        state.write();
        self.wake();
        let pending = |state: &State| {
            fresh.iter().any(|destination| {
                !matches!(
                    state.resolved.get(destination),
                    Some(Ok(_) | Err(Unresolved::NoRoute | Unresolved::NotEthernet))
                )
            })
        };
        while pending(&state) {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    fn wake(&self) {
        // The counter cannot overflow: the thread empties it.
        if let Err(error) = self.shared.wake.write(1) {
            tracing::warn!(%error, "cannot wake the next-hop thread");
        }
    }
}

impl Drop for NextHopKeeper {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the next-hop thread panicked");
        }
    }
}

impl Shared {
    fn new(
        targets: Targets,
        wanted: BTreeMap<u16, Wanted>,
        fixed: Option<NextHop>,
    ) -> io::Result<Self> {
        let state = State {
            targets,
            wanted: with_anywhere(wanted),
            written: BTreeMap::new(),
            resolved: NextHops::new(),
            fixed,
            stopping: false,
        };
        Ok(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            wake: EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            published: watch::Sender::new(Arc::default()),
        })
    }
}

impl State {
    /// Brings the kernel's targets up to date with what is resolved.
    fn write(&mut self) {
        let least_room = self.least_room();
        let state = self;
        state.written.retain(|number, _| state.wanted.contains_key(number));
        for (&number, wanted) in &state.wanted {
            let mut target = wanted.template.unwrap_or_default();
            let resolved = state.resolved.get(&wanted.destination);
            if resolved.is_none() && !state.written.contains_key(&number) {
                // Not looked up yet: a target that was adopted keeps what it has until then.
                if let Ok(present) = state.targets.read(number)
                    && present.flags & Target::READY != 0
                    && present.address == target.address
                {
                    continue;
                }
            }
            if wanted.template.is_some() {
                set_next_hop(&mut target, resolved.and_then(|resolved| resolved.as_ref().ok()));
            }
            if number < FIRST_TARGET {
                target.room = least_room;
            }
            if state.written.get(&number) == Some(&target) {
                continue;
            }
            match state.targets.write(number, target) {
                Ok(()) => drop(state.written.insert(number, target)),
                Err(error) => tracing::error!(number, %error, "cannot write a target"),
            }
        }
    }

    /// Longest packet that fits the way to every other node.
    fn least_room(&self) -> u32 {
        let nodes = self.wanted.range(FIRST_TARGET..);
        let rooms = nodes.filter_map(|(_, wanted)| {
            let mut target = wanted.template.filter(|it| it.flags & Target::LOCAL == 0)?;
            let resolved = self.resolved.get(&wanted.destination)?;
            set_next_hop(&mut target, Some(resolved.as_ref().ok()?));
            Some(target.room)
        });
        rooms.min().unwrap_or(u32::MAX)
    }

    /// What others are told: tunnel addresses, with the reasons only this node's side knows.
    fn report(&self) -> NextHops {
        let tunnels = self
            .wanted
            .iter()
            .filter(|(number, _)| !ANYWHERE.iter().any(|(anywhere, _)| anywhere == *number));
        tunnels
            .map(|(_, wanted)| {
                let resolved = match wanted.template {
                    None => Err(Unresolved::NoTunnelAddress),
                    Some(target) if target.flags & Target::LOCAL != 0 => Ok(NextHop::HERE),
                    Some(_) => {
                        let resolved = self.resolved.get(&wanted.destination);
                        resolved.copied().unwrap_or(Err(Unresolved::Pending))
                    }
                };
                (wanted.destination, resolved)
            })
            .collect()
    }
}

fn run(shared: &Shared, announcements: &Announcements, mut resolver: Resolver) {
    loop {
        let destinations: BTreeSet<_> = {
            let state = shared.state.lock();
            if state.stopping {
                return;
            }
            state.wanted.values().map(|wanted| wanted.destination).collect()
        };
        let timeout = match resolver.resolve(&destinations, Instant::now()) {
            Ok(resolved) => {
                let unresolved = resolved
                    .iter()
                    .any(|(_, resolved)| matches!(resolved, Err(Unresolved::Neighbour(_))));
                let mut state = shared.state.lock();
                state.resolved = resolved;
                state.write();
                let report = state.report();
                shared.published.send_if_modified(|published| {
                    let changed = **published != report;
                    if changed {
                        *published = Arc::new(report);
                    }
                    changed
                });
                // Whoever waited finds it published.
                drop(state);
                shared.changed.notify_all();
                if unresolved { RETRY } else { REFRESH }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look up next hops");
                RETRY
            }
        };
        wait(shared, announcements, timeout);
    }
}

/// Until something is announced, wanted or due. Announcements come in bursts: a short while makes
/// one round of them, and bounds the rounds of a host whose neighbours come and go all the time.
fn wait(shared: &Shared, announcements: &Announcements, timeout: Duration) {
    let announced = PollFd::new(announcements.as_fd(), PollFlags::POLLIN);
    let woken = PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN);
    poll_for(&mut [announced, woken.clone()], timeout);
    poll_for(&mut [woken], BURST);
    announcements.drain();
    match shared.wake.read() {
        Ok(_) | Err(Errno::EAGAIN) => {}
        Err(error) => tracing::warn!(%error, "cannot empty the next-hop thread's wake-up"),
    }
}

fn poll_for(fds: &mut [PollFd<'_>], timeout: Duration) {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    if let Err(error) = poll(fds, timeout) {
        tracing::debug!(%error, "poll was interrupted");
    }
}

fn with_anywhere(mut wanted: BTreeMap<u16, Wanted>) -> BTreeMap<u16, Wanted> {
    wanted.extend(ANYWHERE.map(|(number, destination)| {
        (number, Wanted { destination, template: Some(Target::default()) })
    }));
    wanted
}
