//! Forged tunnel packets: what anybody on the underlay can send who does not know the cluster's
//! secret, or knows a key that was stolen. Inside each is a SYN to a service, from one of the addresses
//! of [`crate::flood`].

use std::{net::SocketAddrV4, path::Path};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockaddrIn, sendto},
};
use std::os::fd::AsRawFd as _;

use crate::{
    flood::{FloodError, raw_socket, syn},
    netns::Namespace,
    scenario::Forge,
};

/// Sends forged packets from `namespace`.
///
/// # Errors
/// They cannot be sent.
pub async fn forge(namespace: Namespace, forgery: Forge) -> Result<(), FloodError> {
    let sender = tokio::task::spawn_blocking(move || namespace.within(|| send(&forgery)));
    sender.await.map_err(|_panic| FloodError::Ended)??
}

fn send(forgery: &Forge) -> Result<(), FloodError> {
    let tag = forgery.tag_file.as_deref().map(read_tag).transpose()?;
    let socket = raw_socket()?;
    let address = SockaddrIn::from(SocketAddrV4::new(forgery.to, 0));
    for number in 0..forgery.count {
        let guess = number.wrapping_mul(0x9e37_79b1);
        let packet = packet(forgery, number, tag.unwrap_or(guess));
        loop {
            match sendto(socket.as_raw_fd(), &packet, &address, MsgFlags::empty()) {
                Ok(_) => break,
                Err(Errno::ENOBUFS | Errno::EAGAIN) => std::thread::yield_now(),
                Err(error) => return Err(FloodError::Socket(error)),
            }
        }
    }
    Ok(())
}

fn read_tag(path: &Path) -> Result<u32, FloodError> {
    let fault = |said: String| FloodError::Tag { path: path.to_owned(), said };
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    u32::from_str_radix(text.trim(), 16).map_err(|error| fault(error.to_string()))
}

/// IPv4, UDP to the tunnel's port, GUE with the first tenant and this key tag, and the SYN. The kernel
/// fills in the outer header's checksum; that of UDP may be zero.
fn packet(forgery: &Forge, number: u32, tag: u32) -> Vec<u8> {
    const GUE_PORT: u16 = 6080;
    const TENANT: u32 = 1;
    let inner = syn(number, forgery.service);
    let payload = 8 + 12 + inner.len();
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(20 + payload));
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(forgery.from.octets());
    packet.extend(forgery.to.octets());
    packet.extend([0xc3, 0x50]);
    packet.extend(GUE_PORT.to_be_bytes());
    packet.extend(length(payload));
    packet.extend([0, 0]);
    packet.extend([2, 4, 0, 0]);
    packet.extend((TENANT << 8).to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend(inner);
    packet
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn every_packet_is_well_formed_and_another_guess() {
        let forgery = Forge {
            node: "bor-ams".into(),
            from: Ipv4Addr::new(10, 1, 11, 2),
            to: Ipv4Addr::new(10, 1, 21, 2),
            service: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 10), 80),
            count: 2,
            tag_file: None,
        };

        let [one, other] = [1, 2].map(|number| packet(&forgery, number, number));

        assert_eq!(one.len(), 20 + 8 + 12 + 40);
        assert_eq!((&one[2..4], &one[24..26]), (&[0, 80][..], &[0, 60][..]));
        assert_eq!((&one[12..16], &one[16..20]), (&[10, 1, 11, 2][..], &[10, 1, 21, 2][..]));
        assert_ne!(one[36..40], other[36..40]);
    }
}
