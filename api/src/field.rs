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

/// Where in an object: `spec.ports[0].port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(String);

impl FieldPath {
    /// The object itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// The object's `spec`.
    #[must_use]
    pub fn spec() -> Self {
        Self("spec".to_owned())
    }

    /// A field of this one.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { self.with([".", name, ""]) }
    }

    /// An item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(["[", &index.to_string(), "]"])
    }

    /// A value of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(["[", key, "]"])
    }

    /// Most paths are made and never shown, so they cost one allocation and no formatting.
    fn with(&self, end: [&str; 3]) -> Self {
        let mut path =
            String::with_capacity(self.0.len() + end.iter().map(|part| part.len()).sum::<usize>());
        path.push_str(&self.0);
        path.extend(end);
        Self(path)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The errors of one object, as they are found.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

/// An object with more errors than this has the rest left out: nobody reads them.
const ERRORS_MAX: usize = 64;

impl Errors {
    /// Adds an error.
    pub fn push(
        &mut self,
        path: &FieldPath,
        reason: FieldErrorReason,
        message: String,
        bad_value: Option<String>,
    ) {
        if self.0.len() < ERRORS_MAX {
            self.0.push(FieldError { field: path.to_string(), reason, message, bad_value });
        }
    }

    /// `value` is not acceptable.
    pub fn invalid(
        &mut self,
        path: &FieldPath,
        value: impl fmt::Display,
        message: impl Into<String>,
    ) {
        let value = format!("\"{}\"", value.to_string().escape_debug());
        self.push(path, FieldErrorReason::Invalid, message.into(), Some(value));
    }

    /// The field may not be set.
    pub fn forbidden(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.push(path, FieldErrorReason::Forbidden, message.into(), None);
    }

    /// The field is missing.
    pub fn required(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.push(path, FieldErrorReason::Required, message.into(), None);
    }

    /// `value` was there before.
    pub fn duplicate(&mut self, path: &FieldPath, value: impl fmt::Display) {
        let value = format!("\"{}\"", value.to_string().escape_debug());
        self.push(path, FieldErrorReason::Duplicate, String::new(), Some(value));
    }

    /// The field may not change once set.
    pub fn immutable<T: PartialEq>(&mut self, path: &FieldPath, new: &T, old: Option<&T>) {
        if old.is_some_and(|old| old != new) {
            let message = "is immutable: delete the object and create it again".to_owned();
            self.push(path, FieldErrorReason::Immutable, message, None);
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was found.
    #[must_use]
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_beyond_the_limit_are_left_out() {
        let mut errors = Errors::default();
        for _ in 0..=ERRORS_MAX {
            errors.required(&FieldPath::spec(), "");
        }

        assert_eq!(errors.into_vec().len(), ERRORS_MAX);
    }
}
