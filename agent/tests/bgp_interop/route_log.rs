//! The kernel's route events in a namespace, from the moment the log is opened.
//!
//! A netlink socket rather than `ip monitor`: it misses nothing between its start and its first
//! line, and does not stumble over namespaces that come and go elsewhere on the machine.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::net::run;

/// `RTMGRP_IPV4_ROUTE` and `RTMGRP_IPV6_ROUTE`.
const ROUTE_GROUPS: u32 = 0x40 | 0x400;

/// Length and type of a netlink message come first, 16 octets are its header.
const HEADER_BYTES: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct RouteLog {
    namespace: String,
    socket: OwnedFd,
}

/// One route event.
#[derive(Clone, Debug)]
pub(crate) struct RouteEvent {
    /// 24: the route is new, or changed; 25: it is gone.
    pub(crate) kind: u16,
    message: Vec<u8>,
}

impl RouteEvent {
    /// Whether the address occurs in the event.
    pub(crate) fn concerns(&self, address: IpAddr) -> bool {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        self.message.windows(octets.len()).any(|window| window == octets)
    }
}

impl RouteLog {
    pub(crate) fn open(namespace: &str) -> Self {
        let path = format!("/run/netns/{namespace}");
        let opened = std::thread::spawn(move || {
            setns(std::fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(family, kind, flags, SockProtocol::NetlinkRoute).unwrap();
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, ROUTE_GROUPS)).unwrap();
            let patience = TimeVal::seconds(5);
            setsockopt(&socket, sockopt::ReceiveTimeout, &patience).unwrap();
            socket
        });
        Self { namespace: namespace.to_owned(), socket: opened.join().unwrap() }
    }

    /// Closes the log: all events up to now.
    pub(crate) async fn close(self) -> Vec<RouteEvent> {
        // An event of our own marks the end: what came before it is all there was.
        let mark = Ipv4Addr::new(192, 0, 2, 255);
        let add = ["-n", &self.namespace, "route", "add", "blackhole", &mark.to_string()];
        run("ip", &add, "").await;
        let mut events = Vec::new();
        loop {
            for event in self.receive() {
                if event.concerns(mark.into()) {
                    return events;
                }
                events.push(event);
            }
        }
    }

    fn receive(&self) -> Vec<RouteEvent> {
        let mut datagram = vec![0; 64 * 1024];
        let count = recv(self.socket.as_raw_fd(), &mut datagram, MsgFlags::empty()).unwrap();
        let mut rest = &datagram[..count];
        let mut messages = Vec::new();
        while rest.len() >= HEADER_BYTES {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap());
            let kind = u16::from_ne_bytes(rest[4..6].try_into().unwrap());
            let length = usize::try_from(length).unwrap().next_multiple_of(4).min(rest.len());
            messages.push(RouteEvent { kind, message: rest[..length].to_vec() });
            rest = &rest[length..];
        }
        messages
    }
}
