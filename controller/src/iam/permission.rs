//! [`Catalog`]: every permission there is, derived from the kinds, and sets of them.
//!
//! A kind that is declared has permissions by that alone: there is no second list that could lag.

use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use isocast_api::{
    ResourceKind,
    core::{Alias, aliases},
    iam::{PermissionPattern, PermissionWord},
    registry::{CORE, KindDescriptor, kinds},
};

/// One permission, as its place in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Permission(u16);

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PermissionSet([u64; WORDS]);

/// Every permission.
#[derive(Debug)]
pub(crate) struct Catalog {
    entries: Vec<Entry>,
    resources: HashMap<String, Vec<(&'static str, &'static str, Permission)>, RandomState>,
}

/// What a permission is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: &'static str,
    pub(crate) verb: &'static str,
}

/// Room for 512 permissions.
const WORDS: usize = 8;

const VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const READ_VERBS: &[&str] = &["get", "list", "watch"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// Subresources besides `status`, and what can be done to them.
const SUBRESOURCES: &[(ResourceKind, &str, &[&str])] = &[
    (ResourceKind::BgpPolicy, "preview", &["create"]),
    (ResourceKind::Node, "agent", &["get"]),
    (ResourceKind::Node, "token", &["create"]),
    (ResourceKind::ServiceAccount, "token", &["create"]),
    (ResourceKind::User, "certificate", &["create"]),
    (ResourceKind::User, "token", &["create"]),
];

/// Permissions about what is no kind.
const OTHERS: &[(&str, &str, &str)] = &[
    ("audit.isocast.dev", "auditchain", "get"),
    ("audit.isocast.dev", "auditrecords", "list"),
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "localsubjectaccessreviews", "create"),
    ("authorization.k8s.io", "subjectaccessreviews", "create"),
    ("iam.isocast.dev", "accessreviews", "create"),
    ("iam.isocast.dev", "roles", BIND),
    ("iam.isocast.dev", "roles", ESCALATE),
    ("iam.isocast.dev", "serviceaccounts", IMPERSONATE),
    ("iam.isocast.dev", "users", IMPERSONATE),
];

/// What stars never mean.
const SECRETS: (&str, &str) = (CORE, "secrets");

/// The verb that lets somebody bind roles beyond their own rights.
pub(super) const BIND: &str = "bind";
/// The verb that lets somebody write roles beyond their own rights.
pub(super) const ESCALATE: &str = "escalate";
/// The verb that lets somebody ask as another account, which holds no more than they do.
const IMPERSONATE: &str = "impersonate";

impl Catalog {
    /// The catalogue of the declared kinds.
    pub(crate) fn get() -> &'static Self {
        static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::new);
        &CATALOG
    }

    fn new() -> Self {
        let mut catalog = Self { entries: Vec::new(), resources: HashMap::default() };
        for kind in kinds() {
            let KindDescriptor { plural, reported, built_in, .. } = *kind;
            let group = kind.permission_group();
            let verbs = if reported { READ_VERBS } else { VERBS };
            catalog.add(group, plural, "", verbs);
            if !reported && !built_in {
                catalog.add(group, plural, "status", STATUS_VERBS);
            }
            for (_, subresource, verbs) in
                SUBRESOURCES.iter().filter(|(owner, ..)| *owner == kind.resource_kind)
            {
                catalog.add(group, plural, subresource, verbs);
            }
        }
        for (group, resource, verb) in OTHERS {
            catalog.add(group, resource, "", &[*verb]);
        }
        for Alias { descriptor: alias, stored, .. } in aliases() {
            let stored = kinds().iter().find(|kind| kind.resource_kind == *stored);
            let stored = stored.map(|kind| qualified(kind.permission_group(), kind.plural));
            if let Some(known) = stored.and_then(|name| catalog.resources.get(&name)).cloned() {
                catalog.resources.insert(qualified(alias.group, alias.plural), known);
            }
        }
        catalog
    }

    fn add(
        &mut self,
        group: &'static str,
        resource: &'static str,
        subresource: &'static str,
        verbs: &[&'static str],
    ) {
        for verb in verbs {
            let permission = Permission(u16::try_from(self.entries.len()).unwrap_or(u16::MAX));
            self.entries.push(Entry { group, resource, subresource, verb });
            let known = self.resources.entry(qualified(group, resource)).or_default();
            known.push((subresource, *verb, permission));
        }
    }

    /// The permission for `verb` of a resource by its qualified name, or of a subresource.
    pub(crate) fn find(&self, resource: &str, subresource: &str, verb: &str) -> Option<Permission> {
        // A deletion of many is many deletions.
        let verb = if verb == "deletecollection" { "delete" } else { verb };
        let known = self.resources.get(resource)?;
        known
            .iter()
            .find(|(known_subresource, known_verb, _)| {
                *known_verb == verb && *known_subresource == subresource
            })
            .map(|(_, _, permission)| *permission)
    }

    /// What a permission is about.
    pub(crate) fn entry(&self, permission: Permission) -> Option<&Entry> {
        self.entries.get(usize::from(permission.0))
    }

    /// `network.isocast.dev/anycastservices.get`
    pub(crate) fn name(&self, permission: Permission) -> String {
        self.entry(permission).map(Entry::name).unwrap_or_default()
    }

    /// Everything that the patterns mean.
    pub(crate) fn expand<'a>(
        &self,
        patterns: impl IntoIterator<Item = &'a PermissionPattern>,
    ) -> PermissionSet {
        let mut set = PermissionSet::default();
        for pattern in patterns {
            for (permission, entry) in self.iter() {
                if entry.is_meant_by(pattern) {
                    set.insert(permission);
                }
            }
        }
        set
    }

    /// Whether the pattern means anything at all.
    pub(crate) fn knows(&self, pattern: &PermissionPattern) -> bool {
        self.entries.iter().any(|entry| entry.is_meant_by(pattern))
    }

    /// The names of all permissions of a resource.
    pub(crate) fn of(&self, group: &str, resource: &str) -> Vec<String> {
        let its = |entry: &&Entry| entry.group == group && entry.resource == resource;
        self.entries.iter().filter(its).map(Entry::name).collect()
    }

    fn iter(&self) -> impl Iterator<Item = (Permission, &Entry)> {
        (0_u16..).map(Permission).zip(&self.entries)
    }
}

/// A resource by its qualified name; the core group has none.
fn qualified(group: &str, resource: &str) -> String {
    if group == CORE { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Entry {
    fn is_meant_by(&self, pattern: &PermissionPattern) -> bool {
        // What breaks the rule that nobody gives away more than they hold, or hides who did
        // something, is never meant by a star.
        let is_named = |word: &PermissionWord| matches!(word, PermissionWord::Only(_));
        let breaks_rules =
            [BIND, ESCALATE, IMPERSONATE].contains(&self.verb) && !is_named(&pattern.verb);
        // Nor is what must not be read by others: who grants it has to say so.
        let is_secret = (self.group, self.resource) == SECRETS && !is_named(&pattern.resource);
        !breaks_rules
            && !is_secret
            && pattern.matches(self.group, self.resource, self.subresource, self.verb)
    }

    fn name(&self) -> String {
        let Self { group, resource, subresource, verb } = self;
        match *subresource {
            "" => format!("{group}/{resource}.{verb}"),
            subresource => format!("{group}/{resource}/{subresource}.{verb}"),
        }
    }
}

impl PermissionSet {
    /// Every permission.
    pub(crate) const ALL: Self = Self([u64::MAX; WORDS]);

    pub(crate) fn insert(&mut self, Permission(place): Permission) {
        if let Some(word) = self.0.get_mut(usize::from(place) / 64) {
            *word |= 1 << (place % 64);
        }
    }

    pub(crate) fn contains(&self, Permission(place): Permission) -> bool {
        self.0.get(usize::from(place) / 64).is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, other) in self.0.iter_mut().zip(other.0) {
            *mine |= other;
        }
    }

    /// What is in one of the two.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let mut difference = *self;
        for (mine, other) in difference.0.iter_mut().zip(other.0) {
            *mine ^= other;
        }
        difference
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Permission> {
        let set = *self;
        let places = u16::try_from(WORDS * 64).unwrap_or(u16::MAX);
        (0..places).map(Permission).filter(move |permission| set.contains(*permission))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<PermissionPattern> =
            patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let set = Catalog::get().expand(&patterns);
        set.iter().map(|permission| Catalog::get().name(permission)).collect()
    }

    #[test]
    fn there_is_room_for_every_permission() {
        assert!(Catalog::get().entries.len() <= WORDS * 64);
    }

    #[test]
    fn what_is_reported_can_be_read_and_nothing_else() {
        let permissions = Catalog::get().of("network.isocast.dev", "bgpsessions");
        let read = |verb| format!("network.isocast.dev/bgpsessions.{verb}");
        assert_eq!(permissions, [read("get"), read("list"), read("watch")]);
    }

    #[test]
    fn stars_mean_what_is_there() {
        assert_eq!(expand(&["network.isocast.dev/nodes/*.*"]).len(), 5);
        assert_eq!(expand(&["network.isocast.dev/nodes/agent.get"]).len(), 1);
        assert_eq!(expand(&["network.isocast.dev/pods.get"]), [""; 0]);
    }

    #[test]
    fn secrets_are_granted_by_name_only() {
        assert_eq!(expand(&["core/secrets.get"]), ["core/secrets.get"]);
        assert!(expand(&["*/secrets.get"]).contains(&"core/secrets.get".to_owned()));
        let stars = expand(&["*/*.*", "core/*.*", "*/*/*.*"]);
        assert!(stars.contains(&"core/configmaps.get".to_owned()));
        assert!(!stars.iter().any(|name| name.contains("/secrets")));
    }

    #[test]
    fn an_event_is_allowed_in_both_of_its_groups() {
        let find = |resource| Catalog::get().find(resource, "", "create");
        assert!(find("events").is_some());
        assert_eq!(find("events"), find("events.events.k8s.io"));
        assert_eq!(Catalog::get().find("configmaps", "status", "get"), None);
    }

    #[test]
    fn a_star_never_means_to_bind_to_escalate_or_to_impersonate() {
        let stars = expand(&["*/*.*", "*/*/*.*"]);
        assert!(stars.contains(&"iam.isocast.dev/roles.update".to_owned()));
        for verb in [".bind", ".escalate", ".impersonate"] {
            assert!(!stars.iter().any(|name| name.ends_with(verb)), "{verb}");
        }
        assert_eq!(expand(&["iam.isocast.dev/roles.bind"]), ["iam.isocast.dev/roles.bind"]);
    }
}
