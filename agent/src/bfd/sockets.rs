//! UDP sockets of BFD: one per family and distance to hear all peers, one per session to speak.
//!
//! What is heard comes with its hop limit, destination and interface: a single-hop packet is
//! believed only with a hop limit of 255 (RFC 5881 §5).

use std::{
    collections::BTreeMap,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use isocast_bgp::bfd::{
    Hops,
    limits::{DATAGRAM_BYTES_MAX, HOP_LIMIT},
};
use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
};
use socket2::{Domain, Protocol, Socket, Type};

/// One datagram.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) hops: Hops,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) interface: u32,
    pub(super) hop_limit: u8,
    bytes: [u8; BUFFER_BYTES],
    len: usize,
}

impl Datagram {
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Hears all peers of one family at one distance.
#[derive(Debug)]
pub(super) struct Ear {
    socket: UdpSocket,
    hops: Hops,
}

/// The ears that are open.
#[derive(Debug, Default)]
pub(super) struct Ears {
    open: BTreeMap<(Family, Hops), Ear>,
}

/// Which family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Ears {
    /// Has an ear for the peer.
    pub(super) fn ensure(&mut self, peer: IpAddr, hops: Hops) -> io::Result<()> {
        let family = if peer.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        if let std::collections::btree_map::Entry::Vacant(place) = self.open.entry((family, hops)) {
            place.insert(Ear::open(family, hops)?);
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Ear> {
        self.open.values()
    }
}

impl Ear {
    fn open(family: Family, hops: Hops) -> io::Result<Self> {
        let (domain, any) = match family {
            Family::Ipv4 => (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Family::Ipv6 => (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        match family {
            Family::Ipv4 => {
                setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            }
            Family::Ipv6 => {
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        socket.bind(&SocketAddr::new(any, hops.port()).into())?;
        Ok(Self { socket: socket.into(), hops })
    }

    /// The next datagram; nothing if there is none now.
    pub(super) fn hear(&self) -> io::Result<Option<Datagram>> {
        let mut bytes = [0; BUFFER_BYTES];
        let mut control = cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo, i32, i32);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let fd = self.socket.as_raw_fd();
        let heard =
            recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT);
        let message = match heard {
            Err(Errno::EAGAIN) => return Ok(None),
            outcome => outcome?,
        };
        let (mut to, mut hop_limit) = (None, None);
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let address = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                    to = Some((IpAddr::V4(address), info.ipi_ifindex.cast_unsigned()));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    to = Some((IpAddr::V6(address), info.ipi6_ifindex));
                }
                ControlMessageOwned::Ipv4Ttl(limit) | ControlMessageOwned::Ipv6HopLimit(limit) => {
                    hop_limit = u8::try_from(limit).ok();
                }
                _ => {}
            }
        }
        let incomplete = || io::Error::other("the kernel does not say where a datagram came from");
        let source = message.address.as_ref().and_then(ip).ok_or_else(incomplete)?;
        let (destination, interface) = to.ok_or_else(incomplete)?;
        let hop_limit = hop_limit.ok_or_else(incomplete)?;
        let (hops, len) = (self.hops, message.bytes);
        Ok(Some(Datagram { hops, source, destination, interface, hop_limit, bytes, len }))
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Speaks to one peer, always from the same port (RFC 5881 §4).
#[derive(Debug)]
pub(super) struct Mouth {
    socket: UdpSocket,
    remote: SocketAddr,
    pub(super) source_port: u16,
}

impl Mouth {
    /// Binds `wanted` if it is free, else any port of the range that the RFC asks for.
    pub(super) fn open(
        local: IpAddr,
        peer: IpAddr,
        hops: Hops,
        wanted: Option<u16>,
        random: u64,
    ) -> io::Result<Self> {
        let (remote, range) = (SocketAddr::new(peer, hops.port()), u64::from(SOURCE_PORTS));
        let ports = (0..range).filter_map(|step| {
            u16::try_from(random.wrapping_add(step) % range).ok()?.checked_add(SOURCE_PORT_MIN)
        });
        let mut refused = io::ErrorKind::AddrInUse.into();
        for source_port in wanted.into_iter().chain(ports) {
            match bind(SocketAddr::new(local, source_port)) {
                Ok(socket) => return Ok(Self { socket, remote, source_port }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    pub(super) fn say(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, self.remote).map(drop)
    }
}

fn bind(local: SocketAddr) -> io::Result<UdpSocket> {
    let domain = if local.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if local.is_ipv4() {
        socket.set_ttl_v4(HOP_LIMIT.into())?;
        socket.set_tos_v4(TRAFFIC_CLASS)?;
    } else {
        socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_tclass_v6(TRAFFIC_CLASS)?;
    }
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// The address that the kernel speaks to `peer` from.
pub(super) fn local_address(peer: IpAddr) -> io::Result<IpAddr> {
    let any = match peer {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::new(peer, Hops::One.port()))?;
    Ok(socket.local_addr()?.ip())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// One more than is ever looked at: a longer datagram is seen to be too long.
const BUFFER_BYTES: usize = DATAGRAM_BYTES_MAX + 1;
const SOURCE_PORT_MIN: u16 = 49_152;
const SOURCE_PORTS: u16 = u16::MAX - SOURCE_PORT_MIN;
/// Network control (CS6, RFC 4594 §3.1): the last that routers drop.
const TRAFFIC_CLASS: u32 = 0xc0;
