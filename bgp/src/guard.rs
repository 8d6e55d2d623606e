//! The export guard: which prefixes may leave this speaker at all (RFC 8212, and address grants).
//!
//! Default deny. [`Permitted`] is the proof that a prefix passed; the code that encodes
//! announcements takes nothing else, so no path around the guard can be written by accident.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// Prefixes that may be announced, and whatever lies inside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportGuard {
    announceable: BTreeSet<IpNet>,
    /// Prefix lengths in `announceable`, so that a look-up probes only those.
    lengths: BTreeSet<u8>,
}

/// A prefix that the guard let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permitted(IpNet);

impl ExportGuard {
    /// A guard that lets these prefixes pass, and more specific ones.
    pub fn new(announceable: impl IntoIterator<Item = IpNet>) -> Self {
        let announceable: BTreeSet<_> = announceable.into_iter().map(|net| net.trunc()).collect();
        let lengths = announceable.iter().map(IpNet::prefix_len).collect();
        Self { announceable, lengths }
    }

    /// The proof for `prefix`, if it may be announced.
    #[must_use]
    pub fn permit(&self, prefix: IpNet) -> Option<Permitted> {
        let covered = self
            .lengths
            .iter()
            .take_while(|length| **length <= prefix.prefix_len())
            .filter_map(|length| IpNet::new(prefix.addr(), *length).ok())
            .any(|cover| self.announceable.contains(&cover.trunc()));
        covered.then(|| Permitted(prefix.trunc()))
    }
}

impl Permitted {
    /// The prefix.
    #[must_use]
    pub const fn prefix(self) -> IpNet {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn an_empty_guard_lets_nothing_pass() {
        assert_eq!(ExportGuard::default().permit(net("203.0.113.1/32")), None);
    }

    #[test]
    fn what_lies_inside_passes_and_what_covers_or_lies_beside_does_not() {
        let guard = ExportGuard::new([net("203.0.113.0/28"), net("2001:db8::1/128")]);

        assert!(guard.permit(net("203.0.113.15/32")).is_some());
        assert!(guard.permit(net("203.0.113.0/28")).is_some());
        assert!(guard.permit(net("2001:db8::1/128")).is_some());
        assert_eq!(guard.permit(net("203.0.113.16/32")), None);
        assert_eq!(guard.permit(net("203.0.113.0/24")), None);
        assert_eq!(guard.permit(net("2001:db8::/64")), None);
        assert_eq!(guard.permit(net("0.0.0.0/0")), None);
    }

    /// Prefixes of both families, close enough to one another to cover each other often.
    fn prefix() -> impl Strategy<Value = IpNet> {
        let ipv4 = (0_u32..64, 24_u8..=32).prop_map(|(low, length)| {
            let address = std::net::Ipv4Addr::from(0xcb00_7100 | low);
            IpNet::new(address.into(), length).unwrap()
        });
        let ipv6 = (0_u128..64, 120_u8..=128).prop_map(|(low, length)| {
            let address = std::net::Ipv6Addr::from((0x2001_0db8_u128 << 96) | low);
            IpNet::new(address.into(), length).unwrap()
        });
        prop_oneof![ipv4, ipv6]
    }

    proptest! {
        /// Exactly what lies inside a grant passes, as the prefix that it denotes.
        #[test]
        fn what_passes_lies_inside_a_grant(
            grants in prop::collection::vec(prefix(), 0..8),
            asked in prefix(),
        ) {
            let guard = ExportGuard::new(grants.clone());

            let permitted = guard.permit(asked).map(Permitted::prefix);

            let is_inside = grants.iter().any(|grant| grant.contains(&asked.trunc()));
            prop_assert_eq!(permitted, is_inside.then(|| asked.trunc()));
        }
    }
}
