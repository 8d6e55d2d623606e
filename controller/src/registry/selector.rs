//! [`Selector`]: label and field selectors of listings and watches.
//!
//! Grammar: Kubernetes API concepts, "Labels and Selectors" and "Field Selectors". Pure.
//!
//! A listing looks at every object of its range, and most are not selected: their text is searched for
//! the label as it would be written, which is a fiftieth of the cost of parsing it.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::{json_path::JsonPath, metadata};
use crate::{
    error::ApiError,
    store::{Document, Key},
};

/// Requirements that all have to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq)]
struct LabelRequirement {
    key: String,
    test: LabelTest,
    /// What an object's text has somewhere, if the label matters to the test.
    written: String,
}

#[derive(Clone, Debug, PartialEq)]
enum LabelTest {
    Absent,
    Exists,
    /// As whole numbers; what is none is not compared.
    Greater(i64),
    In(Vec<String>),
    Less(i64),
    NotIn(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
struct FieldRequirement {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Name,
    Namespace,
    Path(JsonPath),
}

/// The labels of an object, without the rest of it.
#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow)]
    metadata: Labels<'a>,
}

#[derive(Deserialize)]
struct Labels<'a> {
    #[serde(borrow, default)]
    labels: HashMap<Cow<'a, str>, Cow<'a, str>>,
}

/// What is known of a label selector after a look at the text of an object.
enum Seen {
    Selected,
    NotSelected,
    Open,
}

impl LabelRequirement {
    fn new(key: &str, test: LabelTest) -> Self {
        // Objects are written without white space.
        let written = match &test {
            LabelTest::In(values) if let [value] = values.as_slice() => {
                format!("{}:{}", Value::from(key), Value::from(value.as_str()))
            }
            _ => format!("{}:", Value::from(key)),
        };
        Self { key: key.to_owned(), test, written }
    }

    fn is_met_by(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            LabelTest::Greater(limit) => number().is_some_and(|number| number > *limit),
            LabelTest::Less(limit) => number().is_some_and(|number| number < *limit),
            LabelTest::Absent => value.is_none(),
            LabelTest::Exists => value.is_some(),
            LabelTest::In(values) => {
                value.is_some_and(|value| values.iter().any(|other| other == value))
            }
            // An object without the label is not in the set either.
            LabelTest::NotIn(values) => {
                value.is_none_or(|value| values.iter().all(|other| other != value))
            }
        }
    }

    fn needs_label(&self) -> bool {
        !matches!(self.test, LabelTest::Absent | LabelTest::NotIn(_))
    }
}

impl FieldRequirement {
    fn is_met_by(&self, value: &str) -> bool {
        (value == self.value) == self.equal
    }
}

impl Selector {
    /// Reads the two query parameters; `selectable` names the fields besides name and namespace.
    pub(crate) fn parse(labels: &str, fields: &str, selectable: &[&str]) -> Result<Self, ApiError> {
        let labels = split(labels).map(label_requirement).collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|term| !term.trim().is_empty())
            .map(|term| field_requirement(term, selectable))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// The same, of the object called `name` alone.
    pub(crate) fn named(mut self, name: &str) -> Self {
        let (field, value) = (Field::Name, name.to_owned());
        self.fields.push(FieldRequirement { field, value, equal: true });
        self
    }

    /// Whether every object is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether `object` is selected.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.labels.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key)?.as_str());
            requirement.is_met_by(value)
        }) && self.fields.iter().all(|requirement| {
            let value = match &requirement.field {
                Field::Name => metadata::text(object, "name").into(),
                Field::Namespace => metadata::text(object, "namespace").into(),
                Field::Path(path) => path.text(object).unwrap_or_default(),
            };
            requirement.is_met_by(&value)
        })
    }

    /// Whether the object at `key` is selected; it is parsed only if more than the key matters.
    pub(crate) fn selects(&self, key: &Key, object: &Document) -> bool {
        let mut fields = self.fields.iter();
        let is_there = fields.all(|requirement| match requirement.field {
            Field::Name => requirement.is_met_by(key.name()),
            Field::Namespace => requirement.is_met_by(key.container().unwrap_or_default()),
            Field::Path(_) => true,
        });
        if !is_there {
            return false;
        }
        let says_all = self.fields.iter().all(|it| !matches!(it.field, Field::Path(_)));
        if says_all && self.labels.is_empty() {
            return true;
        }
        if let Some(value) = object.known() {
            return self.matches(&value);
        }
        let text = object.text();
        match self.look(&text) {
            Seen::NotSelected => false,
            Seen::Selected if says_all => true,
            Seen::Open if says_all && let Ok(read) = text.read::<Labelled<'_>>() => {
                let labels = read.metadata.labels;
                let value = |key: &str| labels.get(key).map(|value| &**value);
                self.labels.iter().all(|it| it.is_met_by(value(&it.key)))
            }
            Seen::Selected | Seen::Open => self.matches(&object.glance()),
        }
    }

    /// What the text of an object says of its labels without being parsed. A label that is nowhere in it
    /// is none of its labels; one that is may also be the name of something else.
    fn look(&self, text: &str) -> Seen {
        let mut seen = Seen::Selected;
        for requirement in &self.labels {
            match (text.contains(&requirement.written), requirement.needs_label()) {
                (true, _) => seen = Seen::Open,
                (false, true) => return Seen::NotSelected,
                (false, false) => {}
            }
        }
        seen
    }
}

/// Splits at commas outside parentheses.
fn split(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    selector
        .split(move |c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|term| !term.is_empty())
}

fn label_requirement(term: &str) -> Result<LabelRequirement, ApiError> {
    let malformed = || {
        ApiError::bad_request(format!("unable to parse requirement of label selector: {term:?}"))
    };
    let requirement = |key: &str, test| {
        let key = key.trim();
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if key.is_empty() || !key.chars().all(legal) {
            return Err(malformed());
        }
        Ok(LabelRequirement::new(key, test))
    };
    if let Some(list) = term.strip_suffix(')') {
        let (head, values) = list.split_once('(').ok_or_else(malformed)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace).ok_or_else(malformed)?;
        return match operator {
            "in" => requirement(key, LabelTest::In(values)),
            "notin" => requirement(key, LabelTest::NotIn(values)),
            _ => Err(malformed()),
        };
    }
    let one = |value: &str| vec![value.trim().to_owned()];
    let number = |text: &str| text.trim().parse().map_err(|_not_a_number| malformed());
    if let Some((key, value)) = term.split_once("!=") {
        requirement(key, LabelTest::NotIn(one(value)))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        requirement(key, LabelTest::In(one(value)))
    } else if let Some((key, limit)) = term.split_once('>') {
        requirement(key, LabelTest::Greater(number(limit)?))
    } else if let Some((key, limit)) = term.split_once('<') {
        requirement(key, LabelTest::Less(number(limit)?))
    } else if let Some(key) = term.strip_prefix('!') {
        requirement(key, LabelTest::Absent)
    } else {
        requirement(term, LabelTest::Exists)
    }
}

fn field_requirement(term: &str, selectable: &[&str]) -> Result<FieldRequirement, ApiError> {
    let (field, value, equal) = if let Some((field, value)) = term.split_once("!=") {
        (field, value, false)
    } else if let Some((field, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (field, value, true)
    } else {
        return Err(ApiError::bad_request(format!("invalid field selector: {term:?}")));
    };
    let field = field.trim();
    if !["metadata.name", "metadata.namespace"].contains(&field) && !selectable.contains(&field) {
        return Err(ApiError::bad_request(format!("field label not supported: {field}")));
    }
    let field = match field {
        "metadata.name" => Field::Name,
        "metadata.namespace" => Field::Namespace,
        other => JsonPath::parse(&format!(".{other}"))
            .map(Field::Path)
            .ok_or_else(|| ApiError::bad_request(format!("field label not supported: {other}")))?,
    };
    Ok(FieldRequirement { field, value: value.trim().to_owned(), equal })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Resource;

    fn matches(labels: &str, fields: &str) -> bool {
        let object = json!({
            "metadata": {"name": "www", "namespace": "web",
                "labels": {"tier": "edge", "team": "a"}},
            "spec": {"backendPool": "www"},
        });
        let selector = Selector::parse(labels, fields, &["spec.backendPool"]);
        let selector = selector.expect("well-formed");
        let is_selected = selector.matches(&object);
        // By its text, and by what somebody has parsed already.
        let key = Key::new(Resource::new("services", "x"), Some("web"), "www");
        let document = Document::from(object);
        assert_eq!(selector.selects(&key, &document), is_selected, "{labels} {fields}");
        let value = document.value();
        assert_eq!(selector.selects(&key, &document), is_selected, "{labels} {fields}");
        drop(value);
        is_selected
    }

    #[test]
    fn what_is_not_a_label_is_none() {
        let object = json!({
            "metadata": {"name": "www", "annotations": {"tier": "edge"}},
            "spec": {"tier": "edge", "text": "\"tier\":\"edge\""},
        });
        let key = Key::new(Resource::new("services", "x"), None, "www");
        for (labels, expected) in
            [("tier=edge", false), ("tier", false), ("!tier", true), ("tier!=edge", true)]
        {
            let selector = Selector::parse(labels, "", &[]).expect("well-formed");
            let document = Document::from(object.clone());
            assert_eq!(selector.selects(&key, &document), expected, "{labels}");
        }
    }

    #[test]
    fn label_selectors_follow_the_grammar() {
        for yes in [
            "",
            "tier",
            "!absent",
            "tier=edge",
            "tier==edge,team=a",
            "tier!=core",
            "absent!=x",
            "tier in (core, edge),team notin (b,c)",
            "absent notin (x)",
        ] {
            assert!(matches(yes, ""), "{yes}");
        }
        for no in
            ["absent", "!tier", "tier=core", "tier in (core)", "tier notin (edge)", "tier!=edge"]
        {
            assert!(!matches(no, ""), "{no}");
        }
    }

    #[test]
    fn field_selectors_know_names_and_what_the_kind_declares() {
        assert!(matches("", "metadata.name=www,metadata.namespace=web"));
        assert!(matches("", "spec.backendPool==www"));
        assert!(!matches("", "metadata.name!=www"));
        let one = |name: &str| Selector::default().named(name);
        let object = json!({"metadata": {"name": "www"}});
        assert!(one("www").matches(&object) && !one("w").matches(&object));
    }

    #[test]
    fn malformed_selectors_are_bad_requests() {
        for (labels, fields) in
            [("a b", ""), ("a within (b)", ""), ("=x", ""), ("", "metadata.name"), ("", "spec.x=1")]
        {
            let refusal = Selector::parse(labels, fields, &[]).map_err(|error| error.code());
            assert_eq!(refusal, Err(400), "{labels} {fields}");
        }
    }
}
