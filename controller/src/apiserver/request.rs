//! What a request asks for: its path, its query and the form it wants the answer in.
//!
//! Parsed once at the edge into types; nothing further in looks at a URL or a header.

pub(super) mod address;
mod form;
mod query;

pub(super) use self::{
    form::{Form, JSON_RANGES},
    query::{Query, default_watch_timeout},
};
use hyper::Method;
use isocast_api::quota::RequestVerb;

use super::{audit::AuditRoute, definitions, reviews::Review};

/// The verb that a method is, of one object or of all; none: of nothing that there is.
pub(super) fn verb(method: &Method, is_one: bool, is_watch: bool) -> Option<RequestVerb> {
    Some(match (method, is_one) {
        (&Method::GET, _) if is_watch => RequestVerb::Watch,
        (&Method::GET, true) => RequestVerb::Get,
        (&Method::GET, false) => RequestVerb::List,
        (&Method::POST, _) => RequestVerb::Create,
        (&Method::PUT, _) => RequestVerb::Update,
        (&Method::PATCH, _) => RequestVerb::Patch,
        (&Method::DELETE, true) => RequestVerb::Delete,
        (&Method::DELETE, false) => RequestVerb::DeleteCollection,
        _ => return None,
    })
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A question about records.
    Audit(AuditRoute),
    /// `/backup`
    Backup,
    /// `/api`
    CoreVersions,
    /// `/api/v1`
    CoreResources,
    /// `/apis`
    Groups,
    /// `/apis/apiextensions.k8s.io/v1/customresourcedefinitions`
    Definitions { name: Option<String> },
    /// `/apis/{group}`
    Group { group: String },
    /// `/apis/{group}/{version}`
    GroupVersion { group: String, version: String },
    /// `/healthz`, `/livez`, `/readyz`
    Health,
    /// `/`
    Index,
    /// `/api/v1/namespaces`
    Namespaces { name: Option<String> },
    /// Objects.
    Objects(ObjectPath),
    /// `/openapi/v3`
    OpenApi,
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3/apis/{group}/{version}`, `/openapi/v3/api/v1`
    OpenApiGroup { path: String },
    /// A question about rights, which stores nothing.
    Review { review: Review, namespace: Option<String> },
    /// `/version`
    Version,
}

/// `/organizations/{name}`, `/folders/{name}` or `/projects/{name}` before a path: a view, which shows
/// what lies in that container and below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// `organizations`
    pub(super) plural: String,
    /// The container's name.
    pub(super) name: String,
}

/// `/apis/{group}/{version}[/namespaces/{namespace}]/{plural}[/{name}[/{subresource}[/{rest}]]]`, or
/// `/api/v1` and so on for the core group, whose name is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectPath {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: Option<String>,
    pub(super) plural: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    /// What follows a subresource.
    pub(super) rest: Option<String>,
}

// === impl Prefix ===

impl Prefix {
    /// Splits a path into the view it is asked in, and the rest.
    pub(super) fn split(path: &str) -> (Option<Self>, &str) {
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(plural @ ("organizations" | "folders" | "projects")), Some(name), rest) => {
                let prefix = Self { plural: plural.to_owned(), name: name.to_owned() };
                (Some(prefix), rest.unwrap_or_default())
            }
            _ => (None, path),
        }
    }
}

// === impl Route ===

impl Route {
    /// What `path` names, if anything can.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let owned = |part: &&str| (*part).to_owned();
        Some(match &*parts {
            [""] => Self::Index,
            ["backup"] => Self::Backup,
            ["healthz" | "livez" | "readyz"] => Self::Health,
            ["version"] => Self::Version,
            ["api"] => Self::CoreVersions,
            ["api", "v1"] => Self::CoreResources,
            ["api", "v1", "namespaces"] => Self::Namespaces { name: None },
            ["api", "v1", "namespaces", name] => Self::Namespaces { name: Some(owned(name)) },
            ["api", "v1", "namespaces", namespace, plural, rest @ ..] => {
                Self::objects(["", "v1", plural], Some(namespace), rest)?
            }
            ["api", "v1", plural, rest @ ..] => Self::objects(["", "v1", plural], None, rest)?,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group { group: owned(group) },
            ["apis", group, version] => {
                Self::GroupVersion { group: owned(group), version: owned(version) }
            }
            ["apis", definitions::GROUP, definitions::VERSION, definitions::PLURAL] => {
                Self::Definitions { name: None }
            }
            ["apis", definitions::GROUP, definitions::VERSION, definitions::PLURAL, name] => {
                Self::Definitions { name: Some(owned(name)) }
            }
            ["apis", group, version, plural]
                if AuditRoute::of(group, version, plural).is_some() =>
            {
                Self::Audit(AuditRoute::of(group, version, plural)?)
            }
            ["apis", group, version, plural]
                if let Some(review) = Review::of(group, version, plural, false) =>
            {
                Self::Review { review, namespace: None }
            }
            ["apis", group, version, "namespaces", namespace, plural]
                if let Some(review) = Review::of(group, version, plural, true) =>
            {
                Self::Review { review, namespace: Some(owned(namespace)) }
            }
            ["apis", group, version, "namespaces", namespace, plural, rest @ ..] => {
                Self::objects([group, version, plural], Some(namespace), rest)?
            }
            ["apis", group, version, plural, rest @ ..] => {
                Self::objects([group, version, plural], None, rest)?
            }
            ["openapi", "v2"] => Self::OpenApiV2,
            ["openapi", "v3"] => Self::OpenApi,
            ["openapi", "v3", rest @ ..] => Self::OpenApiGroup { path: rest.join("/") },
            _ => return None,
        })
    }

    fn objects(names: [&str; 3], namespace: Option<&str>, rest: &[&str]) -> Option<Self> {
        let [group, version, plural] = names.map(str::to_owned);
        let (name, subresource, rest) = match rest {
            [] => (None, None, None),
            [name] => (Some(*name), None, None),
            [name, subresource] => (Some(*name), Some(*subresource), None),
            [name, subresource, rest @ ..] => (Some(*name), Some(*subresource), Some(rest)),
        };
        Some(Self::Objects(ObjectPath {
            group,
            version,
            namespace: namespace.map(str::to_owned),
            plural,
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
            rest: rest.map(|rest| rest.join("/")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row that a route has in the table of who may what, `tests/access_table.rs`.
    fn row(route: &Route) -> &'static str {
        match route {
            Route::Audit(AuditRoute::Chain) => "GET /apis/audit.isocast.dev/v1alpha1/auditchain",
            Route::Audit(AuditRoute::Records) => {
                "GET /apis/audit.isocast.dev/v1alpha1/auditrecords"
            }
            Route::Backup => "GET /backup",
            Route::CoreVersions => "GET /api",
            Route::CoreResources => "GET /api/v1",
            Route::Definitions { .. } => {
                "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            }
            Route::Groups => "GET /apis",
            Route::Group { .. } => "GET /apis/iam.isocast.dev",
            Route::GroupVersion { .. } => "GET /apis/iam.isocast.dev/v1alpha1",
            Route::Health => "GET /healthz",
            Route::Index => "GET /",
            Route::Namespaces { name: None } => "GET /api/v1/namespaces",
            Route::Namespaces { name: Some(_) } => "GET /api/v1/namespaces/eng",
            // Rows by kind, review and verb: made from what there is.
            Route::Objects(_) => "get projects",
            Route::Review { .. } => "create selfsubjectaccessreviews",
            Route::OpenApi => "GET /openapi/v3",
            Route::OpenApiV2 => "GET /openapi/v2",
            Route::OpenApiGroup { .. } => "GET /openapi/v3/apis/iam.isocast.dev/v1alpha1",
            Route::Version => "GET /version",
        }
    }

    #[test]
    fn every_route_has_a_row_in_the_table_of_who_may_what() {
        const TABLE: &str = include_str!(concat!(
            "../../tests/snapshots/access_table__every_route_answers_every_role_in_every_relation_",
            "as_the_table_says.snap"
        ));
        let rows: Vec<&str> = TABLE.lines().collect();
        let has_row = |wanted: &str| {
            rows.iter().any(|row| row.strip_prefix(wanted).is_some_and(|it| it.starts_with(' ')))
        };
        for row in rows.iter().filter_map(|row| row.strip_prefix("GET ")) {
            let path = row.split(' ').next().unwrap();
            let route = Route::parse(Prefix::split(path).1).unwrap();
            let wanted = self::row(&route);
            assert!(has_row(wanted), "{wanted}");
        }
        assert!(rows.iter().filter(|row| row.starts_with("GET ")).count() > 20);
    }

    #[test]
    fn paths_name_what_kubernetes_says_they_do() {
        let path = "/apis/network.isocast.dev/v1alpha1/namespaces/web/anycastservices/www/status";
        let Some(Route::Objects(objects)) = Route::parse(path) else { panic!("objects") };
        assert_eq!(objects.namespace.as_deref(), Some("web"));
        assert_eq!(objects.plural, "anycastservices");
        assert_eq!(objects.name.as_deref(), Some("www"));
        assert_eq!(objects.subresource.as_deref(), Some("status"));

        let Some(Route::Objects(objects)) = Route::parse("/apis/g/v/nodes/") else {
            panic!("objects");
        };
        assert_eq!((objects.namespace, objects.name), (None, None));

        assert_eq!(Route::parse("/version/"), Some(Route::Version));
        assert_eq!(Route::parse("/openapi/v2"), Some(Route::OpenApiV2));
        assert_eq!(Route::parse("/openapi/v1"), None);

        let Some(Route::Objects(objects)) = Route::parse("/apis/g/v/nodes/a/agent/v1/why") else {
            panic!("objects");
        };
        assert_eq!(objects.subresource.as_deref(), Some("agent"));
        assert_eq!(objects.rest.as_deref(), Some("v1/why"));
    }

    #[test]
    fn a_container_before_a_path_is_a_view() {
        let (prefix, rest) = Prefix::split("/organizations/acme/apis/g/v/nodes");
        let prefix = prefix.expect("a view");
        assert_eq!((prefix.plural.as_str(), prefix.name.as_str()), ("organizations", "acme"));
        assert_eq!(rest, "apis/g/v/nodes");
        assert_eq!(Prefix::split("/apis/g").0, None);
        assert_eq!(Prefix::split("/projects").0, None);
    }
}
