//! Tables: objects as rows, for `kubectl get`.
//!
//! The server says what the columns are and how old things look; the client only draws lines.
//! Kubernetes `meta.k8s.io/v1` Table. Pure: `now` comes in.

use std::borrow::Borrow;

use isocast_api::registry::Column;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::json_path::JsonPath;

/// Which part of each object travels along with its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    /// The metadata.
    #[default]
    Metadata,
    /// Nothing.
    None,
    /// All of it.
    Object,
}

/// The columns of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    definitions: Value,
    /// Where to look, in order of preference.
    cells: Vec<(Vec<JsonPath>, Cell)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Age,
    Count,
    Name,
    Text,
    Typed,
}

const NAME_PATH: &str = ".metadata.name";

impl Columns {
    /// Columns after `Name`, unless that has another place among them.
    pub(crate) fn new(columns: &[Column]) -> Self {
        let name = Column::new("Name", "string", NAME_PATH, "Name of the object");
        let has_name = columns.iter().any(|column| column.json_path == NAME_PATH);
        let columns = (!has_name).then_some(&name).into_iter().chain(columns);
        let mut definitions = Vec::new();
        let mut cells = Vec::new();
        for column in columns {
            let paths = column.json_path.split("||").map(JsonPath::parse);
            let Some(paths) = paths.collect::<Option<Vec<_>>>() else { continue };
            let (kind, cell) = match column.kind {
                // A date is sent as the age it stands for.
                "date" => ("string", Cell::Age),
                "count" => ("integer", Cell::Count),
                kind @ ("integer" | "boolean") => (kind, Cell::Typed),
                kind if column.json_path == NAME_PATH => (kind, Cell::Name),
                kind => (kind, Cell::Text),
            };
            definitions.push(json!({
                "name": column.name,
                "type": kind,
                "format": if cell == Cell::Name { "name" } else { "" },
                "description": column.description,
                "priority": column.priority,
            }));
            cells.push((paths, cell));
        }
        Self { definitions: Value::Array(definitions), cells }
    }

    /// A table of `objects`; `metadata` is that of the list.
    pub(crate) fn table<V: Borrow<Value>>(
        &self,
        metadata: &Value,
        objects: impl IntoIterator<Item = V>,
        include: IncludeObject,
        now: Timestamp,
    ) -> Value {
        let rows: Vec<Value> =
            objects.into_iter().map(|object| self.row(object.borrow(), include, now)).collect();
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": self.definitions,
            "rows": rows,
        })
    }

    fn row(&self, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
        let cells = self.cells.iter().map(|(paths, cell)| {
            let mut looked = paths.iter().map(|path| path.find(object));
            let found = looked.find(|found| !found.is_empty()).unwrap_or_default();
            match (cell, &*found) {
                (Cell::Name, found) => found.first().copied().cloned().unwrap_or_default(),
                (Cell::Count, found) => json!(found.first().map_or(0, |value| count(value))),
                (Cell::Age, []) => json!("<unknown>"),
                (Cell::Age, [first, ..]) => json!(age(first, now)),
                (Cell::Typed, [first, ..]) => (*first).clone(),
                (_, []) => json!(""),
                (_, values) => {
                    json!(values.iter().map(|value| plain(value)).collect::<Vec<_>>().join(","))
                }
            }
        });
        let mut row = json!({"cells": cells.collect::<Vec<_>>()});
        let part = match include {
            IncludeObject::None => return row,
            IncludeObject::Metadata => partial(object),
            IncludeObject::Object => object.clone(),
        };
        if let Some(row) = row.as_object_mut() {
            row.insert("object".into(), part);
        }
        row
    }
}

/// The object as `PartialObjectMetadata`.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}

/// How long ago a time was, as kubectl writes it.
fn age(value: &Value, now: Timestamp) -> String {
    match value.as_str().map(str::parse::<Timestamp>) {
        Some(Ok(then)) => humanise(now.as_second().saturating_sub(then.as_second())),
        _ => "<invalid>".to_owned(),
    }
}

/// Two units at most, coarser with age (apimachinery's `HumanDuration`).
fn humanise(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// Of what a map or list holds.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

/// A value without quotes; lists with commas, references as `kind/name`.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match (fields.get("kind"), fields.get("name")) {
            (Some(Value::String(kind)), Some(Value::String(name))) => {
                format!("{}/{name}", kind.to_lowercase())
            }
            _ => value.to_string(),
        },
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (700, "11m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 120, "3h2m"),
            (9 * 3600, "9h"),
            (3 * 86400 + 3600, "3d1h"),
            (30 * 86400, "30d"),
            (3 * 365 * 86400, "3y"),
        ] {
            assert_eq!(humanise(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_row_has_a_cell_for_every_column() {
        let columns = Columns::new(&[
            Column::new("Pool", "string", ".spec.pool", ""),
            Column::new("Ports", "string", ".spec.ports[*].port", ""),
            Column::new("Count", "integer", ".spec.count", ""),
            Column::new("Age", "date", ".metadata.creationTimestamp", ""),
        ]);
        let object = json!({
            "metadata": {"name": "www", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"ports": [{"port": 80}, {"port": 443}], "count": 3},
        });
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");

        let table = columns.table(&json!({}), [&object], IncludeObject::None, now);

        assert_eq!(table["rows"][0]["cells"], json!(["www", "", "80,443", 3, "5m"]));
        assert_eq!(table["columnDefinitions"].as_array().map(Vec::len), Some(5));
    }
}
