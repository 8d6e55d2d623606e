//! [`Term`]: a word that a record can be found by, and [`Wanted`]: the words of those that are looked for.
//!
//! Terms are hashes, stored in summaries of the log (see `store::index`): what they are made of must not
//! change while such summaries are about. Two words may have one hash: a term says where a record may be,
//! never that it is.

use jiff::Timestamp;

use super::search::called;
use crate::store::{Audit, Key};

/// A field of a record, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Term(pub(crate) u64);

/// Which records are looked for, as far as summaries can say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// One of each of these.
    pub(crate) terms: Vec<Vec<Term>>,
    /// Not before.
    pub(crate) since: Option<Timestamp>,
    /// Not after.
    pub(crate) until: Option<Timestamp>,
}

/// What a term is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    Actor,
    Id,
    Name,
    Namespace,
    Outcome,
    Resource,
    Scope,
    Uid,
    Verb,
}

impl Term {
    /// FNV-1a of the field and the text, mixed as MurmurHash3 ends: stable, and good enough for what
    /// nobody gains by colliding with.
    pub(crate) fn new(field: Field, text: &str) -> Self {
        let number = match field {
            Field::Actor => 0,
            Field::Id => 1,
            Field::Name => 2,
            Field::Namespace => 3,
            Field::Outcome => 4,
            Field::Resource => 5,
            Field::Scope => 6,
            Field::Uid => 7,
            Field::Verb => 8,
        };
        let bytes = std::iter::once(number).chain(text.bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        Self(hash ^ (hash >> 33))
    }
}

/// Shows what a record can be found by, which is about changes at `keys` too.
pub(crate) fn each<'a>(
    audit: &Audit,
    keys: impl Iterator<Item = &'a Key>,
    show: &mut impl FnMut(Term),
) {
    let details = &audit.details;
    for actor in details.impersonator.as_deref().into_iter().chain([audit.actor.as_str()]) {
        show(Term::new(Field::Actor, actor));
        show(Term::new(Field::Actor, called(actor).1));
    }
    for step in details.containers() {
        show(Term::new(Field::Scope, step));
    }
    show(Term::new(Field::Id, details.id.as_deref().unwrap_or_default()));
    show(Term::new(Field::Outcome, details.outcome.as_str()));
    show(Term::new(Field::Uid, &details.uid));
    show(Term::new(Field::Verb, &audit.verb));
    let mut named = |resource: &str, namespace: &str, name: &str| {
        show(Term::new(Field::Resource, resource));
        if let Some((plural, _)) = resource.split_once('.') {
            show(Term::new(Field::Resource, plural));
        }
        show(Term::new(Field::Namespace, namespace));
        show(Term::new(Field::Name, name));
    };
    named(&details.resource, &details.namespace, &details.name);
    for key in keys {
        named(key.resource().as_str(), key.container().unwrap_or_default(), key.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_what_it_was_when_it_was_stored() {
        assert_eq!(Term::new(Field::Actor, "alice").0, 15_286_580_999_565_818_690);
        assert_ne!(Term::new(Field::Actor, "alice"), Term::new(Field::Name, "alice"));
    }
}
