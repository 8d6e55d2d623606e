//! [`Refusals`] and [`Precedent`]: what a node left out of a configuration, and what is in force
//! therefore.

use std::collections::BTreeSet;

use isocast_api::agent::{Configuration, Entry, EntryError};

/// What was not taken of a configuration. Together with it, this says exactly what is in force; it
/// is kept with it on disk, so that a restart comes to the same decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusals {
    /// The entries that were refused, in the order of their keys.
    pub errors: Vec<EntryError>,
    /// Versions accepted earlier that stay in force in their place, and what those need.
    pub kept: Configuration,
}

/// What was in force before: the measure of what is new, and where a refused change falls back.
#[derive(Clone, Debug)]
pub struct Precedent<'a> {
    configuration: &'a Configuration,
    kept: &'a Configuration,
    refused: BTreeSet<&'a str>,
}

// === impl Precedent ===

impl<'a> Precedent<'a> {
    /// `configuration` was in force but for `refusals`.
    #[must_use]
    pub fn new(configuration: &'a Configuration, refusals: &'a Refusals) -> Self {
        Self {
            configuration,
            kept: &refusals.kept,
            refused: refusals.errors.iter().map(|error| error.key.as_str()).collect(),
        }
    }

    /// The version of an entry that was in force.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a Entry> {
        let of_configuration =
            || self.configuration.get(key).filter(|_| !self.refused.contains(key));
        self.kept.get(key).or_else(of_configuration)
    }
}
