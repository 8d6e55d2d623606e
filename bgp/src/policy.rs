//! Policies: which routes pass, and what becomes of their attributes.
//!
//! A [`Policy`] is ordered [`Term`]s, compiled. The first term that accepts or rejects decides; a
//! term that does neither may have changed the route, and later terms see it changed. Where no term
//! decides, the route is rejected (RFC 8212 §2): what nobody thought of does not pass.
//!
//! Every [`Verdict`] names the term it came from, so that "why" always has an answer. A policy is
//! data and cheap to clone; evaluation neither fails nor, for a route that no term changes,
//! allocates. What a verdict depends on beyond the route is in its [`Context`].
//!
//! Never here: loop detection, OTC (RFC 9234), well-known communities that bind every speaker, the
//! export guard. Those hold whatever a policy says.

mod builtin;
mod community;
mod compiled;
mod edits;
pub mod limits;
mod path_pattern;
mod prefix_set;
mod preview;
mod term;

use std::borrow::Cow;
use std::sync::Arc;

use ipnet::IpNet;

use self::compiled::CompiledTerm;
pub use self::{
    builtin::{builtin_export, builtin_import},
    community::{CommunityPattern, InvalidPattern},
    compiled::PolicyError,
    edits::Edits,
    path_pattern::{AsPathPattern, InvalidPathPattern},
    prefix_set::{InvalidRange, PrefixSet},
    preview::{Preview, preview},
    term::{
        AsPathMatch, CommunityEdit, Connection, IpVersion, Match, NextHopEdit, OriginCode,
        PrefixRange, SessionKind, Set, Source, Term, Then,
    },
};
use crate::guard::ExportGuard;
use crate::types::{Asn, PeerKind};
use crate::wire::attribute::PathAttributes;
use crate::wire::next_hop::NextHop;

/// A compiled policy. See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy(Arc<Compiled>);

#[derive(Debug, PartialEq, Eq)]
struct Compiled {
    name: Box<str>,
    terms: Box<[CompiledTerm]>,
    otherwise: Otherwise,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Otherwise {
    Accept,
    Reject,
}

/// What a policy says of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The route passes, changed by `edits`.
    Accept {
        /// Name of the term that said so.
        term: &'a str,
        /// What becomes of its attributes.
        edits: Edits<'a>,
    },
    /// The route does not pass.
    Reject {
        /// Name of the term that said so.
        term: &'a str,
    },
}

/// What a verdict depends on beyond the route itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Our own AS.
    pub local_asn: Asn,
    /// What kind of neighbour the route comes from, on import, or goes to, on export.
    pub connection: Connection,
    /// Whether that neighbour is in our AS.
    pub peer_kind: PeerKind,
    /// Who brought the route in.
    pub source: Source,
    /// The route's next hop; none for one of our own.
    pub next_hop: Option<NextHop>,
    /// The space that this speaker may announce.
    pub own_space: &'a ExportGuard,
}

/// What a verdict names where no term decided.
pub const END_OF_POLICY: &str = "end-of-policy";

impl Policy {
    /// Compiles terms.
    ///
    /// # Errors
    /// The first term that goes beyond a limit or contradicts itself.
    pub fn compile(name: &str, terms: &[Term]) -> Result<Self, PolicyError> {
        let terms = compiled::compile(terms)?;
        Ok(Self::new(name, terms, Otherwise::Reject))
    }

    /// Lets every route pass as it is.
    #[must_use]
    pub fn accept_all() -> Self {
        Self::new("accept-all", Box::default(), Otherwise::Accept)
    }

    /// Lets no route pass: what an eBGP session without policies has (RFC 8212).
    #[must_use]
    pub fn reject_all() -> Self {
        Self::new("reject-all", Box::default(), Otherwise::Reject)
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether a verdict depends on the prefix. If not, one serves every prefix of an UPDATE.
    #[must_use]
    pub fn reads_prefix(&self) -> bool {
        self.0.terms.iter().any(CompiledTerm::reads_prefix)
    }

    /// Whether a verdict depends on [`Context::own_space`]: if so, routes are to be judged anew
    /// when that changes.
    #[must_use]
    pub fn reads_own_space(&self) -> bool {
        self.0.terms.iter().any(CompiledTerm::reads_own_space)
    }

    /// The verdict on every route there is, if it is the same for all: such a policy need not be
    /// asked.
    #[must_use]
    pub fn constant(&self) -> Option<Verdict<'_>> {
        let verdict = match self.0.otherwise {
            Otherwise::Accept => Verdict::Accept { term: END_OF_POLICY, edits: Edits::none() },
            Otherwise::Reject => Verdict::Reject { term: END_OF_POLICY },
        };
        self.0.terms.is_empty().then_some(verdict)
    }

    /// Judges a route.
    #[must_use]
    pub fn evaluate<'a>(
        &'a self,
        prefix: IpNet,
        attributes: &PathAttributes,
        context: &Context<'_>,
    ) -> Verdict<'a> {
        let mut route = Cow::Borrowed(attributes);
        let mut edits = Edits::new(context.local_asn);
        for term in &self.0.terms {
            if !term.matches(prefix, &route, context) {
                continue;
            }
            match term.then {
                Then::Accept => {
                    edits.push(&term.set);
                    return Verdict::Accept { term: &term.name, edits };
                }
                Then::Reject => return Verdict::Reject { term: &term.name },
                // Only now is a copy needed: somebody after this will look at what it set.
                Then::Next if edits.push(&term.set) => {
                    term.set.apply(context.local_asn, route.to_mut());
                }
                Then::Next => {}
            }
        }
        match self.0.otherwise {
            Otherwise::Accept => Verdict::Accept { term: END_OF_POLICY, edits },
            Otherwise::Reject => Verdict::Reject { term: END_OF_POLICY },
        }
    }

    fn new(name: &str, terms: Box<[CompiledTerm]>, otherwise: Otherwise) -> Self {
        Self(Arc::new(Compiled { name: name.into(), terms, otherwise }))
    }
}

impl Verdict<'_> {
    /// Whether the route passes.
    #[must_use]
    pub const fn is_accept(&self) -> bool {
        matches!(self, Self::Accept { .. })
    }

    /// Name of the term that decided.
    #[must_use]
    pub const fn term(&self) -> &str {
        match self {
            Self::Accept { term, .. } | Self::Reject { term } => term,
        }
    }
}
