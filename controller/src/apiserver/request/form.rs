//! [`Form`]: the form that a client wants its answer in, of those that it accepts.

use std::collections::HashMap;

use hyper::{HeaderMap, header};

use super::Query;
use crate::{
    apiserver::{
        watch::{EVENT_STREAM, Framing},
        yaml::YAML,
    },
    error::{ApiError, Reason},
    registry::table::IncludeObject,
};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::apiserver) enum Form {
    Object,
    Partial,
    Table(IncludeObject),
}

/// Media ranges that JSON is in.
pub(in crate::apiserver) const JSON_RANGES: [&str; 3] =
    ["application/json", "application/*", "*/*"];

impl Query<'_> {
    /// The form to answer in: the first one the client accepts that there is.
    pub(in crate::apiserver) fn form(&self, headers: &HeaderMap) -> Result<Form, ApiError> {
        self.accepted(headers).map(|(form, _)| form).ok_or_else(|| {
            let message = "only the following media types are accepted: application/json, \
                           application/yaml";
            ApiError::new(Reason::NotAcceptable, message)
        })
    }

    /// How the events of a watch are told apart.
    pub(in crate::apiserver) fn framing(&self, headers: &HeaderMap) -> Framing {
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
            if !JSON_RANGES.contains(&media) && (media != YAML || self.is_watch()) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(form("application/yaml"), Ok(Form::Object));
    }
}
