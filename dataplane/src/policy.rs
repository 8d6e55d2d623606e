//! What services let in, as [`crate::Tables`] say it.

use std::sync::Arc;

use ipnet::IpNet;

/// What one service lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePolicy {
    /// Whom it lets in; `None`: everyone.
    pub sources: Option<SourceList>,
    /// What it takes at most.
    pub ceilings: Ceilings,
    /// New flows beyond the ceiling prove their address instead of being dropped.
    pub syn_cookies: bool,
}

/// Whom a service lets in: the most specific rule that covers a source decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceList {
    /// No prefix twice.
    pub rules: Arc<[SourceRule]>,
    /// Whether a source is let in that no rule covers.
    pub others_allowed: bool,
}

/// Whether the sources of a prefix are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRule {
    /// The sources; bits beyond the length mean nothing.
    pub prefix: IpNet,
    /// Let in, or kept out.
    pub allowed: bool,
}

/// What is taken a second, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Packets; `None`: any number.
    pub packets_per_second: Option<u32>,
    /// Connections that begin (TCP SYN); `None`: any number.
    pub new_flows_per_second: Option<u32>,
}

impl ServicePolicy {
    /// Everything is let in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.sources.is_none() && self.ceilings.is_none()
    }
}

impl Ceilings {
    /// There are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
