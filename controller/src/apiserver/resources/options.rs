//! What a request says besides its address: the options of a write, and what its body is.

use std::borrow::Cow;

use hyper::header;

use super::Call;
use crate::{
    apiserver::protobuf::{self, PROTOBUF},
    error::{ApiError, Reason},
    registry::{
        DeleteOptions, Kind, Patch, WriteOptions,
        decode::{self, Nulls},
    },
    store::Persistence,
};

pub(in crate::apiserver) const APPLY: &str = "application/apply-patch+yaml";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

impl Call<'_> {
    pub(super) fn write_options(&self) -> Result<WriteOptions, ApiError> {
        let agent = self.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        self.query.write_options(agent.unwrap_or("unknown"))
    }

    pub(super) fn delete_options(&self) -> Result<(DeleteOptions, WriteOptions), ApiError> {
        let mut options = self.write_options()?;
        let text = |name| Some(self.query.text(name)).filter(|text: &&str| !text.is_empty());
        let malformed = |why: &dyn std::fmt::Display| {
            ApiError::bad_request(format!("the body is not DeleteOptions: {why}"))
        };
        let read = |body: &[u8]| {
            let options = decode::yaml(body, Nulls::Drop)?.value;
            match options.is_object() {
                true => serde_json::from_value(options).map_err(|error| malformed(&error)),
                false => Err(malformed(&"expected an object")),
            }
        };
        let delete: DeleteOptions = match &*self.content_type() {
            _ if self.body.is_empty() => DeleteOptions {
                propagation_policy: text("propagationPolicy").map(str::to_owned),
                orphan_dependents: text("orphanDependents")
                    .map(|_| self.query.flag("orphanDependents")),
                ..DeleteOptions::default()
            },
            PROTOBUF => read(&protobuf::delete_options(&self.body)?)?,
            _ => read(&self.body)?,
        };
        delete.propagation()?;
        match delete.dry_run.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => {}
            ["All"] => options.persistence = Persistence::DryRun,
            _ => return Err(ApiError::bad_request("dryRun: only \"All\" is supported")),
        }
        Ok((delete, options))
    }

    /// The body of a create or an update.
    pub(super) fn whole_object(&self, kind: &Kind) -> Result<Cow<'_, [u8]>, ApiError> {
        let content_type = self.content_type();
        match &*content_type {
            "" | "application/json" | "application/yaml" => return Ok(Cow::Borrowed(&self.body)),
            PROTOBUF => {
                if let Some(decoded) = protobuf::object(kind, &self.body) {
                    return decoded.map(Cow::Owned);
                }
            }
            _ => {}
        }
        Err(unsupported(&content_type, "application/json, application/yaml"))
    }

    pub(super) fn patch(&self, kind: &Kind) -> Result<(Patch<'_>, WriteOptions), ApiError> {
        let options = self.write_options()?;
        let content_type = self.content_type();
        let applies = content_type == APPLY;
        // An apply says who applies; a guess would own fields nobody can give up.
        if applies && self.query.text("fieldManager").is_empty() {
            let why = "is required for apply patch";
            return Err(ApiError::option("PatchOptions", "fieldManager", "Required value", why));
        }
        if !applies && !self.query.text("force").is_empty() {
            let why = "may not be specified for non-apply patch";
            return Err(ApiError::option("PatchOptions", "force", "Forbidden", why));
        }
        let patch = match &*content_type {
            APPLY => Patch::Apply(&self.body),
            STRATEGIC if kind.descriptor().built_in => Patch::Strategic(&self.body),
            JSON_PATCH => Patch::Json(&self.body),
            MERGE_PATCH => Patch::Merge(&self.body),
            other => {
                let strategic = kind.descriptor().built_in.then_some(STRATEGIC);
                let known = [JSON_PATCH, MERGE_PATCH].into_iter().chain(strategic).chain([APPLY]);
                return Err(unsupported(other, &known.collect::<Vec<_>>().join(", ")));
            }
        };
        Ok((patch, options))
    }

    /// The media type of the body, in small letters (RFC 9110 §8.3.1).
    pub(in crate::apiserver) fn content_type(&self) -> String {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }
}

fn unsupported(given: &str, known: &str) -> ApiError {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {known}; \
         given: {given:?}"
    );
    ApiError::new(Reason::UnsupportedMediaType, message)
}
