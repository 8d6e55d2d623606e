//! Reviews in Kubernetes' protobuf, which kubectl asks its questions in; answers are JSON.
//!
//! Field numbers are those of `k8s.io/api/authorization/v1/generated.proto` and
//! `k8s.io/api/authentication/v1/generated.proto`; the envelope is
//! `k8s.io/apimachinery/pkg/runtime`'s `Unknown` behind four bytes.

use prost::Message;
use serde_json::{Value, json};

use super::Review;
use crate::error::ApiError;

/// Content type of such a body.
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

/// `SelfSubjectAccessReview`, `SubjectAccessReview`, `LocalSubjectAccessReview`
#[derive(Clone, PartialEq, Message)]
struct AccessReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<AccessSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct AccessSpec {
    #[prost(message, optional, tag = "1")]
    resource: Option<ResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    non_resource: Option<NonResourceAttributes>,
    #[prost(string, tag = "3")]
    user: String,
    #[prost(string, tag = "6")]
    uid: String,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceAttributes {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    verb: String,
    #[prost(string, tag = "3")]
    group: String,
    #[prost(string, tag = "4")]
    version: String,
    #[prost(string, tag = "5")]
    resource: String,
    #[prost(string, tag = "6")]
    subresource: String,
    #[prost(string, tag = "7")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct NonResourceAttributes {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    verb: String,
}

/// `SelfSubjectRulesReview`
#[derive(Clone, PartialEq, Message)]
struct RulesReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<RulesSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct RulesSpec {
    #[prost(string, tag = "1")]
    namespace: String,
}

/// `TokenReview`
#[derive(Clone, PartialEq, Message)]
struct TokenReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<TokenSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct TokenSpec {
    #[prost(string, tag = "1")]
    token: String,
    #[prost(string, repeated, tag = "2")]
    audiences: Vec<String>,
}

/// The review that `body` is, as JSON.
pub(super) fn decode(review: Review, body: &[u8]) -> Result<Value, ApiError> {
    let malformed = |error: prost::DecodeError| {
        ApiError::bad_request(format!("the body is not a review: {error}"))
    };
    let body = body.strip_prefix(MAGIC).ok_or_else(|| {
        ApiError::bad_request("the body is not Kubernetes' protobuf: it does not begin with k8s")
    })?;
    let Unknown { type_meta, raw } = Unknown::decode(body).map_err(malformed)?;
    let TypeMeta { api_version, kind } = type_meta.unwrap_or_default();
    let spec = match review {
        Review::SelfRules => {
            let spec = RulesReview::decode(raw.as_slice()).map_err(malformed)?.spec;
            json!({"namespace": spec.unwrap_or_default().namespace})
        }
        Review::SelfSubject => json!({}),
        Review::Token => {
            let spec = TokenReview::decode(raw.as_slice()).map_err(malformed)?.spec;
            let TokenSpec { token, audiences } = spec.unwrap_or_default();
            json!({"token": token, "audiences": audiences})
        }
        Review::Access
        | Review::LocalSubjectAccess
        | Review::SelfAccess
        | Review::SubjectAccess => access(
            AccessReview::decode(raw.as_slice()).map_err(malformed)?.spec.unwrap_or_default(),
        ),
    };
    Ok(json!({"apiVersion": api_version, "kind": kind, "metadata": {}, "spec": spec}))
}

fn access(spec: AccessSpec) -> Value {
    let mut value = json!({});
    let Some(fields) = value.as_object_mut() else { return value };
    if !spec.user.is_empty() {
        fields.insert("user".to_owned(), json!(spec.user));
    }
    if !spec.uid.is_empty() {
        fields.insert("uid".to_owned(), json!(spec.uid));
    }
    if let Some(it) = spec.resource {
        let attributes = json!({
            "namespace": it.namespace, "verb": it.verb, "group": it.group, "version": it.version,
            "resource": it.resource, "subresource": it.subresource, "name": it.name,
        });
        fields.insert("resourceAttributes".to_owned(), attributes);
    }
    if let Some(it) = spec.non_resource {
        let attributes = json!({"path": it.path, "verb": it.verb});
        fields.insert("nonResourceAttributes".to_owned(), attributes);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_sends_reads_as_the_json_it_stands_for() {
        let review = AccessReview {
            spec: Some(AccessSpec {
                resource: Some(ResourceAttributes {
                    namespace: "web".to_owned(),
                    verb: "get".to_owned(),
                    resource: "nodes".to_owned(),
                    ..ResourceAttributes::default()
                }),
                ..AccessSpec::default()
            }),
        };
        let type_meta = TypeMeta {
            api_version: "authorization.k8s.io/v1".to_owned(),
            kind: "SelfSubjectAccessReview".to_owned(),
        };
        let unknown = Unknown { type_meta: Some(type_meta), raw: review.encode_to_vec() };
        let body = [MAGIC, &unknown.encode_to_vec()].concat();

        let value = decode(Review::SelfAccess, &body).expect("a review");

        assert_eq!(value["kind"], "SelfSubjectAccessReview");
        assert_eq!(value["spec"]["resourceAttributes"]["verb"], "get");
        assert_eq!(value["spec"].get("user"), None);
    }

    #[test]
    fn a_token_reads_as_the_json_it_stands_for() {
        let spec = TokenSpec { token: "secret".to_owned(), audiences: vec!["a".to_owned()] };
        let unknown =
            Unknown { type_meta: None, raw: TokenReview { spec: Some(spec) }.encode_to_vec() };
        let body = [MAGIC, &unknown.encode_to_vec()].concat();

        let value = decode(Review::Token, &body).expect("a review");

        assert_eq!(value["spec"], json!({"token": "secret", "audiences": ["a"]}));
    }

    #[test]
    fn rubbish_is_a_bad_request() {
        for body in [&b""[..], b"k8s", b"{}", b"k8s\0\xff", b"k8s\0\x12\x7f"] {
            assert_eq!(decode(Review::SelfAccess, body).map_err(|error| error.code()), Err(400));
        }
    }
}
