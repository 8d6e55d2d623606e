//! The flow hash: which ring slot a packet belongs to.
//!
//! Keyed, and the same on every edge of a cluster: whichever edge a flow's packets reach, they
//! find the same slot. Fields are taken as they lie in the packet, in network order.
//!
//! Destination and protocol have chosen the service by then, whose ring is a permutation of its own:
//! only what tells apart the flows of one service is hashed.

use crate::{directory::Address, siphash::siphash13_words};

/// The fields that make a flow.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// IPv4 is mapped.
    pub source: Address,
    /// IPv4 is mapped.
    pub destination: Address,
    /// Source port in the low half, destination port in the high half, each as it lies in memory.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl Flow {
    /// Hash of an IPv4 flow: one word.
    #[inline(always)]
    #[must_use]
    pub fn hash_v4(&self, key: &[u64; 2]) -> u64 {
        siphash13_words(key, &[pair(self.source[3], self.ports)])
    }

    /// Hash of an IPv6 flow: three words.
    #[inline(always)]
    #[must_use]
    pub fn hash_v6(&self, key: &[u64; 2]) -> u64 {
        let source = &self.source;
        let words = [pair(source[0], source[1]), pair(source[2], source[3]), u64::from(self.ports)];
        siphash13_words(key, &words)
    }
}

#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::mapped;

    #[test]
    fn every_field_that_tells_flows_of_a_service_apart_counts() {
        let key = [1, 2];
        let flow = Flow { source: mapped(1), destination: mapped(2), ports: 3, protocol: 6 };
        let another_source = |word: usize| {
            let mut source = flow.source;
            source[word] ^= 9;
            Flow { source, ..flow }
        };

        for other in (0..4).map(another_source).chain([Flow { ports: 9, ..flow }]) {
            assert_ne!(flow.hash_v6(&key), other.hash_v6(&key), "{other:?}");
        }
        for other in [Flow { source: mapped(9), ..flow }, Flow { ports: 9, ..flow }] {
            assert_ne!(flow.hash_v4(&key), other.hash_v4(&key), "{other:?}");
        }
        assert_ne!(flow.hash_v4(&key), flow.hash_v4(&[2, 1]));
        assert_ne!(flow.hash_v6(&key), flow.hash_v6(&[2, 1]));
    }
}
