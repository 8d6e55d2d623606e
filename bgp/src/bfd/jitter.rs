//! What is random in BFD, from a seed, so that a run can be repeated: discriminators, and the
//! jitter of transmissions (RFC 5880 §6.8.7).

use std::{num::NonZeroU8, time::Duration};

/// A small deterministic generator (SplitMix64); good enough to spread timers.
#[derive(Clone, Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Between 75 % and 100 % of `interval`; at most 90 % with a multiplier of one, so that one
    /// packet always arrives within the detection time.
    pub(super) fn spread(&mut self, interval: Duration, multiplier: NonZeroU8) -> Duration {
        let range = if multiplier.get() == 1 { 15 } else { 25 };
        let longest = if multiplier.get() == 1 { 90 } else { 100 };
        let percent = |percent| interval.saturating_mul(percent).checked_div(100);
        let share = percent(range).unwrap_or_default().saturating_mul(self.next_u8());
        let less = share.checked_div(u32::from(u8::MAX)).unwrap_or_default();
        percent(longest).unwrap_or_default().saturating_sub(less)
    }

    pub(super) const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) const fn next_u32(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.next_u64().to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    fn next_u8(&mut self) -> u32 {
        let [high, ..] = self.next_u64().to_be_bytes();
        u32::from(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_the_bounds_of_the_rfc_and_use_them() {
        for (multiplier, shortest, longest) in [(1, 75, 90), (3, 75, 100)] {
            let multiplier = NonZeroU8::new(multiplier).unwrap();
            let mut jitter = Jitter::new(7);
            let wait = || jitter.spread(Duration::from_millis(100), multiplier).as_millis();
            let waits: Vec<_> = std::iter::repeat_with(wait).take(2000).collect();

            assert!(waits.iter().all(|wait| (shortest..=longest).contains(wait)));
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(*least <= shortest + 1 && *most >= longest - 1, "{least} to {most}");
        }
    }
}
