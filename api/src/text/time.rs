//! [`Time`]: a moment in metadata and status (RFC 3339, UTC, whole seconds).

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use thiserror::Error;

use super::text_type;

/// A moment, as Kubernetes writes it: `2026-11-22T02:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Timestamp);

/// Why a text is not a [`Time`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be a time such as 2026-11-22T02:00:00Z (RFC 3339)")]
pub struct InvalidTime;

impl Time {
    /// The moment.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        self.0
    }

    /// The moment so many milliseconds after the Unix epoch; nothing: no calendar has it.
    #[must_use]
    pub fn from_unix_ms(milliseconds: u64) -> Option<Self> {
        let milliseconds = i64::try_from(milliseconds).ok()?;
        Timestamp::from_millisecond(milliseconds).ok().map(Self::from)
    }

    /// The same moment; nothing: no calendar has it.
    #[must_use]
    pub fn from_system_time(time: std::time::SystemTime) -> Option<Self> {
        Timestamp::try_from(time).ok().map(Self::from)
    }
}

impl From<Timestamp> for Time {
    /// Drops the fraction of a second, which the text form does not carry.
    fn from(timestamp: Timestamp) -> Self {
        Self(Timestamp::from_second(timestamp.as_second()).unwrap_or(timestamp))
    }
}

impl FromStr for Time {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        text.parse::<Timestamp>().map(Self::from).map_err(|_invalid| InvalidTime)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(Time, "date-time", 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_whole_seconds() {
        let time: Time = "2026-11-22T02:00:00.75+01:00".parse().unwrap();

        assert_eq!(time.to_string(), "2026-11-22T01:00:00Z");
        assert_eq!("yesterday".parse::<Time>(), Err(InvalidTime));
    }
}
