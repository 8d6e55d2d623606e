//! [`Report`]: figures as they come, for people and, with `--json FILE`, for programs.

use std::{collections::BTreeMap, env, path::PathBuf};

/// Figures by key.
pub(crate) struct Report {
    figures: BTreeMap<String, f64>,
    file: Option<PathBuf>,
}

/// What a figure is meant to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(crate) fn from_arguments() -> Self {
        let mut arguments = env::args().skip_while(|argument| argument != "--json").skip(1);
        Self { figures: BTreeMap::new(), file: arguments.next().map(PathBuf::from) }
    }

    pub(crate) fn row(
        &mut self,
        key: &str,
        text: &str,
        figure: f64,
        goal: impl Into<Option<Goal>>,
    ) {
        let verdict = match goal.into() {
            None => String::new(),
            Some(Goal::AtLeast(least)) if figure >= least => format!("(≥ {least})"),
            Some(Goal::AtLeast(least)) => format!("(≥ {least}: missed)"),
            Some(Goal::AtMost(most)) if figure <= most => format!("(≤ {most})"),
            Some(Goal::AtMost(most)) => format!("(≤ {most}: missed)"),
        };
        println!("{text:<48} {figure:>10.2}  {verdict}");
        self.figures.insert(key.to_owned(), figure);
    }

    pub(crate) fn write(self) {
        if let Some(file) = self.file {
            let text = serde_json::to_string_pretty(&self.figures).expect("numbers");
            std::fs::write(file, text).expect("writable");
        }
    }
}
