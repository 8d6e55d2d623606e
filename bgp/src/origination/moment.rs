//! [`Moment`]: time as origination knows it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since an epoch of the caller's choice. Plain, so that what was decided survives a
/// restart; callers see to it that it does not jump while they run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize,
)]
pub struct Moment(pub u64);

impl Moment {
    /// This long after it; the end of time rather than a wrap.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This long before it; the epoch rather than a wrap.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time since `earlier`; none if that is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
