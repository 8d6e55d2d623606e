//! [`JsonPath`]: the paths of printer columns and field selectors.
//!
//! `.spec.region`, `.spec.ports[0].port`, `.spec.ports[*].port`,
//! `.status.conditions[?(@.type=="Ready")].status`. Anything else is not a path. Pure.

use serde_json::Value;

/// A path into an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    All,
    Field(String),
    Index(usize),
    Where(String, String),
}

impl JsonPath {
    /// Reads a path.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut steps = Vec::new();
        let mut rest = path;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                if name.is_empty() {
                    return None;
                }
                steps.push(Step::Field(name.to_owned()));
                rest = after;
            } else {
                let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
                steps.push(subscript(inside)?);
                rest = after;
            }
        }
        Some(Self(steps))
    }

    /// The values at the path.
    pub(crate) fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.find(value)).collect();
        }
        found.retain(|value| !value.is_null());
        found
    }

    /// The first value at the path as text.
    pub(crate) fn text(&self, object: &Value) -> Option<String> {
        self.find(object).first().map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

impl Step {
    fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = || value.as_array().into_iter().flatten();
        match self {
            Self::All => items().collect(),
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(index) => value.get(index).into_iter().collect(),
            Self::Where(field, wanted) => items()
                .filter(|item| item.get(field).and_then(Value::as_str) == Some(wanted))
                .collect(),
        }
    }
}

fn subscript(inside: &str) -> Option<Step> {
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(test) = inside.strip_prefix("?(@.").and_then(|test| test.strip_suffix(')')) {
        let (field, wanted) = test.split_once("==")?;
        let wanted = wanted.trim();
        let wanted = wanted
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .or_else(|| wanted.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')))?;
        return Some(Step::Where(field.trim().to_owned(), wanted.to_owned()));
    }
    inside.parse().ok().map(Step::Index)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_fields_items_and_conditions() {
        let object = json!({
            "spec": {"ports": [{"port": 80}, {"port": 443}]},
            "status": {"conditions": [
                {"type": "Programmed", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        for (path, expected) in [
            (".spec.ports[1].port", vec![json!(443)]),
            (".spec.ports[*].port", vec![json!(80), json!(443)]),
            (r#".status.conditions[?(@.type=="Ready")].status"#, vec![json!("True")]),
            (".status.conditions[?(@.type=='Absent')].status", vec![]),
            (".spec.absent.deep", vec![]),
        ] {
            let found: Vec<Value> =
                JsonPath::parse(path).expect("a path").find(&object).into_iter().cloned().collect();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_a_path_is_not_read() {
        for path in ["spec", ".", ".a[", ".a[x]", ".a[?(@.b)]", ".a..b"] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}
