//! Field paths and the errors that name them, in the words of Kubernetes' API.

use std::fmt;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `spec.ports[0].port`
    pub field: String,
    /// Class of the error.
    pub reason: FieldErrorReason,
    /// What would be right, as the rest of a sentence: `must be between 1 and 65535`.
    pub message: String,
    /// The offending value as JSON text, where showing it helps.
    pub bad_value: Option<String>,
}

/// Classes of field errors; [`FieldErrorReason::as_str`] is what a Status cause carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldErrorReason {
    /// Appears more than once in a list that is a set or a map.
    Duplicate,
    /// May not be set here.
    Forbidden,
    /// May not change once set.
    Immutable,
    /// Of the right type, but not acceptable.
    Invalid,
    /// Not one of the known values.
    NotSupported,
    /// Missing.
    Required,
    /// Longer than its limit.
    TooLong,
    /// More items than the list's limit.
    TooMany,
    /// Of another JSON type.
    TypeInvalid,
    /// Not a field of this kind.
    Unknown,
}

impl FieldErrorReason {
    /// The machine-readable reason in a Status cause.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden | Self::Unknown => "FieldValueForbidden",
            Self::Immutable | Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Required => "FieldValueRequired",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Duplicate => "Duplicate value",
            Self::Forbidden | Self::Unknown => "Forbidden",
            Self::Immutable | Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Required => "Required value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
        }
    }
}

impl fmt::Display for FieldError {
    /// `spec.ports[0].port: Invalid value: 0: must be between 1 and 65535`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason.heading())?;
        if let Some(value) = &self.bad_value {
            write!(f, ": {value}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}
