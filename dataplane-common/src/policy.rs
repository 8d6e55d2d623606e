//! What a service lets in: a list of sources, and ceilings on what it takes.
//!
//! A ceiling is a token bucket per core, refilled by the kernel's tick (jiffies): no clock is read
//! and no memory is shared between cores. The host divides the ceiling over the cores by use; a
//! core never gives more than its share, so neither does the node.

use crate::{directory::Address, limits::SERVICE_POOL};

/// Source rules of one service.
pub const MAX_SOURCES_PER_SERVICE: usize = 2048;
/// Source rules in force on a node, equal lists counted once.
pub const MAX_SOURCES: usize = 65_536;
/// Places for source rules: a generation is written beside what is in force.
pub const SOURCE_POOL: usize = 2 * MAX_SOURCES;
/// Tenants with ceilings of their own.
pub const MAX_LIMITED_TENANTS: usize = 1024;
/// Buckets: one for each service number, and those of tenants after them.
pub const BUCKETS: usize = SERVICE_POOL + 2 * MAX_LIMITED_TENANTS;

/// What is asked of a service's packets in one generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Bits of [`Policy::LISTED`] and the following.
    pub flags: u32,
    /// Number of the list, where there is one.
    pub list: u32,
    /// Bucket of the tenant, where it has one.
    pub tenant_bucket: u32,
    /// Makes the size a power of two.
    pub reserved: u32,
}

impl Policy {
    /// Sources are looked up.
    pub const LISTED: u32 = 1;
    /// A source that no rule covers is let in.
    pub const OTHERS_ALLOWED: u32 = 2;
    /// The service has ceilings, in the bucket of its own number.
    pub const LIMITED: u32 = 4;
    /// The tenant has ceilings.
    pub const TENANT_LIMITED: u32 = 8;
    /// New flows beyond the ceiling are made to prove their address instead of being dropped.
    pub const COOKIES: u32 = 16;
}

/// What a source is looked up by: the most specific prefix of the list's family decides.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceKey {
    /// Twice the list's number, and one more for IPv6: families never cover each other.
    pub list: u32,
    /// IPv4 in the first word, as it travels.
    pub address: Address,
}

impl SourceKey {
    /// Bits before the address.
    pub const LIST_BITS: u32 = 32;

    /// The key of an address (IPv4 mapped) in a list.
    #[inline(always)]
    #[must_use]
    pub const fn new<const V6: bool>(list: u32, address: &Address) -> Self {
        if V6 {
            Self { list: list << 1 | 1, address: *address }
        } else {
            Self { list: list << 1, address: [address[3], 0, 0, 0] }
        }
    }
}

/// A rule lets its sources in.
pub const ALLOWED: u32 = 1;
/// A rule keeps its sources out.
pub const DENIED: u32 = 0;

/// A core's share of one ceiling, in tokens of [`TOKEN`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What comes in with each tick.
    pub per_tick: u64,
    /// What there is at most, or [`Rate::UNLIMITED`].
    pub burst: u64,
}

impl Rate {
    /// In place of a burst: there is no ceiling.
    pub const UNLIMITED: u64 = u64::MAX;
    /// No ceiling.
    pub const NONE: Self = Self { per_tick: 0, burst: Self::UNLIMITED };
}

/// One packet or flow. Small shares of small ceilings need the fraction.
pub const TOKEN: u64 = 1 << 20;
/// Ticks that a bucket fills for at most; the product with any share fits 64 bits.
pub const MAX_TICKS: u64 = 1 << 16;

/// A core's shares of a service's or tenant's ceilings: written by the host alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Packets.
    pub packets: Rate,
    /// Connections that begin.
    pub flows: Rate,
    /// Not 0: every new flow has to prove its address.
    pub armed: u64,
}

impl Rates {
    /// No ceilings.
    pub const NONE: Self = Self { packets: Rate::NONE, flows: Rate::NONE, armed: 0 };
}

/// The state of one bucket: written by its core alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// What there is, as of `at`.
    pub tokens: u64,
    /// Tick of the last refill.
    pub at: u64,
    /// How often a token was asked for, granted or not.
    pub asked: u64,
}

/// The buckets behind [`Rates`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Packets.
    pub packets: Level,
    /// Connections that begin.
    pub flows: Level,
}

impl Level {
    /// Asks for one token at tick `now`.
    #[inline(always)]
    pub const fn take(&mut self, rate: &Rate, now: u64) -> bool {
        self.take_above(rate, now, TOKEN)
    }

    /// Asks for one that nobody else is likely to miss: half of the burst stays for [`Level::take`].
    #[inline(always)]
    pub const fn take_spare(&mut self, rate: &Rate, now: u64) -> bool {
        let half = rate.burst / 2;
        self.take_above(rate, now, if half > TOKEN { half } else { TOKEN })
    }

    #[inline(always)]
    const fn take_above(&mut self, rate: &Rate, now: u64, floor: u64) -> bool {
        self.asked = self.asked.wrapping_add(1);
        if rate.burst == Rate::UNLIMITED {
            return true;
        }
        if now != self.at {
            let since = now.wrapping_sub(self.at);
            let ticks = if since > MAX_TICKS { MAX_TICKS } else { since };
            let full = self.tokens.wrapping_add(ticks.wrapping_mul(rate.per_tick));
            self.tokens = if full > rate.burst { rate.burst } else { full };
            self.at = now;
        }
        if self.tokens < floor {
            return false;
        }
        self.tokens = self.tokens.wrapping_sub(TOKEN);
        true
    }
}

/// Packets of a service that were kept out, by reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The source is not let in.
    pub sources: u64,
    /// More packets than the service's ceiling.
    pub packets: u64,
    /// More new flows than the service's ceiling.
    pub flows: u64,
    /// More than the tenant's ceilings.
    pub tenant: u64,
    /// Not refused: new flows that had to prove their address.
    pub challenged: u64,
}

const _: () = assert!(size_of::<Policy>() == 16);
const _: () = assert!(size_of::<SourceKey>() == 20);
const _: () = assert!(size_of::<Rates>() == 40);
const _: () = assert!(size_of::<Levels>() == 48);
const _: () = assert!(size_of::<Refused>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_tick: TOKEN / 2, burst: 3 * TOKEN };

    fn granted(level: &mut Level, now: u64, times: usize) -> usize {
        (0..times).filter(|_| level.take(&RATE, now)).count()
    }

    #[test]
    fn bucket_gives_its_burst_and_then_its_rate() {
        let mut level = Level::default();

        assert_eq!(granted(&mut level, 1_000_000, 10), 3);
        assert_eq!(granted(&mut level, 1_000_001, 10), 0);
        assert_eq!(granted(&mut level, 1_000_002, 10), 1);
        assert_eq!(granted(&mut level, 1_000_100, 10), 3);
        assert_eq!(level.asked, 40);
    }

    #[test]
    fn spare_tokens_end_where_half_of_the_burst_is_left() {
        let rate = Rate { per_tick: 0, burst: 10 * TOKEN };
        let mut level = Level { tokens: 10 * TOKEN, at: 7, asked: 0 };

        assert_eq!((0..20).filter(|_| level.take_spare(&rate, 7)).count(), 6);
        assert_eq!((0..20).filter(|_| level.take(&rate, 7)).count(), 4);
        let one = Rate { per_tick: 0, burst: TOKEN };
        assert!(Level { tokens: TOKEN, at: 7, asked: 0 }.take_spare(&one, 7));
        assert!(level.take_spare(&Rate::NONE, 7), "without a ceiling all is spare");
    }

    #[test]
    fn smaller_burst_takes_from_what_there_was() {
        let mut level = Level { tokens: 9 * TOKEN, at: 7, asked: 0 };

        assert_eq!(granted(&mut level, 8, 10), 3);
    }

    #[test]
    fn largest_share_does_not_overflow_after_the_longest_pause() {
        let per_tick = u64::from(u32::MAX) * TOKEN / 100;
        let rate = Rate { per_tick, burst: u64::from(u32::MAX) * TOKEN };
        let mut level = Level { tokens: rate.burst, at: 0, asked: 0 };

        assert!(level.take(&rate, u64::MAX));
        assert_eq!(level.tokens, rate.burst - TOKEN);
    }

    #[test]
    fn families_have_keys_of_their_own() {
        let zero = [0; 4];
        assert_ne!(SourceKey::new::<true>(3, &zero), SourceKey::new::<false>(3, &zero));
    }
}
