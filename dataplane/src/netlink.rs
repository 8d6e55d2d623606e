//! A blocking rtnetlink socket for questions with an answer, and one that listens.
//!
//! Sockets belong to the network namespace of the thread that opens them. The kernel answers in
//! the system call that sends, so nothing here waits for long.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{AddressFamily, RouteNetlinkMessage},
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// Asks and is answered.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// What a request wants back.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// At most one object, then a confirmation.
    One,
    /// All objects of the kind.
    Dump,
}

/// Whether a dump shows one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Consistency {
    Interrupted,
    Whole,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends `message` with `flags` and collects the answer. A dump that changes interrupted is
    /// asked for again: what it left out would look like gone.
    pub(crate) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        answer: Answer,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        const ATTEMPTS: usize = 5;
        for _ in 0..ATTEMPTS {
            self.send(message.clone(), flags, answer)?;
            let (answers, consistency) = self.collect()?;
            if consistency == Consistency::Whole {
                return Ok(answers);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the dump was interrupted every time"))
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16, answer: Answer) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST
            | flags
            | match answer {
                Answer::One => NLM_F_ACK,
                Answer::Dump => NLM_F_DUMP,
            };
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    fn collect(&self) -> io::Result<(Vec<RouteNetlinkMessage>, Consistency)> {
        let mut answers = Vec::new();
        let mut consistency = Consistency::Whole;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in Messages(&bytes) {
                let message = message?;
                // What is left of a request that failed half-way.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                if message.header.flags & NLM_F_DUMP_INTR != 0 {
                    consistency = Consistency::Interrupted;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok((answers, consistency)),
                    NetlinkPayload::Error(error) if error.code.is_none() => {
                        return Ok((answers, consistency));
                    }
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
            }
        }
    }
}

/// Listens to what the kernel announces.
pub(crate) struct Announcements {
    socket: Socket,
}

impl Announcements {
    pub(crate) fn of(groups: &[u32]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for &group in groups {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Reads away everything that has arrived. What it was does not matter to a level-triggered
    /// reader, and neither does an overrun.
    pub(crate) fn drain(&self) {
        loop {
            match self.socket.recv_from_full() {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Announcements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        #[expect(unsafe_code, reason = "the socket type has only the raw descriptor")]
        // SAFETY: the socket owns the descriptor and outlives the borrow.
        unsafe {
            BorrowedFd::borrow_raw(self.socket.as_raw_fd())
        }
    }
}

/// Splits what a netlink socket received into messages. Every step takes bytes, whatever they say.
#[derive(Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl Iterator for Messages<'_> {
    type Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(self.0);
        let len = message.as_ref().map_or(self.0.len(), |message| {
            (message.header.length as usize).max(1).next_multiple_of(ALIGNMENT)
        });
        self.0 = self.0.get(len..).unwrap_or_default();
        Some(message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string())))
    }
}

/// Netlink messages begin at multiples of so many bytes.
pub const ALIGNMENT: usize = 4;

pub(crate) const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Index of an interface of this thread's namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}
