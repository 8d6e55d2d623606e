//! Looks up next hops: route, neighbour, and the interface's own address.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoData, InfoVlan, LinkAttribute, LinkInfo, LinkMessage, VlanProtocol},
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
    },
};

use crate::{
    header::{MacAddress, NextHop},
    netlink::{Answer, Netlink, family},
    next_hops::{NextHops, Unresolved},
};

/// Looks up next hops, and sees to it that their neighbours stay known.
pub(crate) struct Resolver {
    netlink: Netlink,
    /// Longest packets of the uplinks, which may be less than the interface takes.
    mtu_ceilings: BTreeMap<String, u32>,
    /// When the kernel was last asked to look for a neighbour.
    solicited: BTreeMap<(u32, IpAddr), Instant>,
}

/// An Ethernet interface.
#[derive(Clone, Copy)]
struct Interface {
    mac: MacAddress,
    mtu: u32,
    /// What its packets leave by: itself, or the interface that a VLAN is on.
    leaves_by: u32,
    /// The tag of a VLAN.
    vlan: Option<u16>,
}

/// Where a route leads.
struct Way {
    interface: u32,
    gateway: IpAddr,
    /// What the route says, which may be less than the interface takes.
    mtu: Option<u32>,
}

/// A neighbour entry of the kernel.
#[derive(Clone, Copy)]
struct Neighbour {
    /// Known, if the entry is valid.
    mac: Option<MacAddress>,
    /// Confirmed lately, or in no need of confirmation.
    fresh: bool,
}

/// Neighbours by interface and address.
type Neighbours = BTreeMap<(u32, IpAddr), Neighbour>;

/// How often the kernel is asked about a neighbour that it does not know, and about one that it
/// has not heard of lately.
const SOLICIT_UNKNOWN: Duration = Duration::from_millis(500);
const SOLICIT_STALE: Duration = Duration::from_secs(10);

impl Resolver {
    pub(crate) fn open(mtu_ceilings: BTreeMap<String, u32>) -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, mtu_ceilings, solicited: BTreeMap::new() })
    }

    /// Looks up the next hop of every destination.
    pub(crate) fn resolve(
        &mut self,
        destinations: &BTreeSet<IpAddr>,
        now: Instant,
    ) -> io::Result<NextHops> {
        let interfaces = self.interfaces()?;
        let mut neighbours = self.neighbours()?;
        let mut used = BTreeSet::new();
        let mut next_hops = NextHops::new();
        for &destination in destinations {
            let next_hop = match self.route(destination)? {
                Ok(way) => {
                    let neighbour = (way.interface, way.gateway);
                    used.insert(neighbour);
                    if !neighbours.contains_key(&neighbour) {
                        // A large dump may miss one that moved meanwhile: gone is what the
                        // kernel says is gone.
                        neighbours.extend(self.neighbour(neighbour));
                    }
                    next_hop(&way, &interfaces, &neighbours)
                }
                Err(unresolved) => Err(unresolved),
            };
            next_hops.insert(destination, next_hop);
        }
        self.solicited.retain(|neighbour, _| used.contains(neighbour));
        for neighbour in used {
            self.solicit(neighbour, neighbours.get(&neighbour), now);
        }
        Ok(next_hops)
    }

    fn route(&mut self, destination: IpAddr) -> io::Result<Result<Way, Unresolved>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(destination.into()));
        let answer = self.netlink.request(RouteNetlinkMessage::GetRoute(message), 0, Answer::One);
        let routes = match answer {
            Ok(routes) => routes,
            Err(error) if is_unreachable(&error) => return Ok(Err(Unresolved::NoRoute)),
            Err(error) => return Err(error),
        };
        let route = routes.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        Ok(route.as_ref().and_then(|route| leads_to(route, destination)).ok_or(Unresolved::NoRoute))
    }

    /// The Ethernet interfaces.
    fn interfaces(&mut self) -> io::Result<BTreeMap<u32, Interface>> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.netlink.request(message, 0, Answer::Dump)?;
        let interfaces = links.into_iter().filter_map(|message| {
            let RouteNetlinkMessage::NewLink(link) = message else { return None };
            Some((link.header.index, read_interface(&link, &self.mtu_ceilings)?))
        });
        let mut interfaces: BTreeMap<u32, Interface> = interfaces.collect();
        // A VLAN on a VLAN has two tags, which no packet leaves with here.
        let vlans = interfaces.iter().filter(|(_, it)| it.vlan.is_some());
        let vlans: BTreeSet<u32> = vlans.map(|(index, _)| *index).collect();
        interfaces.retain(|_, it| it.vlan.is_none() || !vlans.contains(&it.leaves_by));
        Ok(interfaces)
    }

    fn neighbours(&mut self) -> io::Result<Neighbours> {
        let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let neighbours = self.netlink.request(message, 0, Answer::Dump)?;
        Ok(neighbours.iter().filter_map(read_neighbour).collect())
    }

    /// One neighbour, asked for by name.
    fn neighbour(&mut self, (interface, address): (u32, IpAddr)) -> Neighbours {
        let message = RouteNetlinkMessage::GetNeighbour(neighbour_message(interface, address));
        let found = self.netlink.request(message, 0, Answer::One);
        // That there is none is an error.
        found.unwrap_or_default().iter().filter_map(read_neighbour).collect()
    }

    /// Asks the kernel to look for a neighbour, as a packet of its own would.
    fn solicit(
        &mut self,
        (interface, address): (u32, IpAddr),
        known: Option<&Neighbour>,
        now: Instant,
    ) {
        let every = match known {
            Some(neighbour) if neighbour.fresh => return,
            Some(Neighbour { mac: Some(_), .. }) => SOLICIT_STALE,
            _ => SOLICIT_UNKNOWN,
        };
        let last = self.solicited.get(&(interface, address));
        if last.is_some_and(|last| now.saturating_duration_since(*last) < every) {
            return;
        }
        self.solicited.insert((interface, address), now);
        let mut message = neighbour_message(interface, address);
        message.header.flags = NeighbourFlags::Use;
        message.header.kind = RouteType::Unicast;
        let message = RouteNetlinkMessage::NewNeighbour(message);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        if let Err(error) = self.netlink.request(message, flags, Answer::One) {
            tracing::warn!(%address, interface, %error, "cannot look for a neighbour");
        }
    }
}

/// An Ethernet interface, or a VLAN on one.
fn read_interface(link: &LinkMessage, mtu_ceilings: &BTreeMap<String, u32>) -> Option<Interface> {
    let (mut mac, mut mtu, mut ceiling) = (None, None, u32::MAX);
    let (mut below, mut vlan, mut is_uplink) = (None, None, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(address) => {
                mac = MacAddress::try_from(address.as_slice()).ok();
            }
            LinkAttribute::Mtu(own) => mtu = Some(*own),
            LinkAttribute::IfName(name) => {
                let uplink = mtu_ceilings.get(name);
                (is_uplink, ceiling) = (uplink.is_some(), uplink.copied().unwrap_or(u32::MAX));
            }
            LinkAttribute::Link(index) => below = Some(*index),
            LinkAttribute::LinkInfo(info) => vlan = info.iter().find_map(tag_of),
            _ => {}
        }
    }
    // Where the programs run on the VLAN itself, they see no tags, and its device puts them on.
    let vlan = vlan.filter(|_| !is_uplink);
    let leaves_by = match vlan {
        // Another protocol's tag is not ours to put on.
        Some(Tag { protocol, .. }) if protocol != VlanProtocol::Ieee8021Q => return None,
        Some(_) => below?,
        None => link.header.index,
    };
    let vlan = vlan.map(|tag| tag.id);
    let interface = Interface { mac: mac?, mtu: mtu?.min(ceiling), leaves_by, vlan };
    // The loopback has an address too, of zeros.
    (interface.mac != [0; 6]).then_some(interface)
}

/// What a VLAN's packets are tagged with.
#[derive(Clone, Copy)]
struct Tag {
    id: u16,
    protocol: VlanProtocol,
}

fn tag_of(info: &LinkInfo) -> Option<Tag> {
    let LinkInfo::Data(InfoData::Vlan(attributes)) = info else { return None };
    let id = attributes.iter().find_map(|attribute| match attribute {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })?;
    let protocol = attributes.iter().find_map(|attribute| match attribute {
        InfoVlan::Protocol(protocol) => Some(*protocol),
        _ => None,
    });
    Some(Tag { id, protocol: protocol.unwrap_or(VlanProtocol::Ieee8021Q) })
}

fn next_hop(
    way: &Way,
    interfaces: &BTreeMap<u32, Interface>,
    neighbours: &Neighbours,
) -> Result<NextHop, Unresolved> {
    let interface = interfaces.get(&way.interface).ok_or(Unresolved::NotEthernet)?;
    let neighbour = neighbours.get(&(way.interface, way.gateway));
    let mac = neighbour.and_then(|neighbour| neighbour.mac);
    Ok(NextHop {
        interface: interface.leaves_by,
        source_mac: interface.mac,
        destination_mac: mac.ok_or(Unresolved::Neighbour(way.gateway))?,
        mtu: way.mtu.unwrap_or(u32::MAX).min(interface.mtu),
        vlan: interface.vlan,
    })
}

fn neighbour_message(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = interface;
    message.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }));
    message
}

/// Where a unicast route leads: its gateway, or the destination itself on a connected network.
fn leads_to(route: &RouteMessage, destination: IpAddr) -> Option<Way> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let mut interface = None;
    let mut gateway = destination;
    let mut mtu = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address))
            | RouteAttribute::Via(RouteVia::Inet(address)) => gateway = (*address).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(address))
            | RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = (*address).into(),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Way { interface: interface?, gateway, mtu })
}

fn read_neighbour(message: &RouteNetlinkMessage) -> Option<((u32, IpAddr), Neighbour)> {
    let RouteNetlinkMessage::NewNeighbour(entry) = message else { return None };
    let mut address = None;
    let mut mac = None;
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(inet)) => {
                address = Some(IpAddr::V4(*inet));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(inet)) => {
                address = Some(IpAddr::V6(*inet));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = MacAddress::try_from(bytes.as_slice()).ok();
            }
            _ => {}
        }
    }
    let (valid, fresh) = match entry.header.state {
        NeighbourState::Reachable | NeighbourState::Permanent => (true, true),
        // Being looked for already.
        NeighbourState::Delay | NeighbourState::Probe => (true, true),
        NeighbourState::Stale => (true, false),
        NeighbourState::Incomplete => (false, true),
        _ => (false, false),
    };
    let neighbour = Neighbour { mac: mac.filter(|_| valid), fresh };
    Some(((entry.header.ifindex, address?), neighbour))
}

fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, below: u32, vlan: Option<(u16, VlanProtocol)>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![
            LinkAttribute::IfName(format!("eth0.{index}")),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Link(below),
        ];
        if let Some((id, protocol)) = vlan {
            let data = vec![InfoVlan::Id(id), InfoVlan::Protocol(protocol)];
            let info = LinkInfo::Data(InfoData::Vlan(data));
            link.attributes.push(LinkAttribute::LinkInfo(vec![info]));
        }
        link
    }

    #[test]
    fn packets_to_a_vlan_leave_by_the_interface_below_with_its_tag() {
        let none = BTreeMap::new();
        let q = VlanProtocol::Ieee8021Q;
        let vlan = read_interface(&link(7, 3, Some((100, q))), &none).expect("an interface");
        assert_eq!((vlan.leaves_by, vlan.vlan), (3, Some(100)));
        // A veth has an interface below too, in a way.
        let veth = read_interface(&link(7, 3, None), &none).expect("an interface");
        assert_eq!((veth.leaves_by, veth.vlan), (7, None));
        let service_tag = link(7, 3, Some((100, VlanProtocol::Ieee8021Ad)));
        assert!(read_interface(&service_tag, &none).is_none());
        // Unless the programs run on the VLAN itself.
        let uplink = BTreeMap::from([("eth0.7".to_owned(), 1400)]);
        let vlan = read_interface(&link(7, 3, Some((100, q))), &uplink).expect("an interface");
        assert_eq!((vlan.leaves_by, vlan.vlan, vlan.mtu), (7, None, 1400));
    }
}
