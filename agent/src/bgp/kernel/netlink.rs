//! Routes of one protocol in one table of the kernel, by rtnetlink.
//!
//! Sockets belong to the network namespace of the thread that opens them. The kernel carries out
//! what it is sent within the call that sends it, so nothing here waits for long.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;

use ipnet::IpNet;
use isocast_dataplane::netlink::{ALIGNMENT, Messages};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
    RouteScope, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::KernelConfig;
use super::plan::{Change, NextHops};

/// Changes sent at once. Their confirmations must fit the socket's buffer, or some are lost.
pub(super) const BATCH: usize = 32;

/// Dumps that may be interrupted by changes in a row.
const DUMPS_MAX: usize = 5;

/// Multicast groups of rtnetlink(7): links, IPv4 and IPv6 addresses.
const GROUPS: [u32; 3] = [1, 5, 9];

/// See the module.
#[derive(Debug)]
pub(super) struct Routes {
    socket: Socket,
    sequence: u32,
    config: KernelConfig,
}

/// Hears of links and addresses that come and go: what was refused may be taken then, and what was
/// taken may be gone.
#[derive(Debug)]
pub(super) struct Events {
    socket: Socket,
}

// === impl Routes ===

impl Routes {
    pub(super) fn open(config: KernelConfig) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Confirmations without a copy of what they confirm.
        socket.set_cap_ack(true)?;
        // The kernel shows what is asked for, not all of its tables.
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0, config })
    }

    /// What the kernel holds of ours.
    pub(super) fn held(&mut self) -> io::Result<BTreeMap<IpNet, NextHops>> {
        let mut held = BTreeMap::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut whole = false;
            for _ in 0..DUMPS_MAX {
                let (routes, interrupted) = self.dump(family)?;
                held.extend(routes.iter().filter_map(|route| ours(route, &self.config)));
                whole = !interrupted;
                if whole {
                    break;
                }
            }
            if !whole {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the table never rests"));
            }
        }
        Ok(held)
    }

    /// Carries changes out, [`BATCH`] at most; what became of each.
    pub(super) fn apply(&mut self, changes: &[Change]) -> io::Result<Vec<io::Result<()>>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for change in changes {
            let (message, flags) = request(change, &self.config);
            self.append(message, flags | NLM_F_ACK, &mut bytes);
        }
        self.socket.send(&bytes, 0)?;
        let mut outcomes: Vec<Option<io::Result<()>>> = changes.iter().map(|_| None).collect();
        while outcomes.iter().any(Option::is_none) {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in Messages(&bytes) {
                let message = message?;
                let NetlinkPayload::Error(error) = message.payload else { continue };
                let at = message.header.sequence_number.wrapping_sub(first);
                if let Some(outcome) = outcomes.get_mut(at as usize) {
                    *outcome = Some(error.code.map_or(Ok(()), |_refused| Err(error.to_io())));
                }
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// One dump, and whether it shows several moments.
    fn dump(&mut self, family: AddressFamily) -> io::Result<(Vec<RouteMessage>, bool)> {
        let mut query = RouteMessage::default();
        query.header.address_family = family;
        query.header.protocol = RouteProtocol::from(self.config.protocol);
        query.header.kind = RouteType::Unspec;
        query.header.table = small_table(self.config.table);
        query.attributes.push(RouteAttribute::Table(self.config.table));
        let mut bytes = Vec::new();
        self.append(RouteNetlinkMessage::GetRoute(query), NLM_F_DUMP, &mut bytes);
        self.socket.send(&bytes, 0)?;
        let (mut routes, mut interrupted) = (Vec::new(), false);
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in Messages(&bytes) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok((routes, interrupted)),
                    NetlinkPayload::Error(error) => {
                        let error = error.to_io();
                        // A table comes with its first route.
                        return match error.raw_os_error() {
                            Some(libc::ENOENT) => Ok((Vec::new(), false)),
                            _ => Err(error),
                        };
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                        routes.push(route);
                    }
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, message: RouteNetlinkMessage, flags: u16, bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let start = bytes.len();
        let end = start.saturating_add(request.buffer_len());
        bytes.resize(end.next_multiple_of(ALIGNMENT), 0);
        if let Some(place) = bytes.get_mut(start..end) {
            request.serialize(place);
        }
    }
}

// === impl Events ===

impl Events {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    pub(super) fn register(&self, registry: &mio::Registry, token: mio::Token) -> io::Result<()> {
        let descriptor = self.socket.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        registry.register(&mut source, token, mio::Interest::READABLE)
    }

    /// Reads away all that has arrived: what it was does not matter, and neither does an overrun.
    pub(super) fn drain(&self) {
        loop {
            match self.socket.recv_from_full() {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

/// The request that a change takes, and its flags.
fn request(change: &Change, config: &KernelConfig) -> (RouteNetlinkMessage, u16) {
    match change {
        Change::Add(prefix, next_hops) => {
            let route = route(prefix, next_hops, config);
            (RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)
        }
        Change::Replace(prefix, next_hops) => {
            let route = route(prefix, next_hops, config);
            (RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
        }
        Change::Remove(prefix) => (RouteNetlinkMessage::DelRoute(route(prefix, &[], config)), 0),
    }
}

fn route(prefix: &IpNet, next_hops: &[IpAddr], config: &KernelConfig) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: match prefix {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        },
        destination_prefix_length: prefix.prefix_len(),
        table: small_table(config.table),
        protocol: RouteProtocol::from(config.protocol),
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    route.attributes = vec![
        RouteAttribute::Destination(prefix.network().into()),
        RouteAttribute::Table(config.table),
        RouteAttribute::Priority(config.metric),
    ];
    match next_hops {
        [] => {}
        [next_hop] => route.attributes.push(via(prefix, *next_hop)),
        several => {
            let hop = |next_hop: &IpAddr| {
                let mut hop = RouteNextHop::default();
                hop.attributes = vec![via(prefix, *next_hop)];
                hop
            };
            route.attributes.push(RouteAttribute::MultiPath(several.iter().map(hop).collect()));
        }
    }
    route
}

/// RFC 8950: an IPv4 prefix may have an IPv6 next hop.
fn via(prefix: &IpNet, next_hop: IpAddr) -> RouteAttribute {
    match (prefix, next_hop) {
        (IpNet::V4(_), IpAddr::V6(next_hop)) => RouteAttribute::Via(RouteVia::Inet6(next_hop)),
        (_, next_hop) => RouteAttribute::Gateway(next_hop.into()),
    }
}

/// A table that has no room in the header is in an attribute alone.
fn small_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC)
}

/// A route of ours as the plan knows it.
fn ours(route: &RouteMessage, config: &KernelConfig) -> Option<(IpNet, NextHops)> {
    let RouteMessage { header, attributes, .. } = route;
    let mut address = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut table, mut metric) = (u32::from(header.table), 0);
    let mut next_hops = NextHops::new();
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(destination) => address = ip(destination)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::MultiPath(hops) => {
                next_hops.extend(hops.iter().flat_map(|hop| &hop.attributes).filter_map(next_hop));
            }
            other => next_hops.extend(next_hop(other)),
        }
    }
    let is_ours = table == config.table
        && metric == config.metric
        && header.tos == 0
        && header.protocol == RouteProtocol::from(config.protocol);
    next_hops.sort_unstable();
    let prefix = IpNet::new(address, header.destination_prefix_length).ok()?;
    is_ours.then_some((prefix, next_hops))
}

fn next_hop(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
