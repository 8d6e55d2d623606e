//! [`TokenBucket`]: admits so many at once and so many per second.

use std::time::{Duration, Instant};

/// Sans-IO: takes `now`.
#[derive(Debug)]
pub(super) struct TokenBucket {
    burst: u32,
    per_second: u32,
    /// The moment at which the bucket was, or will be, full.
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket of `burst`, refilled at `per_second`, which is not 0.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst, per_second: per_second.max(1), full_at: now }
    }

    /// Takes one out, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let one = Duration::from_secs(1) / self.per_second;
        let full_at = self.full_at.max(now) + one;
        let has_room = full_at.duration_since(now) <= one * self.burst;
        if has_room {
            self.full_at = full_at;
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_per_second() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, 10, start);

        let burst = (0..5).filter(|_| bucket.take(start)).count();

        assert_eq!(burst, 3);
        assert!(!bucket.take(start + Duration::from_millis(99)));
        assert!(bucket.take(start + Duration::from_millis(100)));
        assert!(!bucket.take(start + Duration::from_millis(101)));
    }

    #[test]
    fn a_rest_fills_the_bucket_and_no_more_than_that() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, 10, start);

        let later = start + Duration::from_secs(3600);

        assert_eq!((0..5).filter(|_| bucket.take(later)).count(), 3);
    }
}
