//! OpenAPI v2 in JSON, once called Swagger, made of the v3 documents.
//!
//! For clients that know no other form: Terraform's `kubernetes_manifest`, and older libraries that make
//! their methods of it. It says all that v2 can say; alternatives, which it cannot, are left out.

use serde_json::{Map, Value, json};

use super::{REFERENCE, fields};

/// Where schemas are in a document of this version.
const DEFINITIONS: &str = "#/definitions/";
/// What a schema of v3 may say, and one of v2 may not.
const UNKNOWN: [&str; 5] = ["allOf", "anyOf", "nullable", "not", "oneOf"];

/// One document of all groups.
pub(super) fn document<'a>(documents: impl Iterator<Item = &'a Value>) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for document in documents {
        for (path, operations) in fields(document, "/paths") {
            paths.insert(path.clone(), path_item(operations));
        }
        for (name, definition) in fields(document, "/components/schemas") {
            definitions.insert(name.clone(), schema(definition));
        }
    }
    let token = json!({"type": "apiKey", "name": "authorization", "in": "header"});
    json!({
        "swagger": "2.0",
        "info": {"title": "Isocast", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": token},
        "security": [{"BearerToken": []}],
    })
}

fn path_item(item: &Value) -> Value {
    let parts = item.as_object().into_iter().flatten();
    let part = |(name, part): (&String, &Value)| {
        let part = if name == "parameters" { parameters(part) } else { operation(part) };
        (name.clone(), part)
    };
    Value::Object(parts.map(part).collect())
}

fn operation(operation: &Value) -> Value {
    let mut described: Map<String, Value> = operation.as_object().cloned().unwrap_or_default();
    let body = described.shift_remove("requestBody").unwrap_or_default();
    let types: Vec<String> = fields(&body, "/content").map(|(name, _)| name.clone()).collect();
    let mut parameters = parameters(operation.get("parameters").unwrap_or(&Value::Null));
    if let (Some((_, content)), Some(list)) =
        (fields(&body, "/content").next(), parameters.as_array_mut())
    {
        let schema = schema(content.get("schema").unwrap_or(&Value::Null));
        list.push(json!({"name": "body", "in": "body", "schema": schema}));
        described.insert("consumes".to_owned(), json!(types));
    }
    let mut produces: Vec<&String> = Vec::new();
    let mut responses = Map::new();
    for (code, answer) in fields(operation, "/responses") {
        let mut response = Map::new();
        response.extend(answer.get("description").map(|it| ("description".to_owned(), it.clone())));
        for (media_type, content) in fields(answer, "/content") {
            if !produces.contains(&media_type) {
                produces.push(media_type);
            }
            let schema = schema(content.get("schema").unwrap_or(&Value::Null));
            response.insert("schema".to_owned(), schema);
        }
        responses.insert(code.clone(), Value::Object(response));
    }
    described.insert("parameters".to_owned(), parameters);
    described.insert("produces".to_owned(), json!(produces));
    described.insert("responses".to_owned(), Value::Object(responses));
    Value::Object(described)
}

/// Parameters of a path or a query, whose schemas are part of themselves here.
fn parameters(parameters: &Value) -> Value {
    let flat = |parameter: &Value| {
        let mut fields = parameter.as_object().cloned().unwrap_or_default();
        let own = fields.shift_remove("schema").unwrap_or_default();
        if let Value::Object(own) = schema(&own) {
            fields.extend(own);
        }
        Value::Object(fields)
    };
    parameters.as_array().into_iter().flatten().map(flat).collect()
}

fn schema(of: &Value) -> Value {
    match of {
        Value::Object(fields) => {
            let known = fields.iter().filter(|(name, _)| !UNKNOWN.contains(&name.as_str()));
            let field = |(name, value): (&String, &Value)| {
                let value = match (name.as_str(), value.as_str()) {
                    ("$ref", Some(target)) => {
                        json!(format!("{DEFINITIONS}{}", target.trim_start_matches(REFERENCE)))
                    }
                    ("properties", _) => {
                        let each = |(name, value): (&String, &Value)| (name.clone(), schema(value));
                        Value::Object(value.as_object().into_iter().flatten().map(each).collect())
                    }
                    ("items" | "additionalProperties", _) => schema(value),
                    _ => value.clone(),
                };
                (name.clone(), value)
            };
            Value::Object(known.map(field).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_versions_can_say_is_said_in_the_form_of_the_second() {
        let things = json!({
            "paths": {"/apis/g/v1/things/{name}": {
                "parameters": [
                    {"name": "name", "in": "path", "required": true, "schema": {"type": "string"}},
                ],
                "put": {
                    "operationId": "putThing",
                    "x-kubernetes-action": "put",
                    "parameters": [{"name": "dryRun", "in": "query", "schema": {"type": "string"}}],
                    "requestBody": {"content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}},
                        "application/yaml": {"schema": {"$ref": "#/components/schemas/Thing"}},
                    }},
                    "responses": {"200": {"description": "OK", "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}},
                    }}},
                },
            }},
            "components": {"schemas": {"Thing": {
                "type": "object",
                "properties": {
                    "anyOf": {"type": "array", "items": {"$ref": "#/components/schemas/Other"}},
                    "b": {"anyOf": [{"type": "string"}], "x-kubernetes-int-or-string": true},
                },
            }}},
        });

        let document = document([&things].into_iter());

        let item = &document["paths"]["/apis/g/v1/things/{name}"];
        let name = json!({"name": "name", "in": "path", "required": true, "type": "string"});
        assert_eq!(item["parameters"], json!([name]));
        let thing = json!({"$ref": "#/definitions/Thing"});
        assert_eq!(
            item["put"],
            json!({
                "operationId": "putThing",
                "x-kubernetes-action": "put",
                "parameters": [
                    {"name": "dryRun", "in": "query", "type": "string"},
                    {"name": "body", "in": "body", "schema": thing},
                ],
                "consumes": ["application/json", "application/yaml"],
                "produces": ["application/json"],
                "responses": {"200": {"description": "OK", "schema": thing}},
            })
        );
        let other = json!({"type": "array", "items": {"$ref": "#/definitions/Other"}});
        let properties = &document["definitions"]["Thing"]["properties"];
        assert_eq!(properties["anyOf"], other, "a field may be called so");
        assert_eq!(properties["b"], json!({"x-kubernetes-int-or-string": true}));
    }
}
