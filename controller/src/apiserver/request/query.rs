//! [`Query`]: the parameters of a request, as what they ask for.
//!
//! What makes no sense together is refused here, in Kubernetes' words.

use std::{borrow::Cow, collections::HashMap, str::FromStr, time::Duration};

use hyper::HeaderMap;
use jiff::Timestamp;

use crate::{
    apiserver::watch::Framing,
    error::ApiError,
    registry::{
        FieldValidation, ListOptions, VersionMatch, WatchOptions, WatchStart, WriteOptions,
    },
    store::{Persistence, Version},
};

/// The query parameters.
#[derive(Debug)]
pub(in crate::apiserver) struct Query<'a>(HashMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Query<'a> {
    pub(in crate::apiserver) fn parse(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// A parameter, empty when absent.
    pub(in crate::apiserver) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value)
    }

    /// Whether anything is said of it.
    pub(in crate::apiserver) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(in crate::apiserver) fn is_watch(&self) -> bool {
        self.flag("watch")
    }

    pub(in crate::apiserver) fn bookmarks(&self) -> bool {
        self.flag("allowWatchBookmarks")
    }

    /// Whether a watch begins with what exists, if the client says so.
    fn sends_initial_events(&self) -> Option<bool> {
        self.0.get("sendInitialEvents").map(|text| is_true(text))
    }

    /// Whether the end of what exists is marked.
    pub(in crate::apiserver) fn marks_initial_events(&self) -> bool {
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
    pub(in crate::apiserver) fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        Ok(self.number("timeoutSeconds")?.map(Duration::from_secs))
    }

    pub(in crate::apiserver) fn list_options(&self) -> Result<ListOptions, ApiError> {
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

    pub(in crate::apiserver) fn watch_options(
        &self,
        headers: &HeaderMap,
    ) -> Result<WatchOptions, ApiError> {
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
    pub(in crate::apiserver) fn write_options(
        &self,
        agent: &str,
    ) -> Result<WriteOptions, ApiError> {
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

    /// The version that a read must not be older than.
    pub(in crate::apiserver) fn version(&self) -> Result<Option<Version>, ApiError> {
        self.number("resourceVersion")
    }

    fn number<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_not_a_number| malformed(name, text)),
        }
    }

    /// Whether something is wanted; not, if nothing is said.
    pub(in crate::apiserver) fn flag(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|text| is_true(text))
    }
}

/// How long a watch lasts when the client does not say: spread, so that watchers that came together
/// do not return together.
pub(in crate::apiserver) fn default_watch_timeout(now: Timestamp) -> Duration {
    let spread = u64::from(now.subsec_nanosecond().unsigned_abs()) % 1800;
    Duration::from_secs(1800 + spread)
}

/// As Kubernetes reads what clients write: `True` of Python, and a bare `?watch`, too.
fn is_true(text: &str) -> bool {
    text != "0" && !text.eq_ignore_ascii_case("false")
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
    use hyper::header;

    use super::*;

    #[test]
    fn a_flag_is_set_by_all_but_two_words() {
        for set in ["watch=true", "watch=True", "watch=1", "watch=yes", "watch=", "watch"] {
            assert!(Query::parse(set).is_watch(), "{set}");
        }
        for unset in ["", "watch=false", "watch=False", "watch=FALSE", "watch=0", "bookmarks=true"]
        {
            assert!(!Query::parse(unset).is_watch(), "{unset}");
        }
        let said = |query| Query::parse(query).sends_initial_events();
        let (python, nothing) = (said("sendInitialEvents=False"), said("watch=1"));
        assert_eq!((python, nothing), (Some(false), None));
        assert!(Query::parse("force=True").write_options("a").expect("legal").force);
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
