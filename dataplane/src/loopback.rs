//! Service addresses on the loopback interface, so that the host takes packets out of the tunnel
//! for its own.
//!
//! Addresses of ours carry a protocol number (`IFA_PROTO`) as their owner's mark: they survive
//! this process, a new one recognises them, and an address that somebody else put there is never
//! touched. IPv6 addresses are deprecated from the start: no socket picks one for its source by
//! itself (RFC 6724 §5, rule 3); IPv4 addresses lose to any address of the outgoing interface.

use std::{collections::BTreeSet, io, net::IpAddr};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        address::{
            AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope,
            CacheInfo,
        },
    },
};

use crate::netlink::{Answer, Netlink, family, interface_index};

/// The owner's mark of addresses that this program put on the loopback.
const OWNER: u8 = 0xca;

pub(crate) struct Loopback {
    netlink: Netlink,
    interface: u32,
    /// What was found to carry our mark when it was looked at last.
    found: Option<BTreeSet<IpAddr>>,
}

impl Loopback {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, interface: interface_index("lo")?, found: None })
    }

    /// Adds what is missing. An address that somebody else put there serves as well.
    ///
    /// Looks only the first time, for routers wait for it; [`Self::remove_others`] looks after that.
    pub(crate) fn add(&mut self, wanted: &BTreeSet<IpAddr>) -> io::Result<()> {
        let present = match self.found.take() {
            Some(found) => found,
            None => self.owned()?,
        };
        for &address in wanted.difference(&present) {
            let message = RouteNetlinkMessage::NewAddress(self.message(address));
            match self.netlink.request(message, NLM_F_CREATE | NLM_F_EXCL, Answer::One) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes addresses of ours that are not in `wanted`. One that somebody else removed is added again
    /// with the next tables.
    pub(crate) fn remove_others(&mut self, wanted: &BTreeSet<IpAddr>) -> io::Result<()> {
        let present = self.owned()?;
        self.found = Some(present.intersection(wanted).copied().collect());
        for &address in present.difference(wanted) {
            let message = RouteNetlinkMessage::DelAddress(self.message(address));
            match self.netlink.request(message, 0, Answer::One) {
                Err(error) if error.raw_os_error() != Some(libc::EADDRNOTAVAIL) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Addresses on the loopback that carry our mark.
    fn owned(&mut self) -> io::Result<BTreeSet<IpAddr>> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let addresses = self.netlink.request(message, 0, Answer::Dump)?;
        let owned = addresses.iter().filter_map(|message| {
            let RouteNetlinkMessage::NewAddress(message) = message else { return None };
            let ours = message.header.index == self.interface
                && message
                    .attributes
                    .contains(&AddressAttribute::Protocol(AddressProtocol::Other(OWNER)));
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            address.filter(|_| ours)
        });
        Ok(owned.collect())
    }

    fn message(&self, address: IpAddr) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = if address.is_ipv4() { 32 } else { 128 };
        message.header.scope = AddressScope::Universe;
        message.header.index = self.interface;
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(OWNER)));
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
        if address.is_ipv6() {
            const FOREVER: u32 = u32::MAX;
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_preferred = 0;
            lifetimes.ifa_valid = FOREVER;
            message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
        message
    }
}
