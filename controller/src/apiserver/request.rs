//! What a request asks for: its path, its query and the form it wants the answer in.
//!
//! Parsed once at the edge into types; nothing further in looks at a URL or a header.

use std::{borrow::Cow, collections::HashMap, str::FromStr, time::Duration};

use hyper::{HeaderMap, header};
use jiff::Timestamp;

use super::{
    audit::AuditRoute,
    reviews::Review,
    watch::{EVENT_STREAM, Framing},
};
use crate::{
    error::{ApiError, Reason},
    registry::{
        FieldValidation, ListOptions, VersionMatch, WatchOptions, WatchStart, WriteOptions,
        table::IncludeObject,
    },
    store::{Persistence, Version},
};

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
    /// `/apis/{group}`
    Group { group: String },
    /// `/apis/{group}/{version}`
    GroupVersion { group: String, version: String },
    /// `/healthz`, `/livez`, `/readyz`
    Health,
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

/// The query parameters.
#[derive(Debug)]
pub(super) struct Query<'a>(HashMap<Cow<'a, str>, Cow<'a, str>>);

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Object,
    Partial,
    Table(IncludeObject),
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

// === impl Query ===

impl<'a> Query<'a> {
    pub(super) fn parse(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// A parameter, empty when absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value)
    }

    pub(super) fn is_watch(&self) -> bool {
        self.flag("watch")
    }

    pub(super) fn bookmarks(&self) -> bool {
        self.flag("allowWatchBookmarks")
    }

    /// Whether a watch begins with what exists, if the client says so.
    fn sends_initial_events(&self) -> Option<bool> {
        Some(self.text("sendInitialEvents")).filter(|text| !text.is_empty()).map(is_true)
    }

    /// Whether the end of what exists is marked.
    pub(super) fn marks_initial_events(&self) -> bool {
        self.sends_initial_events() == Some(true) && self.bookmarks()
    }

    /// Refuses what makes no sense together, in Kubernetes' words.
    fn check_list(&self) -> Result<(), ApiError> {
        let revision = self.text("resourceVersion");
        let version_match = self.text("resourceVersionMatch");
        let continued = !self.text("continue").is_empty();
        let forbidden =
            |field: &str, why: &str| Err(ApiError::option("ListOptions", field, "Forbidden", why));
        if !["", "Exact", "NotOlderThan"].contains(&version_match) {
            let why =
                format!("{version_match:?}: supported values: \"Exact\", \"NotOlderThan\", \"\"");
            let field = "resourceVersionMatch";
            return Err(ApiError::option("ListOptions", field, "Unsupported value", &why));
        }
        let is_matched = !version_match.is_empty();
        if is_matched && continued {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            return forbidden("resourceVersionMatch", why);
        }
        match (self.is_watch(), self.sends_initial_events()) {
            (true, Some(_)) if version_match != "NotOlderThan" => {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                return forbidden("resourceVersionMatch", why);
            }
            (true, Some(_)) => return Ok(()),
            (true, None) if is_matched => {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents \
                           is provided";
                return forbidden("resourceVersionMatch", why);
            }
            (false, Some(_)) => {
                let why = "sendInitialEvents is forbidden for list";
                return forbidden("sendInitialEvents", why);
            }
            _ => {}
        }
        if is_matched && revision.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return forbidden("resourceVersionMatch", why);
        }
        if version_match == "Exact" && revision == "0" {
            let why = "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
            return forbidden("resourceVersionMatch", why);
        }
        if continued && !["", "0"].contains(&revision) {
            let message = "specifying resource version is not allowed when using continue";
            return Err(ApiError::bad_request(message));
        }
        Ok(())
    }

    /// How long a watch lasts at most.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        Ok(self.number("timeoutSeconds")?.map(Duration::from_secs))
    }

    pub(super) fn list_options(&self) -> Result<ListOptions, ApiError> {
        self.check_list()?;
        let limit = self.number("limit")?;
        Ok(ListOptions {
            limit: limit.map(|limit: u64| usize::try_from(limit).unwrap_or(usize::MAX)),
            token: Some(self.text("continue")).filter(|text| !text.is_empty()).map(str::to_owned),
            version: self.version()?,
            version_match: match self.text("resourceVersionMatch") {
                "Exact" => VersionMatch::Exact,
                _ => VersionMatch::NotOlderThan,
            },
        })
    }

    pub(super) fn watch_options(&self, headers: &HeaderMap) -> Result<WatchOptions, ApiError> {
        self.check_list()?;
        // A browser that comes back asks for the same address, and says in a header where it was.
        if self.framing(headers) == Framing::EventStream
            && let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty())
        {
            let id = id.to_str().unwrap_or_default();
            let version = id.parse().map_err(|_not_a_number| malformed(LAST_EVENT_ID, id))?;
            return Ok(WatchOptions { start: WatchStart::After(version) });
        }
        let known = self.version()?.filter(|version| *version != Version::ANY);
        let start = match (self.sends_initial_events(), known) {
            (Some(true), known) => WatchStart::Existing(known.unwrap_or_default()),
            (Some(false), None) => WatchStart::Now,
            (None, None) => WatchStart::Existing(Version::ANY),
            (_, Some(version)) => WatchStart::After(version),
        };
        Ok(WatchOptions { start })
    }

    /// Options of a write; `agent` stands in for a missing field manager.
    pub(super) fn write_options(&self, agent: &str) -> Result<WriteOptions, ApiError> {
        let manager = match self.text("fieldManager") {
            "" => {
                let name = agent.split('/').next().unwrap_or_default();
                name.get(..MANAGER_BYTES).unwrap_or(name)
            }
            manager if manager.len() > MANAGER_BYTES => {
                return Err(malformed("fieldManager", "more than 128 bytes"));
            }
            manager => manager,
        };
        Ok(WriteOptions {
            manager: manager.to_owned(),
            persistence: match self.text("dryRun") {
                "" => Persistence::Durable,
                "All" => Persistence::DryRun,
                other => return Err(malformed("dryRun", other)),
            },
            validation: match self.text("fieldValidation") {
                "Ignore" => FieldValidation::Ignore,
                "" | "Warn" => FieldValidation::Warn,
                "Strict" => FieldValidation::Strict,
                other => return Err(malformed("fieldValidation", other)),
            },
            force: self.flag("force"),
        })
    }

    /// The form to answer in: the first one the client accepts that there is.
    pub(super) fn form(&self, headers: &HeaderMap) -> Result<Form, ApiError> {
        self.accepted(headers).map(|(form, _)| form).ok_or_else(|| {
            let message = "only the following media types are accepted: application/json";
            ApiError::new(Reason::NotAcceptable, message)
        })
    }

    /// How the events of a watch are told apart.
    pub(super) fn framing(&self, headers: &HeaderMap) -> Framing {
        self.accepted(headers).map_or(Framing::Lines, |(_, framing)| framing)
    }

    fn accepted(&self, headers: &HeaderMap) -> Option<(Form, Framing)> {
        let accepted = headers.get(header::ACCEPT).map_or("", |value| value.to_str().unwrap_or(""));
        if accepted.is_empty() {
            return Some((Form::Object, Framing::Lines));
        }
        accepted.split(',').find_map(|range| {
            let mut parameters = range.split(';').map(str::trim);
            let media = parameters.next()?;
            if media == EVENT_STREAM && self.is_watch() {
                return Some((Form::Object, Framing::EventStream));
            }
            if !["application/json", "application/*", "*/*"].contains(&media) {
                return None;
            }
            let parameters: HashMap<&str, &str> =
                parameters.filter_map(|parameter| parameter.split_once('=')).collect();
            let is_meta_v1 =
                parameters.get("g") == Some(&"meta.k8s.io") && parameters.get("v") == Some(&"v1");
            let form = match parameters.get("as").copied() {
                None => Some(Form::Object),
                Some("Table") if is_meta_v1 => Some(Form::Table(self.include_object())),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") if is_meta_v1 => {
                    Some(Form::Partial)
                }
                Some(_) => None,
            };
            form.map(|form| (form, Framing::Lines))
        })
    }

    fn include_object(&self) -> IncludeObject {
        match self.text("includeObject") {
            "None" => IncludeObject::None,
            "Object" => IncludeObject::Object,
            _ => IncludeObject::Metadata,
        }
    }

    /// The version that a read must not be older than.
    pub(super) fn version(&self) -> Result<Option<Version>, ApiError> {
        self.number("resourceVersion")
    }

    fn number<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_not_a_number| malformed(name, text)),
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        is_true(self.text(name))
    }
}

/// How long a watch lasts when the client does not say: spread, so that watchers that came together
/// do not return together.
pub(super) fn default_watch_timeout(now: Timestamp) -> Duration {
    let spread = u64::from(now.subsec_nanosecond().unsigned_abs()) % 1800;
    Duration::from_secs(1800 + spread)
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "1")
}

fn malformed(name: &str, value: &str) -> ApiError {
    ApiError::bad_request(format!("invalid value of {name}: {value:?}"))
}

/// Says which event somebody saw last (WHATWG HTML §9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";
/// Length of a field manager's name.
const MANAGER_BYTES: usize = 128;

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
            Route::Groups => "GET /apis",
            Route::Group { .. } => "GET /apis/iam.isocast.dev",
            Route::GroupVersion { .. } => "GET /apis/iam.isocast.dev/v1alpha1",
            Route::Health => "GET /healthz",
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

    #[test]
    fn the_first_form_that_there_is_wins() {
        let form = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, header::HeaderValue::from_static(accept));
            Query::parse("").form(&headers).map_err(|error| error.code())
        };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(form(table), Ok(Form::Table(IncludeObject::Metadata)));
        assert_eq!(form("application/json;as=Table;v=v9;g=meta.k8s.io,*/*"), Ok(Form::Object));
        assert_eq!(form("application/vnd.kubernetes.protobuf,application/json"), Ok(Form::Object));
        assert_eq!(form("application/vnd.kubernetes.protobuf"), Err(406));
    }

    #[test]
    fn malformed_parameters_are_bad_requests() {
        for query in ["limit=x", "resourceVersion=-1", "continue=x&resourceVersion=5"] {
            let refusal = Query::parse(query).list_options().map_err(|error| error.code()).err();
            assert_eq!(refusal, Some(400), "{query}");
        }
        for query in ["dryRun=Some", "fieldValidation=Maybe"] {
            let refusal =
                Query::parse(query).write_options("x").map_err(|error| error.code()).err();
            assert_eq!(refusal, Some(400), "{query}");
        }
    }

    #[test]
    fn lists_and_watches_refuse_what_makes_no_sense_together() {
        for query in [
            "resourceVersionMatch=Newest&resourceVersion=1",
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch=NotOlderThan&continue=x",
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            "watch=1&sendInitialEvents=true",
            "watch=1&sendInitialEvents=false&resourceVersionMatch=Exact",
            "watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=1",
        ] {
            let query = Query::parse(query);
            let refusal = match query.is_watch() {
                true => query.watch_options(&HeaderMap::new()).map(drop),
                false => query.list_options().map(drop),
            };
            assert_eq!(refusal.map_err(|error| error.code()), Err(422), "{query:?}");
        }
    }

    #[test]
    fn a_watch_begins_where_it_is_told_to() {
        use WatchStart::{After, Existing, Now};
        let of = "resourceVersionMatch=NotOlderThan&sendInitialEvents";
        let seven: Version = "7".parse().expect("a number");
        for (query, start) in [
            (String::new(), Existing(Version::ANY)),
            ("resourceVersion=0".to_owned(), Existing(Version::ANY)),
            ("resourceVersion=7".to_owned(), After(seven)),
            (format!("{of}=true"), Existing(Version::ANY)),
            (format!("{of}=true&resourceVersion=0"), Existing(Version::ANY)),
            (format!("{of}=true&resourceVersion=7"), Existing(seven)),
            (format!("{of}=false"), Now),
            (format!("{of}=false&resourceVersion=7"), After(seven)),
        ] {
            let query = format!("watch=1&{query}");
            let options = Query::parse(&query).watch_options(&HeaderMap::new());
            assert_eq!(options.map(|options| options.start), Ok(start), "{query}");
        }
    }

    #[test]
    fn a_browser_that_comes_back_goes_on_where_it_was_and_others_where_they_say() {
        let asked = |accept: &'static str, id: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, header::HeaderValue::from_static(accept));
            headers.insert(LAST_EVENT_ID, header::HeaderValue::from_static(id));
            let options = Query::parse("watch=1&resourceVersion=7").watch_options(&headers);
            options.map(|options| options.start).map_err(|error| error.code())
        };

        let at = |version: &str| Ok(WatchStart::After(version.parse().expect("a number")));
        assert_eq!(asked("text/event-stream", "9"), at("9"));
        assert_eq!(asked("text/event-stream", ""), at("7"), "it was told to begin anew");
        assert_eq!(asked("text/event-stream", "-1"), Err(400));
        assert_eq!(asked("application/json", "9"), at("7"));
    }

    #[test]
    fn the_user_agent_is_the_manager_when_none_is_named() {
        let options = Query::parse("").write_options("kubectl/v1.37 (linux)").expect("well-formed");
        assert_eq!(options.manager, "kubectl");
    }

    #[test]
    fn a_manager_has_128_bytes_at_most() {
        let options = |bytes: usize| {
            let query = format!("fieldManager={}", "m".repeat(bytes));
            Query::parse(&query).write_options("x").map(|options| options.manager.len())
        };
        assert_eq!(options(MANAGER_BYTES).ok(), Some(MANAGER_BYTES));
        assert!(options(MANAGER_BYTES + 1).is_err());
        let agent = "a".repeat(1000);
        let options = Query::parse("").write_options(&agent).expect("well-formed");
        assert_eq!(options.manager.len(), MANAGER_BYTES);
    }
}
