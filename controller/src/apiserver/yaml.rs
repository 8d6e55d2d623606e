//! Answers as YAML, for people who ask by `curl -H 'Accept: application/yaml'`.
//!
//! What would be answered as JSON is said again as YAML, whole: a list that is written while it is
//! read has to be there first, so there is a bound on how much that may be. Texts that a reader of
//! YAML 1.1 would take for something else are quoted. Watches stay lines of JSON.
//!
//! Must never refuse what was done already: the list of what a deletion removed is not bounded, and
//! stays JSON.

use std::fmt::Display;

use http_body_util::{BodyExt, Limited};
use hyper::{
    HeaderMap, Method, Response,
    body::Body as _,
    header::{self, HeaderValue},
};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::{
    request::JSON_RANGES,
    respond::{self, Body, JSON},
};
use crate::{
    error::{ApiError, Reason},
    limits,
};

/// The media type.
pub(super) const YAML: &str = "application/yaml";

/// Whether a client rather has YAML than JSON.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    // Of one in a thousand requests, and looked at for each.
    let Some(accepted) = accepted.filter(|accepted| accepted.contains("yaml")) else {
        return false;
    };
    let ranges = accepted.split(',').filter_map(|range| range.split(';').next()).map(str::trim);
    let mut known = ranges.filter(|range| *range == YAML || JSON_RANGES.contains(range));
    known.next() == Some(YAML)
}

/// The same answer to `method` as YAML, if it is JSON.
///
/// # Errors
/// `NotAcceptable` when it is too large.
pub(super) async fn translated(
    method: &Method,
    response: Response<Body>,
) -> Result<Response<Body>, ApiError> {
    let is_bounded = *method == Method::GET || response.body().size_hint().exact().is_some();
    if response.headers().get(header::CONTENT_TYPE) != Some(&JSON) || !is_bounded {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    let whole = Limited::new(body, limits::YAML_ANSWER).collect().await;
    let whole = whole.map_err(|_too_large| too_large())?.to_bytes();
    let text = match whole.len() {
        0 => String::new(),
        1..limits::PACED_FROM => of(&whole)?,
        // It takes as long as a thousand other requests.
        _ => spawn_blocking(move || of(&whole))
            .await
            .map_err(|_panic| ApiError::internal("no YAML of it"))??,
    };
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(YAML));
    // It is the tag of the other text.
    head.headers.remove(header::ETAG);
    Ok(Response::from_parts(head, respond::whole(text)))
}

/// A refusal as YAML.
pub(super) async fn refusal(error: &ApiError) -> Response<Body> {
    let refusal = translated(&Method::GET, respond::refusal(error)).await;
    refusal.unwrap_or_else(|other| respond::refusal(&other))
}

fn of(json: &[u8]) -> Result<String, ApiError> {
    let failed = |error: &dyn Display| ApiError::internal(format!("no YAML of it: {error}"));
    let value: Value = serde_json::from_slice(json).map_err(|error| failed(&error))?;
    serde_saphyr::to_string(&value).map_err(|error| failed(&error))
}

fn too_large() -> ApiError {
    let message = format!(
        "more than {} MiB are not answered as {YAML}: ask for application/json, or page by page \
         (limit=500)",
        limits::YAML_ANSWER >> 20,
    );
    ApiError::new(Reason::NotAcceptable, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::decode::{self, Nulls};

    #[test]
    fn who_names_json_or_anything_first_has_json() {
        let asked = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            is_asked_for(&headers)
        };
        for yaml in [YAML, "text/html, application/yaml;q=0.9, */*", "application/yaml,*/*"] {
            assert!(asked(yaml), "{yaml}");
        }
        for json in ["application/json, application/yaml", "*/*", "text/yaml", "application/yamlx"]
        {
            assert!(!asked(json), "{json}");
        }
        assert!(!is_asked_for(&HeaderMap::new()));
    }

    #[test]
    fn what_is_said_as_yaml_is_read_as_what_it_was() {
        #[rustfmt::skip]
        let texts = [
            "", " ", "yes", "no", "on", "y", "N", "true", "null", "~", "0", "1e3", "0x1f", "0o7",
            "017", "1_000", ".5", ".inf", "-", "- a", "a: b", "a #b", "#a", "%a", "@a", "`a", "&a",
            "*a", "!a", "|", ">", "?", "[a]", "{a}", "'", "\"", "\\", "a\nb", "a\n", "\n", "\t",
            "é", "\u{85}", "\u{2028}", "\u{feff}", "\0", "2026-01-01", "2026-01-01T00:00:00Z",
            "12:30:45", "<<", "=", "---", "...", "a\r\nb", " a", "a ", "192.0.2.1/32",
            "2001:db8::1", "::",
        ];
        let numbers = json!([0, -1, 1.5, 1e300, u64::MAX, i64::MIN, true, null]);
        let nested = json!({"a": {"b": [], "c": {}, "d": [{"e": [[1], [2]]}]}});
        let mut keyed = serde_json::Map::new();
        keyed.extend(texts.iter().map(|text| ((*text).to_owned(), json!(text))));
        for value in [json!(texts.to_vec()), numbers, nested, Value::Object(keyed)] {
            let wrapped = json!({"value": value});
            let text = of(wrapped.to_string().as_bytes()).expect("there is YAML of it");
            let read = decode::yaml(text.as_bytes(), Nulls::Keep);
            let read = read.unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(read.value, wrapped, "{text}");
        }
    }
}
