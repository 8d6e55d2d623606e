//! `isocast get`: lists objects as the server tabulates them.

use std::io::{self, Write};

use anyhow::{Context, bail};
use isocast_api::registry::{KindDescriptor, Scope};
use serde_json::Value;

use crate::{
    client::Client,
    kubeconfig::Kubeconfig,
    options::{GetArguments, GetOutput},
    output,
    resource::{self, Place},
};

pub(crate) fn run(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &GetArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let kind = resource::find(&arguments.kind)?;
    let place = place(kind, arguments, kubeconfig)?;
    let mut path = resource::path(kind, place, arguments.name.as_deref());
    if let Some(selector) = &arguments.selector {
        path.push_str("?labelSelector=");
        resource::push_escaped(&mut path, selector);
    }
    if arguments.output == GetOutput::Json {
        return output::json(out, &client.get(&path)?);
    }
    let answer = client.get_table(&path)?;
    let with_namespace = kind.scope == Scope::Namespaced && place == Place::All;
    let (headings, rows) = tabulate(&answer, arguments.output, with_namespace)?;
    if rows.is_empty() {
        let found = match place {
            Place::Namespace(namespace) if kind.scope == Scope::Namespaced => {
                format!("No {} in namespace {namespace}.", kind.plural)
            }
            _ => format!("No {}.", kind.plural),
        };
        return writeln!(io::stderr(), "{found}").context("cannot write");
    }
    output::table(out, &headings, &rows)
}

fn place<'a>(
    kind: &KindDescriptor,
    arguments: &'a GetArguments,
    kubeconfig: &'a Kubeconfig,
) -> anyhow::Result<Place<'a>> {
    if kind.scope == Scope::Cluster || arguments.all_namespaces {
        return Ok(Place::All);
    }
    match arguments.namespace.as_ref().or(kubeconfig.namespace.as_ref()) {
        Some(namespace) => Ok(Place::Namespace(namespace)),
        None => bail!(
            "{} live in namespaces: name one with -n (a project or organization), or all with -A",
            kind.plural
        ),
    }
}

/// Headings and cells of a Table.
fn tabulate(
    table: &Value,
    output: GetOutput,
    with_namespace: bool,
) -> anyhow::Result<(Vec<String>, Vec<Vec<String>>)> {
    let items = |name: &str| table.get(name).and_then(Value::as_array);
    let columns = items("columnDefinitions").context("the server's answer is not a table")?;
    let shown = |column: &Value| {
        let priority = column.get("priority").and_then(Value::as_i64).unwrap_or_default();
        priority == 0 || output == GetOutput::Wide
    };
    let is_shown: Vec<bool> = columns.iter().map(shown).collect();
    let heading = |column: &Value| {
        column.get("name").and_then(Value::as_str).unwrap_or_default().to_uppercase()
    };
    let mut headings = Vec::new();
    if with_namespace {
        headings.push("NAMESPACE".to_owned());
    }
    let kept = columns.iter().zip(&is_shown).filter(|(_, shown)| **shown);
    headings.extend(kept.map(|(column, _)| heading(column)));
    let row = |row: &Value| {
        let mut cells = Vec::new();
        if with_namespace {
            let namespace = row.pointer("/object/metadata/namespace").unwrap_or(&Value::Null);
            cells.push(output::cell(namespace));
        }
        let all = row.get("cells").and_then(Value::as_array).into_iter().flatten();
        let kept = all.zip(&is_shown).filter(|(_, shown)| **shown);
        cells.extend(kept.map(|(cell, _)| output::cell(cell)));
        cells
    };
    Ok((headings, items("rows").into_iter().flatten().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wide_columns_and_namespaces_are_shown_when_asked_for() {
        let table = json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Mode", "priority": 1}, {"name": "Age"}],
            "rows": [{"cells": ["www", "GUE", "5m"], "object": {"metadata": {"namespace": "web"}}}],
        });

        let (headings, rows) = tabulate(&table, GetOutput::Table, false).unwrap();
        assert_eq!((headings.join(" "), rows[0].join(" ")), ("NAME AGE".into(), "www 5m".into()));

        let (headings, rows) = tabulate(&table, GetOutput::Wide, true).unwrap();
        assert_eq!(headings, ["NAMESPACE", "NAME", "MODE", "AGE"]);
        assert_eq!(rows, [["web", "www", "GUE", "5m"]]);

        assert!(tabulate(&json!({"kind": "List"}), GetOutput::Table, false).is_err());
    }
}
