//! The data plane of this node: opens or adopts it, and puts tables in force.

mod predecessor;
mod programs;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, Xdp},
};
use isocast_dataplane_common::{tables::Root, tracking::Eras};
use tokio::sync::watch;

use self::programs::{ANSWERS_PROGRAM, MSS_PROGRAM, PROBE_PROGRAM, XDP_PROGRAM, xdp};
use crate::{
    bpf,
    btf::{self, TIME_WAIT_EXPECTS_AT},
    canary::{Canary, Questions},
    capture::Tap,
    ceilings,
    counters::Counters,
    directory::Directories,
    drops::Drops,
    errors::{ApplyError, NotInForce, OpenError},
    explain::InForce,
    flow_table::{self, FlowTable},
    grace::GracePeriod,
    guards::{self, Guards},
    header::{self, NextHop},
    keys::Keyring,
    links::{LinkError, Links, Uplink},
    loopback::Loopback,
    maps::{
        ANSWERED, BFD_MAP_NAMES, FLOWS, MAP_NAMES, MapFailure, Maps, Numbered, Taken, failed,
        map_values,
    },
    next_hops::{NextHopKeeper, NextHops, Wanted},
    pins,
    plan::{self, Content, Known, Ledger, Node, Plan},
    rates,
    rings::Rings,
    tables::Tables,
};

/// What a data plane is opened with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This agent's folder on a BPF file system.
    pub pin_dir: PathBuf,
    /// Interfaces that traffic arrives by.
    pub uplinks: Vec<Uplink>,
    /// This node's own tunnel addresses, of either family.
    pub tunnel_addresses: Vec<IpAddr>,
    /// What the node does.
    pub roles: Roles,
    /// Packets of unknown flows that a CPU passes on to further hops in a second; usually
    /// [`crate::PASS_ON_PER_SECOND`].
    pub pass_on_per_second: u32,
}

/// What a node does. Which services it balances is in the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Balances services, and probes backends.
    pub edge: bool,
    /// Tunnels end here.
    pub backend: bool,
}

/// What was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing that goes on: no packet is touched before the first [`Dataplane::apply`].
    Fresh,
    /// A predecessor's tables, which are in force without a break.
    Adopted {
        /// The generation in force.
        generation: Generation,
    },
    /// A predecessor with other maps, which forwards until the first [`Dataplane::apply`].
    Succeeding,
}

/// Counts what was put in force; wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(pub u32);

impl Generation {
    pub(crate) const fn half(self) -> u32 {
        self.0 & 1
    }

    const fn next(self) -> Self {
        Self(match self.0.wrapping_add(1) {
            // 0 says that nothing was ever put in force; an even number keeps the halves in turn.
            0 => 2,
            next => next,
        })
    }
}

/// This node's data plane. Dropping it leaves everything in force.
pub struct Dataplane {
    config: Config,
    ebpf: Ebpf,
    maps: Maps,
    directories: Directories,
    rings: Rings,
    guards: Guards,
    tap: Tap,
    drops: Drops,
    flows: FlowTable,
    links: Links,
    /// Held, not pinned: probes end with the process that sends them.
    _probe_links: Vec<OwnedFd>,
    /// Likewise: without this process, backends' handshakes offer what the host's routes say, and
    /// whom they answer is noted no more.
    _backend_links: Vec<OwnedFd>,
    next_hops: NextHopKeeper,
    loopback: Loopback,
    generation: Generation,
    /// What the generation in force has besides its directory.
    root: Root,
    eras: Eras,
    ledger: Ledger,
    /// Tries out what is written; on nodes that balance.
    canary: Option<Canary>,
    /// Packets to further hops in a tick.
    pass_on_max: u32,
    /// What the rings of the last tables hold.
    known: Known,
    /// Since the last flip.
    grace: GracePeriod,
    applied: Option<Tables>,
}

/// How long a generation waits for next hops that are looked up for the first time.
const NEXT_HOP_PATIENCE: Duration = Duration::from_millis(150);

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ISOCAST_EBPF_OBJECT"));

impl Dataplane {
    /// Opens the data plane in the calling thread's network namespace, or adopts what a
    /// predecessor with the same `pin_dir` left in force.
    ///
    /// # Errors
    /// When something is missing, see [`crate::preflight`]. What was in force stays so.
    pub fn open(config: Config) -> Result<(Self, Opened), OpenError> {
        Self::open_towards(config, None)
    }

    /// As [`Dataplane::open`], but with a next hop that everything is sent to, if one is given.
    pub(crate) fn open_towards(
        config: Config,
        next_hop: Option<NextHop>,
    ) -> Result<(Self, Opened), OpenError> {
        let (dir, bfd_dir) = (pins::layout_dir(&config.pin_dir), pins::bfd_dir(&config.pin_dir));
        for dir in [&dir, &bfd_dir] {
            pins::create(dir)
                .map_err(|source| OpenError::Pin { path: config.pin_dir.clone(), source })?;
        }
        let time_wait_expects_at = btf::time_wait_expects_at();
        let mut loader = EbpfLoader::new();
        loader.override_global(TIME_WAIT_EXPECTS_AT, &time_wait_expects_at, true);
        for name in MAP_NAMES.into_iter().chain(guards::MAP_NAMES) {
            loader.map_pin_path(name, dir.join(name));
        }
        if config.roles.backend {
            loader.map_pin_path(ANSWERED, dir.join(ANSWERED));
        } else {
            loader.map_max_entries(ANSWERED, 1);
        }
        if config.roles.edge {
            loader.map_pin_path(FLOWS, dir.join(FLOWS));
        } else {
            loader.map_max_entries(FLOWS, 1);
        }
        for name in BFD_MAP_NAMES {
            loader.map_pin_path(name, bfd_dir.join(name));
        }
        let mut ebpf = loader.load(OBJECT).map_err(OpenError::Load)?;
        // Before maps are taken out: a program is loaded with the descriptors of its maps.
        programs::load(&mut ebpf, config.roles).map_err(OpenError::Program)?;
        let Taken { maps, directories, rings, targets } = Taken::of(&mut ebpf)?;
        let (tap, drops) = (Tap::take(&mut ebpf)?, Drops::take(&mut ebpf)?);
        let flows = config.roles.edge.then(|| map_values(&mut ebpf, FLOWS, flow_table::WORDS));
        let flows = FlowTable::of(flows.transpose()?);
        let generation = Generation(maps.generation()?);
        let root = maps.read_root(generation.half())?;
        let eras = maps.read_eras(generation.half())?;
        let in_force = directories.listed(generation.half());
        let ledger = predecessor::ledger(&maps, &targets, &rings, in_force)?;
        let guards = Guards::open(&mut ebpf, generation.half(), in_force)?;

        let program = xdp(&mut ebpf).map_err(OpenError::Program)?;
        let program = program.fd().map_err(OpenError::Program)?.as_fd();
        let predecessors = pins::predecessors(&config.pin_dir);
        let links = Links::open(&config.uplinks, &dir, &predecessors, program)?;
        let mut egress = |of_role: bool, name| {
            if of_role {
                programs::attach(&mut ebpf, name, &config.uplinks)
            } else {
                Ok(Vec::new())
            }
        };
        let probe_links = egress(config.roles.edge, PROBE_PROGRAM)?;
        let mut backend_links = egress(config.roles.backend, MSS_PROGRAM)?;
        backend_links.extend(egress(config.roles.backend, ANSWERS_PROGRAM)?);

        let open_canary = || Canary::open(OBJECT, XDP_PROGRAM, &dir, time_wait_expects_at);
        let canary = config.roles.edge.then(open_canary);
        let canary = canary.transpose()?;
        let adopted = predecessor::targets(&targets, &ledger)?;
        let next_hops = match next_hop {
            None => NextHopKeeper::start(targets, adopted, mtu_ceilings(&config.uplinks)),
            Some(next_hop) => NextHopKeeper::fixed(targets, next_hop),
        };
        let next_hops = next_hops.map_err(OpenError::Netlink)?;
        let loopback = Loopback::open().map_err(OpenError::Netlink)?;
        let tick = ceilings::tick().map_err(OpenError::Ceilings)?;
        let pass_on_max = rates::in_a_tick(config.pass_on_per_second, tick);
        let opened = match generation.0 {
            0 if links.has_foreign() => Opened::Succeeding,
            0 => Opened::Fresh,
            _ => Opened::Adopted { generation },
        };
        tracing::info!(?opened, dir = %dir.display(), "data plane opened");
        let dataplane = Self {
            config,
            ebpf,
            maps,
            directories,
            rings,
            guards,
            tap,
            drops,
            flows,
            links,
            _probe_links: probe_links,
            _backend_links: backend_links,
            next_hops,
            loopback,
            generation,
            root,
            eras,
            ledger,
            canary,
            pass_on_max,
            known: Known::default(),
            // A predecessor may have flipped its last generation in a moment ago.
            grace: GracePeriod::begin(),
            applied: None,
        };
        Ok((dataplane, opened))
    }

    /// Puts tables in force, whole or not at all. Blocks for some milliseconds, for some ten more
    /// right after the last tables, and longer when next hops must be found first.
    ///
    /// # Errors
    /// When the tables contradict themselves or the kernel refuses; what was in force stays so.
    pub fn apply(&mut self, tables: &Tables) -> Result<Generation, ApplyError> {
        if self.applied.as_ref() == Some(tables) {
            self.take_over()?;
            return Ok(self.generation);
        }
        let node = Node {
            tunnel_addresses: &self.config.tunnel_addresses,
            decapsulates: self.config.roles.backend,
        };
        let plan = plan::plan(tables, &self.ledger, &self.known, node)?;
        let guards = self.guards.plan(&tables.edge, &plan.ledger.services)?;
        let accepted: BTreeSet<_> =
            tables.decap.accepts.iter().map(|accept| accept.address).collect();

        // From here to the flip, only what nothing in force refers to is written.
        self.grace.wait().map_err(ApplyError::Readers)?;
        let next = self.generation.next();
        self.guards.collect_garbage()?;
        self.guards.write(next.half(), &guards)?;
        self.write_numbered(&plan)?;
        // In place, in what is in force as well: whoever gets these packets believes either tag.
        self.next_hops.want(self.wanted(&plan.ledger, &tables.keys), NEXT_HOP_PATIENCE);
        let root = tables.keys.root(self.pass_on_max);
        self.maps.write_root(next.half(), root)?;
        let eras = flow_table::eras(&plan.ledger, tables.edge.era);
        self.maps.write_eras(next.half(), eras)?;
        self.directories.put(next.half(), plan.entries.clone()).map_err(failed("ENTRIES"))?;
        if let Some(canary) = &mut self.canary {
            let questions = Questions {
                tables,
                plan: &plan,
                listed: self.directories.listed(self.generation.half()),
                flow_key: root.flow_key,
                own_addresses: &self.config.tunnel_addresses,
            };
            if let Err(error) = canary.ask(next.0, &questions, XDP_PROGRAM) {
                // Written anew by the next attempt, all of it.
                self.directories.clear(next.half());
                return Err(error.into());
            }
        }
        self.loopback.add(&accepted).map_err(ApplyError::Loopback)?;
        self.maps.flip(next.0)?;

        self.grace = GracePeriod::begin();
        self.generation = next;
        self.root = root;
        if flow_table::goes_back(std::mem::replace(&mut self.eras, eras), eras) {
            // Whoever counts has begun anew: nothing says what is past.
            self.flows.clear();
        }
        self.known = Known::of(&plan.rings);
        let previous = std::mem::replace(&mut self.ledger, plan.ledger);
        self.applied = Some(tables.clone());
        self.clean_up(&previous, &accepted);
        self.clean_up_guards(guards);
        self.take_over()?;
        tracing::debug!(generation = next.0, "tables in force");
        Ok(next)
    }

    /// Follows whether the kernel has let go of what was in force before: until then,
    /// [`Self::apply`] of new tables would wait. It is also true when the sender is gone.
    #[must_use]
    pub fn settled(&self) -> watch::Receiver<bool> {
        self.grace.is_over()
    }

    /// Counters of everything that is in force.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self) -> Result<Counters, MapFailure> {
        Counters::read(&self.maps, self.guards.ceilings(), &self.ledger)
    }

    /// How many connections are noted in the flow table that slots may believe; a look at all of it.
    #[must_use]
    pub fn noted_flows(&self) -> usize {
        self.flows.len(self.eras)
    }

    /// Follows what is known of the tunnel addresses in the tables.
    #[must_use]
    pub fn next_hops(&self) -> watch::Receiver<Arc<NextHops>> {
        self.next_hops.watch()
    }

    /// The generation in force; 0 before the first.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the pinned links and maps forward what was put in force last, this process or not.
    ///
    /// # Errors
    /// Says what is not as it should be.
    pub fn verify(&self) -> Result<(), NotInForce> {
        let found = self.maps.generation()?;
        if found == 0 {
            return Err(NotInForce::Nothing);
        }
        if found != self.generation.0 {
            return Err(NotInForce::Generation { found, expected: self.generation.0 });
        }
        let program: &Xdp = self.program()?;
        Ok(self.links.verify(program.info()?.id())?)
    }

    /// What was put in force last, to be asked.
    pub(crate) fn in_force(&self) -> InForce<'_> {
        let half = self.generation.half();
        InForce {
            generation: self.generation,
            root: self.root,
            entries: self.directories.listed(half),
            rings: &self.rings,
            guards: &self.guards,
            flows: &self.flows,
            eras: self.eras,
            ledger: &self.ledger,
            next_hops: &self.next_hops,
        }
    }

    /// What is counted of drops.
    pub(crate) const fn drop_counters(&self) -> &Drops {
        &self.drops
    }

    /// Which connections are noted.
    pub(crate) const fn flow_table(&self) -> &FlowTable {
        &self.flows
    }

    /// Where captured packets come from.
    pub(crate) const fn tap(&self) -> &Tap {
        &self.tap
    }

    /// The interface that packets are taken to arrive by, if nobody says which.
    pub(crate) fn first_uplink(&self) -> Option<&str> {
        self.config.uplinks.first().map(|uplink| uplink.interface.as_str())
    }

    /// The program that runs on the uplinks.
    pub(crate) fn program(&self) -> Result<&Xdp, ProgramError> {
        self.ebpf.program(XDP_PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
    }

    /// Names, counters, chains and rings of numbers that nothing in force has.
    fn write_numbered(&mut self, plan: &Plan) -> Result<(), MapFailure> {
        let fresh = (plan.ledger.services.iter())
            .filter(|(name, _)| !self.ledger.services.contains_key(*name));
        self.drops.forget(&fresh.map(|(_, number)| *number).collect())?;
        for (name, &number) in &plan.ledger.services {
            if !self.ledger.services.contains_key(name) {
                self.maps.write_name(Numbered::Service, number, Some(name))?;
                self.guards.ceilings().forget(number)?;
            }
        }
        for (owner, &number) in &plan.ledger.targets {
            if !self.ledger.targets.contains_key(owner) {
                self.maps.write_name(Numbered::Target, number, Some(&owner.key))?;
            }
        }
        for (owner, &number) in &plan.ledger.chains {
            if !self.ledger.chains.contains_key(owner) {
                self.maps.write_chain(number, owner.to_kernel())?;
            }
        }
        self.write_rings(plan).map_err(failed("RINGS"))
    }

    fn write_rings(&mut self, plan: &Plan) -> io::Result<()> {
        let is_new = |content: &Content| !self.ledger.rings.contains_key(content);
        let places = plan.ledger.rings.iter().filter(|(content, _)| is_new(content));
        self.rings.reserve(places.map(|(_, place)| *place))?;
        for ring in &plan.rings {
            if is_new(&ring.content)
                && let Some(place) = plan.ledger.rings.get(&ring.content)
            {
                ring.write(self.rings.slots_mut(*place));
            }
        }
        Ok(())
    }

    fn wanted(&self, ledger: &Ledger, keys: &Keyring) -> BTreeMap<u16, Wanted> {
        let tag = keys.sent.word();
        let wanted = ledger.targets.iter().map(|(owner, &number)| {
            let destination = owner.address;
            let own = &self.config.tunnel_addresses;
            let template = header::target(destination, own, tag, owner.encap);
            (number, Wanted { destination, template })
        });
        wanted.collect()
    }

    /// After the flip: what only the previous generation had is given up. Failures leave nothing
    /// worse than an unused name or address, which the next generation gives up again.
    fn clean_up(&mut self, previous: &Ledger, accepted: &BTreeSet<IpAddr>) {
        let services = (previous.services.iter())
            .filter(|(name, _)| !self.ledger.services.contains_key(*name))
            .map(|(_, &number)| (Numbered::Service, number));
        let targets = (previous.targets.iter())
            .filter(|(owner, _)| !self.ledger.targets.contains_key(*owner))
            .map(|(_, &number)| (Numbered::Target, number));
        for (kind, number) in services.chain(targets) {
            if let Err(error) = self.maps.write_name(kind, number, None) {
                tracing::warn!(number, %error, "cannot give up a number");
            }
        }
        if let Err(error) = self.loopback.remove_others(accepted) {
            tracing::warn!(%error, "cannot remove service addresses");
        }
    }

    /// After the flip, once nobody reads the previous generation: lists that only it had. Failures
    /// are made up for by the next generation.
    fn clean_up_guards(&mut self, planned: guards::Planned) {
        let outcome = self.guards.flipped(planned).and_then(|()| {
            let is_read = self.guards.has_garbage() && bpf::wait_for_readers().is_err();
            if is_read { Ok(()) } else { self.guards.collect_garbage() }
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "cannot clean up source lists and ceilings");
        }
    }

    /// From predecessors with another layout of maps: their last act was to forward until now.
    fn take_over(&mut self) -> Result<(), LinkError> {
        if !self.links.has_foreign() {
            return Ok(());
        }
        let Ok(program) = xdp(&mut self.ebpf) else { return Ok(()) };
        if let Ok(fd) = program.fd() {
            self.links.take_over(fd.as_fd())?;
        }
        for dir in pins::predecessors(&self.config.pin_dir) {
            if let Err(error) = pins::remove(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "cannot remove a predecessor's pins");
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataplane")
            .field("config", &self.config)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Takes the data plane out of force: detaches the programs, and frees the tables. Packets pass as
/// if it had never been; service addresses on the loopback stay.
///
/// # Errors
/// When something cannot be unpinned. That there is nothing is no error.
pub fn detach(pin_dir: &Path) -> io::Result<()> {
    match pins::remove(pin_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What operators say of their uplinks, by name; the most there is where they say nothing.
fn mtu_ceilings(uplinks: &[Uplink]) -> BTreeMap<String, u32> {
    let ceiling = |uplink: &Uplink| (uplink.interface.clone(), uplink.mtu.unwrap_or(u32::MAX));
    uplinks.iter().map(ceiling).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_take_the_halves_in_turn_and_never_return_to_none() {
        assert_eq!(Generation(0).next(), Generation(1));
        assert_eq!(Generation(1).next(), Generation(2));
        assert_eq!(Generation(u32::MAX).next(), Generation(2));
        assert_ne!(Generation(u32::MAX).half(), Generation(u32::MAX).next().half());
    }

    #[test]
    fn data_plane_may_move_to_a_thread_that_blocks() {
        const fn assert_send<T: Send>() {}
        assert_send::<Dataplane>();
    }
}
