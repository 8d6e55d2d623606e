//! Prefixes on the wire: a length in bits, then as many octets as it needs (RFC 4271 §4.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::reader::{Reader, Short};
use crate::types::Family;

/// A list of prefixes that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NlriError {
    /// More bits than the family's addresses have.
    #[error("prefix length {bits} in {family}")]
    PrefixLength {
        /// The length received.
        bits: u8,
        /// The family of the list.
        family: Family,
    },
    /// The list ends inside a prefix.
    #[error("prefix cut short")]
    Short(#[from] Short),
}

/// Reads prefixes until the section ends.
///
/// # Errors
/// The first prefix that cannot be read: what follows it has no known boundary.
pub fn decode(mut section: Reader<'_>, family: Family) -> Result<Vec<IpNet>, NlriError> {
    let mut prefixes = Vec::new();
    while !section.is_empty() {
        prefixes.push(decode_one(&mut section, family)?);
    }
    Ok(prefixes)
}

/// Whether a prefix may be a destination of one host: multicast groups are ignored (RFC 4271 §6.3).
#[must_use]
pub fn is_unicast(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => net.prefix_len() < 4 || !net.network().is_multicast(),
        IpNet::V6(net) => net.prefix_len() < 8 || !net.network().is_multicast(),
    }
}

/// Appends one prefix.
pub fn encode(prefix: &IpNet, out: &mut Vec<u8>) {
    out.push(prefix.prefix_len());
    let count = octets(prefix.prefix_len());
    match prefix {
        IpNet::V4(net) => out.extend(net.network().octets().into_iter().take(count)),
        IpNet::V6(net) => out.extend(net.network().octets().into_iter().take(count)),
    }
}

/// Bytes that [`encode`] appends.
#[must_use]
pub fn encoded_bytes(prefix: &IpNet) -> usize {
    octets(prefix.prefix_len()).saturating_add(1)
}

fn decode_one(section: &mut Reader<'_>, family: Family) -> Result<IpNet, NlriError> {
    let bits = section.u8()?;
    let length_error = || NlriError::PrefixLength { bits, family };
    if bits > family.bits_max() {
        return Err(length_error());
    }
    let significant = section.take(octets(bits))?;
    // RFC 4271 §4.3: the value of trailing bits is irrelevant.
    let net = match family {
        Family::Ipv4Unicast => {
            let address = Ipv4Addr::from(padded::<4>(significant));
            Ipv4Net::new(address, bits).map(|net| IpNet::V4(net.trunc()))
        }
        Family::Ipv6Unicast => {
            let address = Ipv6Addr::from(padded::<16>(significant));
            Ipv6Net::new(address, bits).map(|net| IpNet::V6(net.trunc()))
        }
    };
    net.map_err(|_too_long| length_error())
}

fn octets(bits: u8) -> usize {
    usize::from(bits.div_ceil(8))
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut address = [0; N];
    for (to, from) in address.iter_mut().zip(bytes) {
        *to = *from;
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], family: Family) -> Result<Vec<IpNet>, NlriError> {
        decode(Reader::new(bytes), family)
    }

    #[test]
    fn trailing_bits_are_ignored() {
        let nets = read(&[20, 10, 1, 0xff], Family::Ipv4Unicast).unwrap();

        assert_eq!(nets, ["10.1.240.0/20".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn the_default_route_is_one_octet() {
        let nets = read(&[0], Family::Ipv6Unicast).unwrap();

        assert_eq!(nets, ["::/0".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn one_bit_too_many_is_refused_and_the_last_bit_is_not() {
        assert!(read(&[32, 1, 2, 3, 4], Family::Ipv4Unicast).is_ok());
        assert!(matches!(
            read(&[33, 1, 2, 3, 4, 5], Family::Ipv4Unicast),
            Err(NlriError::PrefixLength { bits: 33, .. })
        ));
        assert!(matches!(
            read(&[129; 18], Family::Ipv6Unicast),
            Err(NlriError::PrefixLength { bits: 129, .. })
        ));
    }

    #[test]
    fn a_prefix_cut_short_is_refused() {
        assert!(matches!(read(&[24, 1, 2], Family::Ipv4Unicast), Err(NlriError::Short(_))));
    }
}
