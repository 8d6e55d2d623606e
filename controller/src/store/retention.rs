//! [`Retention`]: how much of its past the log keeps.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{BackendError, Revision, codec, log::Log};
use crate::limits;

/// How much of its past the log keeps. Whatever is older or more is forgotten when something new is
/// written, a slice at a time, so that no writer waits long behind it.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    revisions: u64,
    age: Duration,
    records_age: Duration,
    /// When ages are next looked at.
    look: Timestamp,
}

impl Retention {
    /// Keeps at most so many revisions, and none that is older than `age`.
    pub fn new(revisions: u64, age: Duration) -> Self {
        Self { revisions, age, records_age: Duration::MAX, look: Timestamp::MIN }
    }

    /// Forgets records that have left the log when they are older than this. Default: never.
    #[must_use]
    pub fn with_records_for(self, records_age: Duration) -> Self {
        Self { records_age, ..self }
    }

    pub(super) fn records_age(&self) -> Duration {
        self.records_age
    }

    /// The revision before which the log is to be forgotten now, if there is anything to forget.
    pub(super) fn due(
        &mut self,
        log: &Log,
        now: Timestamp,
    ) -> Result<Option<Revision>, BackendError> {
        let extent = log.extent();
        let before = Revision(extent.floor.0.saturating_add(limits::LOG_TRUNCATE_SLICE));
        let kept = extent.head.0.saturating_sub(extent.floor.0);
        if kept >= self.revisions.saturating_add(limits::LOG_TRUNCATE_SLICE) {
            return Ok(Some(before));
        }
        if now < self.look || before >= extent.head {
            return Ok(None);
        }
        let row = log.reading()?.row(before)?;
        let written = codec::decode(before, &row)?.audit.time_ms;
        let age = SignedDuration::try_from(self.age).unwrap_or(SignedDuration::MAX);
        let oldest = now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        if written < oldest.as_millisecond() {
            return Ok(Some(before));
        }
        self.look = now.saturating_add(limits::LOG_AGE_LOOK).unwrap_or(Timestamp::MAX);
        Ok(None)
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::new(limits::LOG_REVISIONS, limits::LOG_AGE)
    }
}
