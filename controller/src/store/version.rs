//! [`Version`]: what `metadata.resourceVersion` says.
//!
//! A change-set of several objects has one revision, and each object in it a version of its own, in the
//! order in which watchers get them. Clients of Kubernetes go on from the version of the last object
//! they were given: what comes after it in its change-set is still to come.
//!
//! A version is the revision and three digits: the last object of a change-set has 999, the one before
//! it 998, and so on. As numbers they are in the order of what happened, as Kubernetes has it.

use std::{fmt, num::ParseIntError, str::FromStr};

use super::Revision;

/// A change-set, and how far into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

/// Versions of a change-set. Objects before the last 999 share the first of them; whoever has seen one
/// of those gets them all again.
const PLACES: u64 = 1000;

impl Version {
    /// Of Kubernetes' clients, those who do not care.
    pub const ANY: Self = Self(0);

    /// The versions of the `count` objects that change at `revision`, in order.
    pub(crate) fn of_each(revision: Revision, count: usize) -> impl Iterator<Item = Self> {
        let first = revision.0.saturating_mul(PLACES);
        let last = Self::from(revision).0;
        (0..count as u64).rev().map(move |after| Self(last.saturating_sub(after).max(first)))
    }

    /// The change-set.
    pub fn revision(self) -> Revision {
        Revision(self.0 / PLACES)
    }

    /// The first version that somebody may not have seen who has seen this one.
    pub(super) fn following(self) -> Self {
        let is_shared = self.0.is_multiple_of(PLACES);
        Self(if is_shared { self.0 } else { self.0.saturating_add(1) })
    }
}

impl From<Revision> for Version {
    /// Everything that happened at `revision`.
    fn from(revision: Revision) -> Self {
        Self(revision.0.saturating_mul(PLACES).saturating_add(PLACES - 1))
    }
}

impl FromStr for Version {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_each(revision: u64, count: usize) -> Vec<u64> {
        Version::of_each(Revision(revision), count).map(|version| version.0).collect()
    }

    #[test]
    fn the_objects_of_a_change_set_are_numbered_up_to_its_end() {
        assert_eq!(of_each(7, 1), [7999]);
        assert_eq!(of_each(7, 3), [7997, 7998, 7999]);
        assert_eq!(Version::from(Revision(7)), Version(7999));
        assert_eq!(Version(7997).revision(), Revision(7));
    }

    #[test]
    fn who_has_seen_an_object_has_not_seen_the_next_one() {
        let versions: Vec<Version> = Version::of_each(Revision(7), 3).collect();
        assert!(versions.windows(2).all(|pair| pair[0].following() == pair[1]));
        assert_eq!(versions[2].following().revision(), Revision(8));
    }

    #[test]
    fn of_a_change_set_that_is_too_large_nothing_is_skipped() {
        let versions = of_each(7, 1002);
        assert_eq!(versions[..5], [7000, 7000, 7000, 7001, 7002]);
        assert_eq!(Version(7000).following(), Version(7000));
        assert!(of_each(7, 999).iter().all(|version| *version > 7000));
    }
}
