//! [`Names`]: the paths of one kind, with all that is asked and answered there.

use serde_json::{Map, Value, json};

use super::{
    reference,
    schemas::{DELETE_OPTIONS, STATUS, deleted, free},
};

/// Whether a resource can be changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// As a whole: it has no status.
    Whole,
    Write,
}

/// What a resource is called.
pub(super) struct Names {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) prefix: String,
    pub(super) plural: &'static str,
    pub(super) namespaced: bool,
}

impl Names {
    pub(super) fn gvk(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }

    /// `dev.isocast.network.v1alpha1.Node`
    pub(super) fn schema(&self) -> String {
        let mut parts: Vec<&str> = match self.group {
            "" => vec!["core", "api", "k8s", "io"],
            group => group.split('.').collect(),
        };
        parts.reverse();
        format!("{}.{}.{}", parts.join("."), self.version, self.kind)
    }

    pub(super) fn list_schema(&self) -> Value {
        json!({
            "type": "object",
            "description": format!("A list of {} objects.", self.kind),
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "items": {"type": "array", "items": reference(&self.schema())},
            },
            "x-kubernetes-group-version-kind": [{
                "group": self.group, "version": self.version, "kind": format!("{}List", self.kind),
            }],
        })
    }

    /// The path of the objects of one place, and its parameters.
    pub(super) fn collection(&self) -> (String, Vec<Value>) {
        let Self { prefix, plural, .. } = self;
        if self.namespaced {
            let parameter = path_parameter("namespace", "the container's namespace");
            (format!("{prefix}/namespaces/{{namespace}}/{plural}"), vec![parameter])
        } else {
            (format!("{prefix}/{plural}"), vec![])
        }
    }

    /// The paths of all objects, of those of a namespace and of one, and of its status.
    pub(super) fn add_paths(&self, paths: &mut Map<String, Value>, access: Access) {
        if self.namespaced {
            let everywhere = format!("{}/{}", self.prefix, self.plural);
            paths.insert(everywhere, json!({"get": self.operation("list")}));
        }
        let (collection, mut place) = self.collection();
        let mut many = Map::new();
        many.insert("get".into(), self.operation("list"));
        let mut one = Map::new();
        one.insert("get".into(), self.operation("get"));
        if access != Access::Read {
            many.insert("post".into(), self.operation("post"));
            many.insert("delete".into(), self.operation("deletecollection"));
            one.insert("put".into(), self.operation("put"));
            one.insert("patch".into(), self.operation("patch"));
            one.insert("delete".into(), self.operation("delete"));
        }
        many.insert("parameters".into(), json!(place));
        paths.insert(collection.clone(), Value::Object(many));
        place.push(path_parameter("name", "the object's name"));
        one.insert("parameters".into(), json!(place));
        let object = format!("{collection}/{{name}}");
        if access == Access::Write {
            let mut status = one.clone();
            status.shift_remove("delete");
            paths.insert(format!("{object}/status"), Value::Object(status));
        }
        paths.insert(object, Value::Object(one));
    }

    /// The path of a subresource that is only ever posted to.
    pub(super) fn add_posted(&self, paths: &mut Map<String, Value>, subresource: &str) {
        let (collection, mut place) = self.collection();
        place.push(path_parameter("name", "the object's name"));
        let free = json!({"application/json": {"schema": free()}});
        let operation = json!({
            "operationId": format!("post{}{}{subresource}", self.version, self.kind),
            "x-kubernetes-action": "post",
            "requestBody": {"content": free},
            "responses": responses(&["201"], &free),
        });
        let path = format!("{collection}/{{name}}/{subresource}");
        paths.insert(path, json!({"post": operation, "parameters": place}));
    }

    pub(super) fn operation(&self, action: &str) -> Value {
        let schema = match action {
            // Of a collection, what is deleted is listed.
            "list" | "deletecollection" => reference(&format!("{}List", self.schema())),
            "delete" => deleted(&self.schema()),
            _ => reference(&self.schema()),
        };
        let mut content = json!({
            "application/json": {"schema": schema}, "application/yaml": {"schema": schema},
        });
        if action == "list"
            && let Some(types) = content.as_object_mut()
        {
            let streamed = types.get("application/json").cloned().unwrap_or_default();
            types.insert("application/json;stream=watch".into(), streamed);
        }
        let codes: &[&str] = match action {
            "post" => &["201"],
            // What is applied to nothing is created.
            "put" | "patch" => &["200", "201"],
            // Asked to wait for dependents: not done yet.
            "delete" => &["200", "202"],
            _ => &["200"],
        };
        let parameters: Vec<Value> = query_parameters(action).collect();
        let mut operation = json!({
            "operationId": format!("{action}{}{}", self.version, self.kind),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.gvk(),
            "parameters": parameters,
            "responses": responses(codes, &content),
        });
        let whole = || json!({"schema": reference(&self.schema())});
        let patch = || json!({"schema": {"type": "object"}});
        let body = match action {
            "post" | "put" => json!({"application/json": whole(), "application/yaml": whole()}),
            "patch" => json!({
                "application/apply-patch+yaml": patch(),
                "application/json-patch+json": {"schema": {"type": "array"}},
                "application/merge-patch+json": patch(),
            }),
            "delete" => json!({"application/json": {"schema": reference(DELETE_OPTIONS)}}),
            _ => return operation,
        };
        if let Some(fields) = operation.as_object_mut() {
            fields.insert("requestBody".into(), json!({"content": body}));
        }
        operation
    }
}

/// What is answered with these codes, and with any other one: a refusal.
fn responses(codes: &[&str], content: &Value) -> Value {
    let mut responses = Map::new();
    for code in codes {
        responses.insert((*code).into(), json!({"description": "OK", "content": content}));
    }
    let refusal = json!({"application/json": {"schema": reference(STATUS)}});
    for (code, description) in [("401", "Unauthorized"), ("default", "Refused")] {
        let response = json!({"description": description, "content": refusal});
        responses.insert(code.into(), response);
    }
    Value::Object(responses)
}

/// What a query can say: words, or one of a few.
fn query_parameters(action: &str) -> impl Iterator<Item = Value> {
    const WORDS: &[&str] = &[];
    type Parameter = (&'static str, &'static str, &'static [&'static str]);
    const DRY_RUN: Parameter = ("dryRun", "string", &["All"]);
    const READ: &[Parameter] = &[("resourceVersion", "string", WORDS)];
    const LIST: &[Parameter] = &[
        ("allowWatchBookmarks", "boolean", WORDS),
        ("continue", "string", WORDS),
        ("fieldSelector", "string", WORDS),
        ("labelSelector", "string", WORDS),
        ("limit", "integer", WORDS),
        ("resourceVersion", "string", WORDS),
        ("resourceVersionMatch", "string", &["Exact", "NotOlderThan"]),
        ("sendInitialEvents", "boolean", WORDS),
        ("timeoutSeconds", "integer", WORDS),
        ("watch", "boolean", WORDS),
    ];
    const WRITE: &[Parameter] = &[
        DRY_RUN,
        ("fieldManager", "string", WORDS),
        ("fieldValidation", "string", &["Ignore", "Warn", "Strict"]),
    ];
    const FORCE: &[Parameter] = &[("force", "boolean", WORDS)];
    const DELETE: &[Parameter] =
        &[DRY_RUN, ("propagationPolicy", "string", &["Orphan", "Background", "Foreground"])];
    let (first, second) = match action {
        "list" => (LIST, &[][..]),
        "get" => (READ, &[][..]),
        "patch" => (WRITE, FORCE),
        "delete" => (DELETE, &[][..]),
        "deletecollection" => (DELETE, LIST.get(2..4).unwrap_or_default()),
        _ => (WRITE, &[][..]),
    };
    first.iter().chain(second).map(|(name, kind, values)| {
        let mut schema = json!({"type": kind, "uniqueItems": true});
        if !values.is_empty()
            && let Some(fields) = schema.as_object_mut()
        {
            fields.insert("enum".into(), json!(values));
        }
        json!({"name": name, "in": "query", "schema": schema})
    })
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "description": description,
        "required": true,
        "schema": {"type": "string", "uniqueItems": true},
    })
}
