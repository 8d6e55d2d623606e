//! Text tables and JSON on standard output.

use std::io::Write;

use anyhow::Context;
use serde_json::Value;

/// Writes rows under headings, each column as wide as its widest cell.
pub(crate) fn table(
    out: &mut impl Write,
    headings: &[String],
    rows: &[Vec<String>],
) -> anyhow::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(headings.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    for row in [headings].into_iter().chain(rows.iter().map(Vec::as_slice)) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let padding = width.saturating_sub(cell.chars().count()) + 3;
            line.extend(std::iter::repeat_n(' ', padding));
        }
        writeln!(out, "{}", line.trim_end()).context("cannot write")?;
    }
    Ok(())
}

/// Writes a value as indented JSON.
pub(crate) fn json(out: &mut impl Write, value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot encode the answer")?;
    writeln!(out, "{text}").context("cannot write")
}

/// A table's cell as text.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) if text.is_empty() => "<none>".to_owned(),
        // One line a row, and no control sequences of somebody else's on this terminal.
        Value::String(text) => {
            text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
        }
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let mut out = Vec::new();
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();

        table(&mut out, &row(["NAME", "READY"]), &[row(["ä", "True"]), row(["long-name", ""])])
            .unwrap();

        let expected = "NAME        READY\nä           True\nlong-name\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_cell_is_one_harmless_line() {
        assert_eq!(cell(&json!("a\u{1b}[2J\nb")), "a [2J b");
        assert_eq!(cell(&json!(["a", 1])), "a,1");
        assert_eq!(
            (cell(&json!(null)), cell(&json!("")), cell(&json!(true))),
            ("<none>".into(), "<none>".into(), "true".into())
        );
    }
}
