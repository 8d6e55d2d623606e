//! Keys of TCP MD5 signatures (RFC 2385).
//!
//! The kernel signs and checks; a segment without the right signature never reaches us. A listening
//! socket needs the keys of all peers before they knock, those of dynamic peers by their prefix.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ipnet::IpNet;

use super::sockopt::{MD5_KEY_BYTES_MAX, TcpMd5Sig};

/// A key shared with a peer. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(Arc<[u8]>);

/// Bytes that are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an MD5 key has 1 to {MD5_KEY_BYTES_MAX} bytes, not {bytes}")]
pub struct Md5KeyError {
    /// How many there were.
    pub bytes: usize,
}

// === impl Md5Key ===

impl Md5Key {
    /// A key of these bytes.
    ///
    /// # Errors
    /// None, or more than the kernel takes.
    pub fn new(bytes: &[u8]) -> Result<Self, Md5KeyError> {
        match bytes.len() {
            1..=MD5_KEY_BYTES_MAX => Ok(Self(bytes.into())),
            bytes => Err(Md5KeyError { bytes }),
        }
    }
}

impl fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Key(…)")
    }
}

/// Has `socket` sign what it exchanges with `peers`; without a key: no longer.
pub(super) fn set(socket: BorrowedFd<'_>, peers: IpNet, key: Option<&Md5Key>) -> io::Result<()> {
    let bytes = key.map(|key| &*key.0).unwrap_or_default();
    match TcpMd5Sig::new(peers.addr(), peers.prefix_len(), bytes).set(socket) {
        // Taking away a key that was never given is no failure.
        Err(error) if key.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn the_longest_key_is_taken_and_a_longer_one_is_not() {
        assert!(Md5Key::new(&[1; MD5_KEY_BYTES_MAX]).is_ok());
        assert_eq!(Md5Key::new(&[1; MD5_KEY_BYTES_MAX + 1]), Err(Md5KeyError { bytes: 81 }));
        assert_eq!(Md5Key::new(&[]), Err(Md5KeyError { bytes: 0 }));
    }

    #[test]
    fn the_kernel_takes_keys_for_addresses_and_prefixes_and_drops_them() {
        let key = Md5Key::new(b"secret").unwrap();
        for (domain, peers) in [(Domain::IPV4, "192.0.2.1/32"), (Domain::IPV6, "2001:db8::/64")] {
            let socket = Socket::new(domain, Type::STREAM, None).unwrap();
            let peers = peers.parse().unwrap();

            set(socket.as_fd(), peers, Some(&key)).unwrap();
            set(socket.as_fd(), peers, None).unwrap();
            set(socket.as_fd(), peers, None).unwrap();
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", Md5Key::new(b"secret").unwrap()), "Md5Key(…)");
    }
}
