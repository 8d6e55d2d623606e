//! [`Name`] and [`Label`]: names of objects (RFC 1123 §2.1).

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::text_type;

/// A DNS subdomain: labels of lower-case letters, digits and `-`, joined by dots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A single DNS label: what a namespace, and so a container, may be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidName {
    /// Not a [`Label`].
    #[error(
        "must be 1 to 63 lower-case letters, digits or '-', beginning and ending with a letter or \
         digit (for example 'web-prod')"
    )]
    Label,
    /// Not a [`Name`].
    #[error(
        "must be 1 to 253 lower-case letters, digits, '-' or '.', beginning and ending with a \
         letter or digit (for example 'edge-1.ams')"
    )]
    Subdomain,
}

const LABEL_LENGTH_MAX: usize = 63;
const NAME_LENGTH_MAX: usize = 253;

/// Whether a text is a label of a DNS name, however long.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(alphanumeric))
        && text.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
}

impl FromStr for Label {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let valid = text.len() <= LABEL_LENGTH_MAX && is_label(text);
        valid.then(|| Self(text.to_owned())).ok_or(InvalidName::Label)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let valid = text.len() <= NAME_LENGTH_MAX && text.split('.').all(is_label);
        valid.then(|| Self(text.to_owned())).ok_or(InvalidName::Subdomain)
    }
}

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Label {
    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_type!(Name, "dns-subdomain", 253);
text_type!(Label, "dns-label", 63);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_1123() {
        for good in ["a", "web-prod", "edge-1.ams", "0", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", ".a", "ä", &"a".repeat(254)] {
            assert_eq!(bad.parse::<Name>(), Err(InvalidName::Subdomain), "{bad}");
        }
    }

    #[test]
    fn a_label_has_no_dots_and_at_most_63_characters() {
        assert!("a".repeat(63).parse::<Label>().is_ok());
        for bad in ["a.b", &"a".repeat(64)] {
            assert_eq!(bad.parse::<Label>(), Err(InvalidName::Label), "{bad}");
        }
    }
}
