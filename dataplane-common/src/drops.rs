//! Whose packets are dropped, and why.

/// Pairs of a service and a reason that are counted apart; of one more, only the reason is.
pub const DROP_PAIRS: usize = 8192;

/// Key of the drops of a service for a reason.
#[inline(always)]
#[must_use]
pub const fn key(service: u16, reason: crate::Outcome) -> u32 {
    (service as u32) << 16 | reason as u32
}

/// The service's number, and the reason's.
#[must_use]
pub const fn parts(key: u32) -> (u32, u32) {
    (key >> 16, key & 0xffff)
}
