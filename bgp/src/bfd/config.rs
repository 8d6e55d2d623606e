//! What a session is told.

use std::{num::NonZeroU8, time::Duration};

use super::limits::{INTERVAL_MAX, INTERVAL_MIN};

/// Where the peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hops {
    /// On the same link: hop limit 255 both ways (RFC 5881).
    One,
    /// Behind routers (RFC 5883): nothing is known of the hop limit.
    Many,
}

impl Hops {
    /// The UDP port that packets are sent to (RFC 5881 §4, RFC 5883 §5).
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::One => 3784,
            Self::Many => 4784,
        }
    }
}

/// Who sets the pace of an established session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each direction has its own, as RFC 5880 negotiates it.
    Independent,
    /// Both directions have the slower of the two. Then a forwarding plane that answers each
    /// packet of the peer sends as often as the peer expects, and never more often than it allows.
    Common,
}

/// Time between packets: microseconds, and never unreasonable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(u32);

impl Interval {
    /// The interval, if it is within [`INTERVAL_MIN`] and [`INTERVAL_MAX`].
    #[must_use]
    pub fn new(interval: Duration) -> Option<Self> {
        let is_sane = (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval);
        u32::try_from(interval.as_micros()).ok().filter(|_| is_sane).map(Self)
    }

    /// In microseconds.
    #[must_use]
    pub const fn micros(self) -> u32 {
        self.0
    }
}

/// Configuration of a session. All of it can change while the session is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// How often we would like to send.
    pub desired_min_tx: Interval,
    /// How often we can stand to receive.
    pub required_min_rx: Interval,
    /// How many packets in a row the peer may miss.
    pub multiplier: NonZeroU8,
    /// Who sets the pace.
    pub pace: Pace,
    /// Whether what answers outlives our control plane: the C bit.
    pub control_plane_independent: bool,
}

impl SessionConfig {
    /// The same interval both ways, for a session that this process alone keeps up.
    #[must_use]
    pub const fn new(interval: Interval, multiplier: NonZeroU8) -> Self {
        Self {
            desired_min_tx: interval,
            required_min_rx: interval,
            multiplier,
            pace: Pace::Independent,
            control_plane_independent: false,
        }
    }

    /// The same for a session whose answers come from the forwarding plane.
    #[must_use]
    pub const fn reflected(self) -> Self {
        Self { pace: Pace::Common, control_plane_independent: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_within_the_limits_are_accepted_and_none_beyond() {
        let step = Duration::from_micros(1);

        assert_eq!(Interval::new(INTERVAL_MIN).map(Interval::micros), Some(5_000));
        assert_eq!(Interval::new(INTERVAL_MAX).map(Interval::micros), Some(60_000_000));
        assert_eq!(Interval::new(INTERVAL_MIN - step), None);
        assert_eq!(Interval::new(INTERVAL_MAX + step), None);
    }
}
