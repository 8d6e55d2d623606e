//! From [`Term`]s to what is evaluated: every list sorted, every bound checked.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::community::CommunityPattern;
use super::edits::CompiledSet;
use super::limits::{
    ASNS_MAX, COMMUNITY_PATTERNS_MAX, PATH_PATTERNS_MAX, PREFIXES_PER_TERM_MAX, PREPEND_MAX,
    TERM_NAME_BYTES_MAX, TERMS_MAX,
};
use super::path_pattern::AsPathPattern;
use super::prefix_set::{InvalidRange, PrefixSet};
use super::term::{
    AsPathMatch, CommunityEdit, Connection, IpVersion, Match, OriginCode, PrefixRange, SessionKind,
    Set, Source, Term, Then,
};
use super::{Context, END_OF_POLICY};
use crate::types::{Asn, PeerKind};
use crate::wire::as_path::AsPath;
use crate::wire::attribute::{Origin, PathAttributes};

/// Terms that make no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A community with `*` cannot be added.
    #[error("term {term:?} adds {pattern}: only removing takes a *")]
    AddsPattern {
        /// The term.
        term: String,
        /// The community.
        pattern: CommunityPattern,
    },
    /// Nobody could tell the two apart in a verdict.
    #[error("two terms are called {0:?}")]
    Duplicate(String),
    /// Empty, too long, or the name of what comes after the last term.
    #[error(
        "{0:?} cannot be a term's name: 1 to {TERM_NAME_BYTES_MAX} bytes, not {END_OF_POLICY:?}"
    )]
    Name(String),
    /// Lengths that the prefix cannot have.
    #[error("term {term:?}: {source}")]
    Range {
        /// The term.
        term: String,
        /// The range.
        source: InvalidRange,
    },
    /// See [`super::limits`].
    #[error("term {term:?} has {count} {what}, at most {limit} are taken")]
    TooMany {
        /// The term.
        term: String,
        /// What it has too many of.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// See [`TERMS_MAX`].
    #[error("{0} terms, at most {TERMS_MAX} are taken")]
    TooManyTerms(usize),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompiledTerm {
    pub(super) name: Box<str>,
    pub(super) set: CompiledSet,
    pub(super) then: Then,
    when: CompiledMatch,
}

#[derive(Debug, PartialEq, Eq)]
struct CompiledMatch {
    prefixes: Option<PrefixSet>,
    communities: Box<[CommunityPattern]>,
    as_path: CompiledPath,
    connections: Box<[Connection]>,
    sessions: Box<[SessionKind]>,
    families: Box<[IpVersion]>,
    origins: Box<[OriginCode]>,
    next_hops: Option<PrefixSet>,
    source: Option<Source>,
    own_space: Option<bool>,
}

#[derive(Debug, PartialEq, Eq)]
struct CompiledPath {
    contains: Box<[u32]>,
    origin: Box<[u32]>,
    neighbour: Box<[u32]>,
    patterns: Box<[AsPathPattern]>,
    length_min: usize,
    length_max: usize,
    reserved: Option<bool>,
}

/// Compiles the terms of one policy.
pub(super) fn compile(terms: &[Term]) -> Result<Box<[CompiledTerm]>, PolicyError> {
    if terms.len() > TERMS_MAX {
        return Err(PolicyError::TooManyTerms(terms.len()));
    }
    let mut names = BTreeSet::new();
    if let Some(term) = terms.iter().find(|term| !names.insert(&term.name)) {
        return Err(PolicyError::Duplicate(term.name.clone()));
    }
    terms.iter().map(CompiledTerm::new).collect()
}

impl CompiledTerm {
    fn new(term: &Term) -> Result<Self, PolicyError> {
        let name = &term.name;
        if name.is_empty() || name.len() > TERM_NAME_BYTES_MAX || name == END_OF_POLICY {
            return Err(PolicyError::Name(name.clone()));
        }
        Ok(Self {
            name: name.as_str().into(),
            set: compile_set(name, &term.set)?,
            then: term.then,
            when: CompiledMatch::new(name, &term.when)?,
        })
    }

    pub(super) fn matches(
        &self,
        prefix: IpNet,
        attributes: &PathAttributes,
        context: &Context<'_>,
    ) -> bool {
        self.when.matches(prefix, attributes, context)
    }

    pub(super) fn reads_prefix(&self) -> bool {
        // The family is the prefix's, but also the UPDATE's: all its prefixes share it.
        self.when.prefixes.is_some() || self.when.own_space.is_some()
    }

    pub(super) fn reads_own_space(&self) -> bool {
        self.when.own_space.is_some()
    }
}

impl CompiledMatch {
    fn new(term: &str, when: &Match) -> Result<Self, PolicyError> {
        let range = |source| PolicyError::Range { term: term.to_owned(), source };
        let within = |count, limit, what| within(term, count, limit, what);
        within(when.prefixes.len(), PREFIXES_PER_TERM_MAX, "prefixes")?;
        within(when.next_hops.len(), PREFIXES_PER_TERM_MAX, "next hops")?;
        within(when.communities.len(), COMMUNITY_PATTERNS_MAX, "communities")?;
        let set = |ranges: &[PrefixRange]| {
            (!ranges.is_empty()).then(|| PrefixSet::new(ranges)).transpose().map_err(range)
        };
        let next_hops: Vec<_> =
            when.next_hops.iter().copied().map(PrefixRange::or_longer).collect();
        Ok(Self {
            prefixes: set(&when.prefixes)?,
            communities: when.communities.as_slice().into(),
            as_path: CompiledPath::new(term, &when.as_path)?,
            connections: when.connections.as_slice().into(),
            sessions: when.sessions.as_slice().into(),
            families: when.families.as_slice().into(),
            origins: when.origins.as_slice().into(),
            next_hops: set(&next_hops)?,
            source: when.source,
            own_space: when.own_space,
        })
    }

    /// Cheapest first.
    fn matches(&self, prefix: IpNet, route: &PathAttributes, context: &Context<'_>) -> bool {
        self.source.is_none_or(|source| source == context.source)
            && is_one_of(&self.connections, &context.connection)
            && is_one_of(&self.sessions, &session_kind(context.peer_kind))
            && is_one_of(&self.families, &ip_version(&prefix))
            && is_one_of(&self.origins, &origin_code(route.origin))
            && self.as_path.matches(&route.as_path)
            && self.matches_communities(route)
            && self.prefixes.as_ref().is_none_or(|set| set.contains(&prefix))
            && self.next_hops.as_ref().is_none_or(|set| {
                context.next_hop.is_some_and(|hop| set.contains(&hop.address().into()))
            })
            && self
                .own_space
                .is_none_or(|wanted| context.own_space.permit(prefix).is_some() == wanted)
    }

    fn matches_communities(&self, route: &PathAttributes) -> bool {
        let patterns = &self.communities;
        patterns.is_empty() || patterns.iter().any(|it| it.matches(&route.communities))
    }
}

impl CompiledPath {
    fn new(term: &str, path: &AsPathMatch) -> Result<Self, PolicyError> {
        let sorted = |asns: &[u32]| {
            within(term, asns.len(), ASNS_MAX, "AS numbers")?;
            let mut sorted: Box<[u32]> = asns.into();
            sorted.sort_unstable();
            Ok(sorted)
        };
        within(term, path.patterns.len(), PATH_PATTERNS_MAX, "AS path patterns")?;
        Ok(Self {
            contains: sorted(&path.contains)?,
            origin: sorted(&path.origin)?,
            neighbour: sorted(&path.neighbour)?,
            patterns: path.patterns.as_slice().into(),
            length_min: path.length_min.map_or(0, usize::from),
            length_max: path.length_max.map_or(usize::MAX, usize::from),
            reserved: path.reserved,
        })
    }

    fn matches(&self, whole: &AsPath) -> bool {
        let AsPath(path) = whole;
        let has = |list: &[u32], asn: &Asn| list.binary_search(&asn.0).is_ok();
        let end = |list: &[u32], asn: Option<&Asn>| {
            list.is_empty() || asn.is_some_and(|asn| has(list, asn))
        };
        (self.length_min..=self.length_max).contains(&path.len())
            && end(&self.neighbour, path.first())
            && end(&self.origin, path.last())
            && (self.contains.is_empty() || path.iter().any(|asn| has(&self.contains, asn)))
            && self.reserved.is_none_or(|wanted| path.iter().any(is_reserved) == wanted)
            && (self.patterns.is_empty() || self.patterns.iter().any(|it| it.matches(whole)))
    }
}

fn compile_set(term: &str, set: &Set) -> Result<CompiledSet, PolicyError> {
    let CommunityEdit { set: communities, remove, add } = &set.communities;
    let given = communities.as_deref().unwrap_or_default();
    within(term, given.len(), COMMUNITY_PATTERNS_MAX, "communities to set")?;
    within(term, remove.len(), COMMUNITY_PATTERNS_MAX, "communities to remove")?;
    within(term, add.len(), COMMUNITY_PATTERNS_MAX, "communities to add")?;
    within(term, set.prepend.into(), PREPEND_MAX.into(), "prepends")?;
    if let Some(pattern) = given.iter().chain(add).find(|pattern| !pattern.is_exact()) {
        return Err(PolicyError::AddsPattern { term: term.to_owned(), pattern: *pattern });
    }
    Ok(CompiledSet {
        local_pref: set.local_pref,
        med: set.med,
        communities: communities.as_deref().map(Into::into),
        remove: remove.as_slice().into(),
        add: add.as_slice().into(),
        prepend: set.prepend,
        next_hop: set.next_hop,
    })
}

fn within(term: &str, count: usize, limit: usize, what: &'static str) -> Result<(), PolicyError> {
    if count > limit {
        return Err(PolicyError::TooMany { term: term.to_owned(), what, count, limit });
    }
    Ok(())
}

fn is_one_of<T: PartialEq>(list: &[T], value: &T) -> bool {
    list.is_empty() || list.contains(value)
}

const fn session_kind(kind: PeerKind) -> SessionKind {
    match kind {
        PeerKind::External => SessionKind::External,
        PeerKind::Internal => SessionKind::Internal,
    }
}

const fn ip_version(prefix: &IpNet) -> IpVersion {
    match prefix {
        IpNet::V4(_) => IpVersion::IPv4,
        IpNet::V6(_) => IpVersion::IPv6,
    }
}

const fn origin_code(origin: Origin) -> OriginCode {
    match origin {
        Origin::Igp => OriginCode::Igp,
        Origin::Egp => OriginCode::Egp,
        Origin::Incomplete => OriginCode::Incomplete,
    }
}

/// See [`AsPathMatch::reserved`].
const fn is_reserved(asn: &Asn) -> bool {
    matches!(
        asn.0,
        0 | 23_456 | 64_496..=65_551 | 4_200_000_000..=u32::MAX
    )
}
