//! [`ResourceType`] and [`AmountField`]: what is counted, and where an object says how much.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::text::text_type;

/// What is counted, by a name of the form `GROUP/NAME`: `network.isocast.dev/anycastservices`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceType(String);

/// A field of an object that says how much it takes: `spec.backends`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AmountField(String);

/// Why a text is not a [`ResourceType`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "must be GROUP/NAME or GROUP/NAME/PART of lower-case letters, digits, '-' and '.' (for example \
     'network.isocast.dev/anycastservices')"
)]
pub struct InvalidResourceType;

/// Why a text is not an [`AmountField`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must name a field below spec (for example 'spec.backends')")]
pub struct InvalidAmountField;

const TYPE_LENGTH_MAX: usize = 253;
const FIELD_LENGTH_MAX: usize = 253;

impl FromStr for ResourceType {
    type Err = InvalidResourceType;

    fn from_str(text: &str) -> Result<Self, InvalidResourceType> {
        let word = |word: &str| word.parse::<crate::text::Name>().is_ok();
        let parts = text.split('/').count();
        let valid =
            text.len() <= TYPE_LENGTH_MAX && (2..=3).contains(&parts) && text.split('/').all(word);
        valid.then(|| Self(text.to_owned())).ok_or(InvalidResourceType)
    }
}

impl FromStr for AmountField {
    type Err = InvalidAmountField;

    fn from_str(text: &str) -> Result<Self, InvalidAmountField> {
        let word =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let below = text.strip_prefix("spec.").ok_or(InvalidAmountField)?;
        let valid = text.len() <= FIELD_LENGTH_MAX && below.split('.').all(word);
        valid.then(|| Self(text.to_owned())).ok_or(InvalidAmountField)
    }
}

impl ResourceType {
    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AmountField {
    /// The field as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The field as a JSON pointer (RFC 6901): `/spec/backends`.
    #[must_use]
    pub fn to_pointer(&self) -> String {
        format!("/{}", self.0.replace('.', "/"))
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AmountField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_type!(ResourceType, "resource-type", 253);
text_type!(AmountField, "amount-field", 253);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_a_group_and_a_name() {
        for good in ["network.isocast.dev/anycastservices", "a/b", "network.isocast.dev/pools/size"]
        {
            assert_eq!(good.parse::<ResourceType>().map(|it| it.to_string()), Ok(good.to_owned()));
        }
        for bad in
            ["", "anycastservices", "/a", "a/", "a/b/c/d", "a/B", &format!("a/{}", "b".repeat(300))]
        {
            assert_eq!(bad.parse::<ResourceType>(), Err(InvalidResourceType), "{bad}");
        }
    }

    #[test]
    fn an_amount_stands_below_spec() {
        let field: AmountField = "spec.cache.sizeBytes".parse().unwrap();
        assert_eq!(field.to_pointer(), "/spec/cache/sizeBytes");
        for bad in ["", "spec", "spec.", "status.size", "spec..a", "spec.a/b", "spec.a~1"] {
            assert_eq!(bad.parse::<AmountField>(), Err(InvalidAmountField), "{bad}");
        }
    }
}
