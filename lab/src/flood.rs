//! A flood: SYNs from ever other addresses, as many as the machine has time for.
//!
//! It is sent by a thread of the lowest priority inside a client's namespace, so that it takes what
//! the programs and users of the lab leave, and nothing that they need to be measured.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use std::os::fd::{AsRawFd as _, OwnedFd};
use thiserror::Error;

use crate::netns::{EnterError, Namespace};

/// A flood that cannot be sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FloodError {
    /// The client's namespace.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The socket.
    #[error("cannot open a raw socket")]
    Socket(#[source] nix::errno::Errno),
    /// The key tag of forged packets.
    #[error("{}: no key tag: {said}", path.display())]
    Tag {
        /// The file that it should be in.
        path: PathBuf,
        /// Why it is not.
        said: String,
    },
    /// The sending thread.
    #[error("the flood's thread ended")]
    Ended,
}

/// Floods `to` from `namespace` for so long; how many SYNs left.
///
/// # Errors
/// It cannot begin.
pub async fn flood(
    namespace: Namespace,
    to: SocketAddrV4,
    time: Duration,
) -> Result<u64, FloodError> {
    let is_over = std::sync::Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let is_over = std::sync::Arc::clone(&is_over);
        move || send(&namespace, to, &is_over)
    });
    tokio::time::sleep(time).await;
    is_over.store(true, Ordering::Relaxed);
    sender.join().map_err(|_panic| FloodError::Ended)?
}

fn send(namespace: &Namespace, to: SocketAddrV4, is_over: &AtomicBool) -> Result<u64, FloodError> {
    namespace.enter()?;
    yield_to_others();
    let socket = raw_socket()?;
    let address = SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0));
    let (mut number, mut sent) = (0_u32, 0);
    while !is_over.load(Ordering::Relaxed) {
        number = number.wrapping_add(1);
        // What does not fit the queue is no part of the flood.
        if sendto(socket.as_raw_fd(), &syn(number, to), &address, MsgFlags::empty()).is_ok() {
            sent += 1;
        }
    }
    Ok(sent)
}

/// Sends IPv4 packets as they are.
pub(crate) fn raw_socket() -> Result<OwnedFd, FloodError> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Raw).map_err(FloodError::Socket)
}

fn yield_to_others() {
    let lowest = std::process::Command::new("renice")
        .args(["-n", "19", "-p", &nix::unistd::gettid().to_string()])
        .output();
    if let Err(error) = lowest {
        tracing::warn!(%error, "the flood competes with those it floods");
    }
}

/// An IPv4 packet with the SYN of a client that nobody has seen before: addresses are those of
/// RFC 2544's benchmarks. The kernel fills in the header's checksum.
pub(crate) fn syn(number: u32, to: SocketAddrV4) -> [u8; LEN] {
    let [a, b, c, d] = Ipv4Addr::from(0xc612_0000 | number & 0x1_ffff).octets();
    let [e, f, g, h] = to.ip().octets();
    let [port_high, port_low] = to.port().to_be_bytes();
    let [.., source_high, source_low] = (number >> 3 | 0x8000).to_be_bytes();
    let mut packet = [
        0x45,
        0,
        0,
        40,
        0,
        0,
        0x40,
        0,
        64,
        6,
        0,
        0,
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h, //
        source_high,
        source_low,
        port_high,
        port_low,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0, //
        0x50,
        0x02,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ];
    let pseudo = 6 + 20;
    let (_, rest) = packet.split_at(12);
    let words = rest.chunks_exact(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let sum = words.fold(pseudo, |sum: u32, word| sum.wrapping_add(word));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    if let Ok(folded) = u16::try_from(folded) {
        let [.., high, low, _, _] = &mut packet;
        [*high, *low] = (!folded).to_be_bytes();
    }
    packet
}

const LEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syn_is_well_formed_and_from_another_client() {
        let to = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 10), 80);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..1000 {
            let packet = syn(number, to);
            let words = packet[12..].chunks(2).map(|it| u32::from(it[0]) << 8 | u32::from(it[1]));
            let mut sum = words.sum::<u32>() + 6 + 20;
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            assert_eq!(sum, 0xffff, "the checksum completes it (RFC 9293 §3.1)");
            assert_eq!((packet[16..20].to_vec(), packet[33]), (vec![203, 0, 113, 10], 2));
            assert!(seen.insert(packet[12..16].to_vec()));
        }
    }
}
