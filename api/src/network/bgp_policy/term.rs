//! The terms of a BGPPolicy.
//!
//! The agent reads them in this very form, so a field here is one that its speaker knows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    field::{Errors, FieldPath},
    network::{Connection, Family},
    text::{AsPathPattern, CommunityPattern, IpPrefix, NextHopRule},
};

/// One sentence of a policy: to routes that match, something is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyTerm {
    /// What it is called by where somebody asks why. Unique in the policy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Which routes. Default: all. Conditions that are given must all hold; of a list, one entry
    /// must.
    #[serde(rename = "match", default)]
    pub when: TermMatch,
    /// What becomes of their attributes. Later terms see them changed.
    #[serde(default)]
    pub set: TermSet,
    /// What becomes of them.
    #[serde(default)]
    pub then: Then,
}

/// What becomes of a route that matches.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    Default,
)]
pub enum Then {
    /// It passes; later terms are not asked.
    Accept,
    /// The next term decides; after the last one the route is rejected.
    #[default]
    Next,
    /// It does not pass.
    Reject,
}

/// Which routes a term is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TermMatch {
    /// The prefix is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096), extend("x-kubernetes-list-type" = "atomic"))]
    pub prefixes: Vec<PrefixRange>,
    /// The route carries a community like one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub communities: Vec<CommunityPattern>,
    /// What the AS path is like.
    pub as_path: AsPathMatch,
    /// What kind of neighbour the route comes from, on import, or goes to, on export.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub connections: Vec<Connection>,
    /// Whether that neighbour is in our own AS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "atomic"))]
    pub sessions: Vec<SessionKind>,
    /// The prefix's IP version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "atomic"))]
    pub families: Vec<Family>,
    /// The ORIGIN attribute (RFC 4271 §5.1.1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "atomic"))]
    pub origins: Vec<OriginCode>,
    /// The next hop lies in one of these. A node's own route has none yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096), extend("x-kubernetes-list-type" = "atomic"))]
    pub next_hops: Vec<IpPrefix>,
    /// Whether the node itself announces the route, or a peer brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<RouteSource>,
    /// Whether the prefix lies in what the node may announce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_space: Option<bool>,
}

/// Prefixes inside of one, by their length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrefixRange {
    /// The prefix. Alone it matches itself and nothing inside of it.
    pub prefix: IpPrefix,
    /// Shortest length that matches. Alone, everything inside of `prefix` that is that long or
    /// longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub ge: Option<u8>,
    /// Longest length that matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub le: Option<u8>,
}

/// What an AS path is like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AsPathMatch {
    /// One of these is in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "atomic"))]
    pub contains: Vec<u32>,
    /// The last one, where the route began, is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "atomic"))]
    pub origin: Vec<u32>,
    /// The first one, next to us, is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "atomic"))]
    pub neighbour: Vec<u32>,
    /// The whole path is like one of these, hop by hop from the neighbour to the origin: 65010,
    /// 64512..65534 or [65010,64512..65534] for one AS, ? for any one, a + after one of these for one
    /// or more, * for any number of any. "65010+ * [64512..65534]", for example.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub patterns: Vec<AsPathPattern>,
    /// It has at least this many hops.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 255))]
    pub length_min: Option<u16>,
    /// It has at most this many hops.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 255))]
    pub length_max: Option<u16>,
    /// Whether a number is in it that no network on the Internet has: private, documentation,
    /// AS_TRANS or reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<bool>,
}

/// Whether a neighbour is in our own AS.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum SessionKind {
    /// It is not (eBGP).
    External,
    /// It is (iBGP).
    Internal,
}

/// ORIGIN (RFC 4271 §5.1.1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum OriginCode {
    /// Learned by EGP.
    EGP,
    /// Interior to the AS where the route began.
    IGP,
    /// Learned some other way.
    Incomplete,
}

/// Who brought a route in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum RouteSource {
    /// A peer.
    Learned,
    /// The node itself.
    Own,
}

/// What becomes of a route's attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TermSet {
    /// LOCAL_PREF; 100 without any, more is better. Inside an AS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC; less is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// Communities.
    pub communities: CommunityEdit,
    /// How often our own AS is put before the path, beyond the one time it always is.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(max = 16))]
    pub prepend: u8,
    /// Next hop: `Self`, `Unchanged`, or an address for routes of its IP version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHopRule>,
}

/// What becomes of a route's communities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CommunityEdit {
    /// First, all there are make way for these. An empty list takes all away.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub set: Option<Vec<CommunityPattern>>,
    /// Then those like these go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub remove: Vec<CommunityPattern>,
    /// Then these come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub add: Vec<CommunityPattern>,
}

/// What a verdict names where no term decided; no term may be called so.
pub const END_OF_POLICY: &str = "end-of-policy";

impl PolicyTerm {
    pub(super) fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        if self.name == END_OF_POLICY {
            errors.invalid(&path.field("name"), &self.name, "is what comes after the last term");
        }
        let when = path.field("match");
        for (index, range) in self.when.prefixes.iter().enumerate() {
            range.validate(&when.field("prefixes").index(index), errors);
        }
        self.when.as_path.validate(&when.field("asPath"), errors);
        self.set.communities.validate(&path.field("set").field("communities"), errors);
    }
}

impl PrefixRange {
    fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        let prefix = self.prefix.get();
        let (own, bits) = (prefix.prefix_len(), prefix.max_prefix_len());
        let mut within = |name, value: Option<u8>, min: u8| {
            if let Some(value) = value.filter(|value| !(min..=bits).contains(value)) {
                let message = format!("must be between {min} and {bits}");
                errors.invalid(&path.field(name), value, message);
            }
        };
        within("ge", self.ge, own);
        // Measured against a sane `ge`, so that one mistake is one error.
        within("le", self.le, self.ge.unwrap_or(own).clamp(own, bits));
    }
}

impl AsPathMatch {
    fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        if let (Some(min), Some(max)) = (self.length_min, self.length_max)
            && min > max
        {
            errors.invalid(&path.field("lengthMax"), max, "must not be below lengthMin");
        }
    }
}

impl CommunityEdit {
    fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        let lists = [("set", self.set.as_deref().unwrap_or_default()), ("add", &self.add)];
        for (name, list) in lists {
            for (index, pattern) in list.iter().enumerate().filter(|(_, it)| !it.is_exact()) {
                let path = path.field(name).index(index);
                errors.invalid(&path, pattern, "may hold no *: that is for matching and removing");
            }
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_zero(value: &u8) -> bool {
    *value == 0
}
