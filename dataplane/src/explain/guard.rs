//! Whom a service lets in, and what it takes at most: asked before its ring is.
//!
//! A source list decides by the tables alone. How full the buckets of ceilings are no table says,
//! so that is part of the question: [`Level`].

use std::net::IpAddr;

use ipnet::IpNet;
use isocast_dataplane_common::{Outcome, directory::Value, policy::Policy};

use super::{Lookup, Question};
use crate::Ceilings;

/// What a service with a source list or ceilings asks of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// What its source list says; absent: it has none.
    pub source: Option<SourceVerdict>,
    /// Its ceilings, without figures where a predecessor set them; absent: it has none.
    pub ceilings: Option<Ceilings>,
    /// The same of all services of its tenant together.
    pub tenant: Option<Ceilings>,
    /// The packet begins a connection, and beyond the ceiling it is not dropped: its client proves
    /// its address.
    pub may_challenge: bool,
    /// What is supposed of the ceilings, or was found.
    pub level: Level,
}

/// What a source list says of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceVerdict {
    /// Let in, or kept out.
    pub allowed: bool,
    /// The most specific prefix that covers it; absent: none does.
    pub rule: Option<IpNet>,
}

/// How full a packet finds the buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// There is a token for it, if one is needed.
    #[default]
    Within,
    /// Its client has to prove its address.
    Challenged,
    /// It is dropped for this reason.
    Over(Outcome),
}

impl Guard {
    /// The guard of a service; none: everything is let in.
    pub(super) fn of(
        tables: &impl Lookup,
        service: &Value,
        question: &Question,
        level: Level,
    ) -> Option<Self> {
        if service.tenant & Value::GUARDED == 0 {
            return None;
        }
        let Policy { flags, list, tenant_bucket, .. } = tables.policy(service.service);
        let has = |flag| flags & flag != 0;
        let ceilings = |bucket| tables.ceilings(bucket).unwrap_or_default();
        let listed = has(Policy::LISTED);
        Some(Self {
            source: listed.then(|| SourceVerdict::of(tables, list, flags, question.source())),
            ceilings: has(Policy::LIMITED).then(|| ceilings(service.service.into())),
            tenant: has(Policy::TENANT_LIMITED).then(|| ceilings(tenant_bucket)),
            may_challenge: has(Policy::LIMITED)
                && has(Policy::COOKIES)
                && question.begins_connection(),
            level,
        })
    }

    /// Why the packet is kept out.
    pub(super) fn refusal(&self) -> Option<Outcome> {
        match (self.source, self.level) {
            (Some(SourceVerdict { allowed: false, .. }), _) => Some(Outcome::SourceNotAllowed),
            (_, Level::Over(reason)) => Some(reason),
            (_, Level::Within | Level::Challenged) => None,
        }
    }

    pub(super) fn is_challenged(&self) -> bool {
        self.level == Level::Challenged
    }
}

impl SourceVerdict {
    fn of(tables: &impl Lookup, list: u32, flags: u32, source: IpAddr) -> Self {
        match tables.rule(list, source) {
            Some(rule) => Self { allowed: rule.allowed, rule: Some(rule.prefix) },
            None => Self { allowed: flags & Policy::OTHERS_ALLOWED != 0, rule: None },
        }
    }
}
