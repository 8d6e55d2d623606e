//! [`of`]: the schemas of reviews, which clients check what they send against.
//!
//! They name what is read of a question and what an answer says, no more: a field that changes
//! nothing here is not in them, save where clients of Kubernetes always send it.

use serde_json::{Value, json};

use super::Review;

/// The schema of a review.
pub(in crate::apiserver) fn of(review: Review) -> Value {
    let (description, spec, status) = match review {
        Review::Access => (
            "Says whether somebody may do something and which binding decides, or all that \
             somebody may in a container.",
            struct_of(json!({
                "user": text("Who it is about; the caller, if empty."),
                "namespace": text("The container to list all rights in, in place of attributes."),
                "resourceAttributes": resource_attributes(),
                "nonResourceAttributes": path_attributes(),
            })),
            access_status(),
        ),
        Review::LocalSubjectAccess => (
            "Says whether somebody may do something in the review's own namespace.",
            subject_spec(),
            verdict(),
        ),
        Review::SelfAccess => (
            "Says whether the caller may do something.",
            struct_of(json!({
                "resourceAttributes": resource_attributes(),
                "nonResourceAttributes": path_attributes(),
            })),
            verdict(),
        ),
        Review::SelfRules => (
            "Lists all that the caller may in a namespace.",
            struct_of(json!({"namespace": text("The namespace.")})),
            struct_of(rules()),
        ),
        Review::SelfSubject => {
            ("Says who the caller is.", Value::Null, struct_of(json!({"userInfo": user_info()})))
        }
        Review::SubjectAccess => {
            ("Says whether somebody may do something.", subject_spec(), verdict())
        }
        Review::Token => (
            "Says whose a token is.",
            struct_of(json!({
                "token": text("The token."),
                "audiences": texts("Whom it must be for; this server, if there are none."),
            })),
            struct_of(json!({
                "authenticated": flag("Whether it is somebody's."),
                "user": user_info(),
                "audiences": texts("Those of the asked audiences that it is for."),
                "error": text("Why it is nobody's."),
            })),
        ),
    };
    let mut properties = json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "spec": spec,
        "status": status,
    });
    let mut schema = json!({"type": "object", "description": description});
    if let (Some(fields), Some(schema)) = (properties.as_object_mut(), schema.as_object_mut()) {
        fields.retain(|_, field| !field.is_null());
        if fields.contains_key("spec") {
            schema.insert("required".to_owned(), json!(["spec"]));
        }
        schema.insert("properties".to_owned(), properties);
    }
    schema
}

fn struct_of(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn texts(description: &str) -> Value {
    json!({
        "type": "array",
        "description": description,
        "items": {"type": "string"},
        "x-kubernetes-list-type": "atomic",
    })
}

fn resource_attributes() -> Value {
    json!({
        "type": "object",
        "description": "What is to be done, to which objects.",
        "properties": {
            "namespace": text("The container that they are in; none for kinds of the platform."),
            "verb": text("get, list, watch, create, update, patch or delete."),
            "group": text("The group of the kind; empty for the core group."),
            "version": text("The version of the kind, which decides nothing."),
            "resource": text("The plural of the kind."),
            "subresource": text("A part of the object, such as status."),
            "name": text("The object; all of them, if empty."),
        },
    })
}

fn path_attributes() -> Value {
    json!({
        "type": "object",
        "description": "A path that is no resource.",
        "properties": {"path": text("The path."), "verb": text("The verb, in lower case.")},
    })
}

fn subject_spec() -> Value {
    struct_of(json!({
        "user": text("Who it is about."),
        "uid": text("The account's uid; another account of that name is not meant."),
        "groups": texts("Not read: the groups of an account are known here."),
        "extra": {
            "type": "object",
            "description": "Not read.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
        "resourceAttributes": resource_attributes(),
        "nonResourceAttributes": path_attributes(),
    }))
}

fn verdict() -> Value {
    struct_of(json!({
        "allowed": flag("Whether it may be done."),
        "denied": flag("Whether a binding takes it away, whatever others give."),
        "reason": text("Why."),
    }))
}

fn rules() -> Value {
    let list = |properties: Value, description: &str| {
        json!({
            "type": "array",
            "description": description,
            "items": struct_of(properties),
            "x-kubernetes-list-type": "atomic",
        })
    };
    let resources = json!({
        "verbs": texts("What may be done."),
        "apiGroups": texts("Groups of the kinds."),
        "resources": texts("Plurals, with subresources after a slash."),
    });
    let paths = json!({"verbs": texts("What may be done."), "nonResourceURLs": texts("Paths.")});
    json!({
        "resourceRules": list(resources, "What may be done to which kinds."),
        "nonResourceRules": list(paths, "What may be done at paths that are no resources."),
        "incomplete": flag("Whether a condition decides about more."),
    })
}

fn access_status() -> Value {
    let placed = |description: &str| {
        json!({
            "type": "object",
            "description": description,
            "properties": {
                "namespace": text("The container that it is in."),
                "name": text("Its name."),
            },
        })
    };
    let mut status = struct_of(rules());
    let about_one = json!({
        "allowed": flag("Whether it may be done."),
        "denied": flag("Whether a binding takes it away, whatever others give."),
        "reason": text("Why."),
        "user": text("Who it is about."),
        "binding": placed("The binding that decides."),
        "role": placed("The role that it gives or takes."),
        "via": {
            "type": "array",
            "description": "The groups between the account and the binding.",
            "items": struct_of(json!({"kind": text("The kind."), "name": text("The name.")})),
            "x-kubernetes-list-type": "atomic",
        },
        "inherited": texts("The containers it came down through."),
        "conditional": flag("Whether a condition had a say."),
        "expiresAt": text("When the binding ends."),
    });
    if let (Some(fields), Value::Object(more)) =
        (status.pointer_mut("/properties").and_then(Value::as_object_mut), about_one)
    {
        fields.extend(more);
    }
    status
}

fn user_info() -> Value {
    json!({
        "type": "object",
        "description": "An account.",
        "properties": {
            "username": text("Its name."),
            "uid": text("Its uid."),
            "groups": texts("The groups it is in."),
            "extra": {
                "type": "object",
                "description": "What else is known, such as the token's id.",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
        },
    })
}
