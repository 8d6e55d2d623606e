//! What is wrong with an UPDATE, and what RFC 7606 makes of it.
//!
//! The disposition is part of the fault: no code path can see the one without the other.

use super::notification::{Notification, code};

/// What a fault costs, mildest first (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disposition {
    /// The attribute is dropped, the route is used without it.
    Discard,
    /// The routes of the message are handled as withdrawn.
    TreatAsWithdraw,
    /// The session ends. RFC 7606 §2 would let a family be disabled alone where its prefixes cannot be
    /// read; a family that is gone while the session looks well is the worse outage.
    Reset,
}

/// Subcodes of an UPDATE message error (RFC 4271 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UpdateError {
    /// Malformed attribute list.
    AttributeList = 1,
    /// Unrecognized well-known attribute.
    UnrecognizedWellKnown = 2,
    /// Missing well-known attribute.
    MissingWellKnown = 3,
    /// Attribute flags error.
    Flags = 4,
    /// Attribute length error.
    Length = 5,
    /// Invalid ORIGIN attribute.
    Origin = 6,
    /// Invalid NEXT_HOP attribute.
    NextHop = 8,
    /// Optional attribute error.
    OptionalAttribute = 9,
    /// Invalid network field.
    Network = 10,
    /// Malformed AS_PATH.
    AsPath = 11,
}

/// One fault of an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error:?}{}: {disposition:?}", attribute_text(*attribute))]
pub struct Fault {
    /// What it costs.
    pub disposition: Disposition,
    /// What it is.
    pub error: UpdateError,
    /// The attribute at fault, if it is one.
    pub attribute: Option<u8>,
}

impl Fault {
    pub(super) const fn new(disposition: Disposition, error: UpdateError) -> Self {
        Self { disposition, error, attribute: None }
    }

    pub(super) const fn of(attribute: u8, disposition: Disposition, error: UpdateError) -> Self {
        Self { disposition, error, attribute: Some(attribute) }
    }

    /// What the peer is told if this ends the session. `attribute`: the one at fault, as received.
    #[must_use]
    pub fn notification(&self, attribute: &[u8]) -> Notification {
        // RFC 4271 §6.3: an attribute goes along that is wrong by itself, not by its place in the list.
        let told = if self.error == UpdateError::AttributeList { &[] } else { attribute };
        Notification::with_data(code::UPDATE, self.error as u8, told)
    }
}

fn attribute_text(attribute: Option<u8>) -> String {
    attribute.map(|code| format!(" in attribute {code}")).unwrap_or_default()
}
