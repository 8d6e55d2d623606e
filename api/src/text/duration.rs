//! [`Duration`]: a span of time such as `500ms` or `1h30m`.

use std::{fmt, str::FromStr, time};

use thiserror::Error;

use super::text_type;

/// A span of time: numbers with units `ms`, `s`, `m`, `h`, `d`, largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

/// Why a text is not a [`Duration`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be a duration such as 500ms, 30s or 1h30m")]
pub struct InvalidDuration;

/// Units, largest first: suffix and milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// No setting is longer; keeps arithmetic far from overflow.
const MS_MAX: u64 = 366 * 86_400_000;

impl Duration {
    /// A span of `ms` milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(time::Duration::from_millis(ms))
    }

    /// A span of `s` seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(time::Duration::from_secs(s))
    }

    /// The span.
    #[must_use]
    pub const fn get(self) -> time::Duration {
        self.0
    }

    /// Milliseconds; at most a year's, so the text form always fits.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(MS_MAX)
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let mut rest = text;
        let mut units = UNITS.iter();
        let mut total_ms = 0_u64;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at_checked(digits).ok_or(InvalidDuration)?;
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (suffix, tail) = tail.split_at_checked(letters).ok_or(InvalidDuration)?;
            // `find` consumes: a unit may neither repeat nor follow a smaller one.
            let (_, unit_ms) = units.find(|(known, _)| *known == suffix).ok_or(InvalidDuration)?;
            let number: u64 = number.parse().map_err(|_invalid| InvalidDuration)?;
            total_ms = number
                .checked_mul(*unit_ms)
                .and_then(|ms| total_ms.checked_add(ms))
                .filter(|ms| *ms <= MS_MAX)
                .ok_or(InvalidDuration)?;
            rest = tail;
        }
        if text.is_empty() { Err(InvalidDuration) } else { Ok(Self::from_millis(total_ms)) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest_ms = self.as_millis();
        if rest_ms == 0 {
            return f.write_str("0s");
        }
        for (suffix, unit_ms) in UNITS {
            let number = rest_ms / unit_ms;
            if number > 0 {
                write!(f, "{number}{suffix}")?;
            }
            rest_ms %= unit_ms;
        }
        Ok(())
    }
}

text_type!(Duration, "duration", 32);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in
            [("500ms", 500), ("1h30m", 5_400_000), ("0s", 0), ("2d", 172_800_000), ("90s", 90_000)]
        {
            assert_eq!(text.parse(), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1.5s", "1 h", "30m1h", "1s1s", "9999999d", "1w"] {
            assert_eq!(bad.parse::<Duration>(), Err(InvalidDuration), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_form_round_trips(ms in 0..MS_MAX) {
            let duration = Duration::from_millis(ms);

            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<Duration>();
        }
    }
}
