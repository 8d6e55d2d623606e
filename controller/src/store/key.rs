//! [`Key`]: where an object lives: (resource, container, name).
//!
//! The container is the namespace of the object, or none for what is cluster-scoped. The order of
//! keys is resource, container, name, so that one resource of the whole platform is one range and
//! so is its share in one container. A key never changes while its object lives.

use std::{cmp::Ordering, fmt, ops::Bound, sync::Arc};

use isocast_api::object::Spec;

/// A resource by its qualified name, `anycastservices.network.isocast.dev`.
#[derive(Clone, Debug, Eq, Hash)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "equal names are equal, shared or not")]
pub struct Resource(Arc<str>);

/// Where an object lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    resource: Resource,
    /// Empty for cluster-scoped objects, which sorts them first.
    container: Arc<str>,
    name: Arc<str>,
}

/// The share of the platform a listing or a watch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    /// Every object there is.
    Everything,
    /// The containers, of whatever kind.
    Containers,
    /// All objects of a resource.
    Resource(Resource),
    /// The objects of a resource in one container.
    Container(Resource, Arc<str>),
    /// One object.
    Object(Key),
}

// === impl Resource ===

impl Resource {
    /// The resource `plural` of `group`; the core group is empty.
    pub fn new(plural: &str, group: &str) -> Self {
        if group.is_empty() {
            Self(plural.into())
        } else {
            Self(format!("{plural}.{group}").into())
        }
    }

    /// `anycastservices`.
    pub fn plural(&self) -> &str {
        self.0.split_once('.').map_or(&self.0, |(plural, _)| plural)
    }

    /// `network.isocast.dev`, empty for the core group.
    pub fn group(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, group)| group)
    }

    /// Whether it is the resource `plural` of `group`.
    pub fn is(&self, plural: &str, group: &str) -> bool {
        match self.0.strip_prefix(plural) {
            Some("") => group.is_empty(),
            Some(rest) => !group.is_empty() && rest.strip_prefix('.') == Some(group),
            None => false,
        }
    }

    /// Whether it is the resource of the kind that `S` declares.
    pub(crate) fn is_of<S: Spec>(&self) -> bool {
        self.is(S::KIND.plural, S::KIND.group)
    }

    /// The qualified name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Resource {
    /// Most keys share the name with those they are compared with.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Resource {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Key ===

impl Key {
    /// The key of `name` in `container`, or of a cluster-scoped object.
    pub fn new(resource: Resource, container: Option<&str>, name: &str) -> Self {
        Self { resource, container: container.unwrap_or_default().into(), name: name.into() }
    }

    /// The resource.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The namespace, none for cluster-scoped objects.
    pub fn container(&self) -> Option<&str> {
        if self.container.is_empty() { None } else { Some(&self.container) }
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key as the ordered text that is its row's key on disk; NUL cannot occur in any part.
    pub(super) fn to_row(&self) -> String {
        format!("{}\0{}\0{}", self.resource.0, self.container, self.name)
    }

    /// Reads [`Self::to_row`] back.
    pub(super) fn from_row(row: &str) -> Option<Self> {
        let mut parts = row.splitn(3, '\0');
        let (resource, container, name) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            resource: Resource(resource.into()),
            container: container.into(),
            name: name.into(),
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.container() {
            Some(container) => write!(f, "{}/{container}/{}", self.resource, self.name),
            None => write!(f, "{}/{}", self.resource, self.name),
        }
    }
}

// === impl Range ===

impl Range {
    /// Whether `key` lies within.
    pub fn contains(&self, key: &Key) -> bool {
        match self {
            Self::Everything => true,
            Self::Containers => is_container(&key.resource),
            Self::Resource(resource) => key.resource == *resource,
            Self::Container(resource, container) => {
                key.resource == *resource && key.container == *container
            }
            Self::Object(only) => key == only,
        }
    }

    /// The one resource that it is a share of, if it is of one.
    pub(super) fn resource(&self) -> Option<&Resource> {
        match self {
            Self::Everything | Self::Containers => None,
            Self::Resource(resource) | Self::Container(resource, _) => Some(resource),
            Self::Object(key) => Some(&key.resource),
        }
    }

    /// Whether everything within `other` lies within.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, _) => true,
            (Self::Containers, Self::Resource(other)) => is_container(other),
            (Self::Resource(mine), Self::Resource(other) | Self::Container(other, _)) => {
                mine == other
            }
            (_, Self::Object(key)) => self.contains(key),
            _ => self == other,
        }
    }

    /// Whether the keys within follow one another without others in between.
    pub(super) fn is_contiguous(&self) -> bool {
        !matches!(self, Self::Containers)
    }

    /// The first key that can lie within; later keys do as long as [`Self::contains`] holds.
    pub(super) fn start(&self) -> Bound<Key> {
        let first = |resource: &Resource, container: &Arc<str>| {
            Bound::Included(Key {
                resource: resource.clone(),
                container: Arc::clone(container),
                name: "".into(),
            })
        };
        match self {
            Self::Everything | Self::Containers => Bound::Unbounded,
            Self::Resource(resource) => first(resource, &"".into()),
            Self::Container(resource, container) => first(resource, container),
            Self::Object(key) => Bound::Included(key.clone()),
        }
    }
}

fn is_container(resource: &Resource) -> bool {
    isocast_api::resourcemanager::is_container(resource.plural(), resource.group())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_as_its_key() {
        for container in [None, Some("web-prod")] {
            let key = Key::new(Resource::new("nodes", "network.isocast.dev"), container, "ams-1");

            assert_eq!(Key::from_row(&key.to_row()), Some(key));
        }
        assert_eq!(Key::from_row("nodes.network.isocast.dev\0ams"), None);
    }

    #[test]
    fn a_resource_splits_into_plural_and_group() {
        let resource = Resource::new("nodes", "network.isocast.dev");
        assert_eq!((resource.plural(), resource.group()), ("nodes", "network.isocast.dev"));

        let core = Resource::new("namespaces", "");
        assert_eq!((core.plural(), core.group()), ("namespaces", ""));

        let is = |plural, group| (resource.is(plural, group), core.is(plural, group));
        assert_eq!(is("nodes", "network.isocast.dev"), (true, false));
        assert_eq!(is("namespaces", ""), (false, true));
        for (plural, group) in
            [("node", "s.network.isocast.dev"), ("nodes", ""), ("nodes.network", "isocast")]
        {
            assert_eq!(is(plural, group), (false, false), "{plural} of {group:?}");
        }
    }

    #[test]
    fn resources_of_one_name_are_one_whoever_made_them() {
        let (a, b) = (Resource::new("nodes", "x"), Resource::new("nodes", "x"));
        assert_eq!((a.cmp(&b), a == b), (Ordering::Equal, true));
        assert_eq!((a.cmp(&a.clone()), a == a.clone()), (Ordering::Equal, true));
        assert!(a < Resource::new("nodes", "y"));
    }

    #[test]
    fn a_range_covers_what_it_contains_and_nothing_else() {
        let pools = Resource::new("backendpools", "network.isocast.dev");
        let key = Key::new(pools.clone(), Some("web"), "www");
        let container = Range::Container(pools.clone(), "web".into());

        assert!(Range::Everything.covers(&container));
        assert!(Range::Resource(pools.clone()).covers(&container));
        assert!(container.covers(&Range::Object(key.clone())));
        assert!(!container.covers(&Range::Resource(pools.clone())));
        assert!(!Range::Container(pools, "shop".into()).contains(&key));
        assert!(!Range::Object(key).covers(&container));
    }
}
