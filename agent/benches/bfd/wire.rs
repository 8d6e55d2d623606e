//! Control packets as the router's interface sees them, with the kernel's timestamps.

use std::{
    cell::RefCell,
    io::IoSliceMut,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use isocast_bgp::bfd::{ControlPacket, State};
use nix::{
    cmsg_space,
    sys::{
        socket::{
            ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt,
            sockopt::{ReceiveTimeout, ReceiveTimestampns},
        },
        time::{TimeSpec, TimeVal, TimeValLike as _},
    },
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{EDGE, LINK, Lab, enter};

/// One packet.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Duration,
    is_ours: bool,
    state: State,
}

/// See the module.
pub(crate) struct Wire {
    socket: Socket,
    seen: RefCell<Vec<Seen>>,
}

impl Wire {
    pub(crate) fn open(lab: &Lab) -> Self {
        let socket = enter(&lab.router, || {
            let all = i32::from(ETHERTYPE_ALL.to_be());
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(all))).unwrap();
            socket.set_recv_buffer_size(4 << 20).unwrap();
            setsockopt(&socket, ReceiveTimestampns, &true).unwrap();
            setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(1)).unwrap();
            // One link and loopback: nothing else sends anything here.
            assert!(nix::net::if_::if_nametoindex(LINK).is_ok());
            socket
        });
        Self { socket, seen: RefCell::default() }
    }

    /// Takes note of what passes for so long.
    pub(crate) fn listen_for(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.take();
        }
    }

    pub(crate) fn clear(&self) {
        while self.take() {}
        self.seen.borrow_mut().clear();
    }

    /// How often either end went from Up to something else.
    pub(crate) fn downs(&self) -> usize {
        let seen = self.seen.borrow();
        let of = |ours| seen.iter().filter(move |seen| seen.is_ours == ours).map(|seen| seen.state);
        let falls = |ours| {
            let states: Vec<_> = of(ours).collect();
            let fell = |pair: &&[State]| pair[0] == State::Up && pair[1] != State::Up;
            states.windows(2).filter(fell).count()
        };
        falls(false) + falls(true)
    }

    /// Longest time between two packets of the router, and of ours.
    pub(crate) fn longest_gaps_ms(&self) -> (f64, f64) {
        let seen = self.seen.borrow();
        let longest = |ours| {
            let times: Vec<_> =
                seen.iter().filter(|seen| seen.is_ours == ours).map(|seen| seen.at).collect();
            let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
            gaps.max().unwrap_or_default().as_secs_f64() * 1e3
        };
        (longest(false), longest(true))
    }

    /// From the router's last packet to our first that says Down.
    pub(crate) fn detection_ms(&self) -> Option<f64> {
        let seen = self.seen.borrow();
        let down = seen.iter().position(|seen| seen.is_ours && seen.state == State::Down)?;
        let last = seen[..down].iter().rfind(|seen| !seen.is_ours)?;
        Some(seen[down].at.saturating_sub(last.at).as_secs_f64() * 1e3)
    }

    /// One frame; false if none came.
    fn take(&self) -> bool {
        let mut bytes = [0; 128];
        let mut control = cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<LinkAddr>(fd, &mut parts, Some(&mut control), MsgFlags::empty());
        let Ok(message) = message else { return false };
        let stamp = message.cmsgs().unwrap().find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        });
        let len = message.bytes;
        let is_bfd = len >= PAYLOAD && bytes[12..14] == [8, 0] && bytes[23] == 17;
        let port = u16::from_be_bytes([bytes[36], bytes[37]]);
        if is_bfd
            && port == 3784
            && let (Some(at), Ok(packet)) = (stamp, ControlPacket::decode(&bytes[PAYLOAD..len]))
        {
            let is_ours = bytes[26..30] == EDGE.octets();
            self.seen.borrow_mut().push(Seen { at, is_ours, state: packet.state });
        }
        true
    }
}

/// Every protocol, what is sent included.
const ETHERTYPE_ALL: u16 = 3;
/// After the headers of Ethernet, IPv4 and UDP.
const PAYLOAD: usize = 42;
