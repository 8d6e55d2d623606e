//! UDP flows that a backend's own sockets answered lately: whose a datagram is, where there is no
//! connection to ask about.

use crate::directory::Address;

/// How long an answer says whose a flow is, in nanoseconds. Address translators forget a flow
/// that says nothing for as long as that (RFC 4787 §4.3), and its next packet is a new flow's.
pub const LIFETIME_NS: u64 = 120_000_000_000;
/// An answer is noted again if the last one was noted so long ago: a busy flow costs a look, not a
/// store for each packet.
pub const REFRESH_NS: u64 = 10_000_000_000;

/// A flow, as its client's packets name it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnsweredFlow {
    /// The client.
    pub client: Address,
    /// The service's address.
    pub service: Address,
    /// The client's port in the low half, the service's in the high half, each as it lies in memory.
    pub ports: u32,
}

/// Whether an answer that was noted `then` says whose the flow is `now`.
#[inline(always)]
#[must_use]
pub const fn is_lately(then: u64, now: u64) -> bool {
    now.saturating_sub(then) < LIFETIME_NS
}

/// Whether an answer `now` is to be noted, after one that was noted `then`.
#[inline(always)]
#[must_use]
pub const fn is_due(then: u64, now: u64) -> bool {
    now.saturating_sub(then) >= REFRESH_NS
}

const _: () = assert!(size_of::<AnsweredFlow>() == 36);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_counts_for_its_lifetime_and_is_noted_again_before_that() {
        assert!(is_lately(5, 5) && is_lately(5, 4 + LIFETIME_NS));
        assert!(!is_lately(5, 5 + LIFETIME_NS));
        assert!(!is_due(5, 4 + REFRESH_NS) && is_due(5, 5 + REFRESH_NS));
        // Noted on another CPU, a moment after this one read the time.
        assert!(is_lately(6, 5) && !is_due(6, 5));
        const { assert!(2 * REFRESH_NS < LIFETIME_NS) };
    }
}
