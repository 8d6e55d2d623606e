//! The kernel's monotonic clock, as the program stamps it, against [`Instant`], which is the same
//! clock behind a wall.

use std::{
    io,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    kernel: Duration,
}

impl Clock {
    /// Reads both at once, as nearly as that can be done.
    pub(super) fn new() -> io::Result<Self> {
        let kernel = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        Ok(Self { instant: Instant::now(), kernel })
    }

    /// The instant of a stamp. One from before this machine's start does not happen.
    pub(super) fn instant(&self, stamp: Duration) -> Option<Instant> {
        match stamp.checked_sub(self.kernel) {
            Some(later) => self.instant.checked_add(later),
            None => self.instant.checked_sub(self.kernel.saturating_sub(stamp)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_before_and_after_are_ordered_as_instants() {
        let clock = Clock::new().unwrap();
        let stamp = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());

        let now = clock.instant(stamp).unwrap();

        assert!(now.elapsed() < Duration::from_secs(1));
        let second = Duration::from_secs(1);
        assert_eq!(clock.instant(stamp - second), now.checked_sub(second));
    }
}
