//! [`ContextsFile`]: a kubeconfig file that contexts are put into, as `kubectl config` does.
//!
//! Owns a whole file as it was read: what is of others stays as it is, but is written as JSON, which
//! is YAML. A file that cannot be read is never written over.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::files;

/// A kubeconfig file.
#[derive(Debug)]
pub(crate) struct ContextsFile {
    path: Option<PathBuf>,
    content: Map<String, Value>,
}

/// What a kubeconfig has lists of.
const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

impl ContextsFile {
    /// Reads the file at `path`; none is an empty one.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        // Where somebody keeps it elsewhere, it stays there.
        let path = fs::canonicalize(path).unwrap_or_else(|_not_there| path.to_owned());
        let unusable = || format!("cannot use the kubeconfig {}", path.display());
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(unusable)?,
        };
        let content = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_saphyr::from_str(&text).with_context(unusable)?
        };
        let mut content = match content {
            Value::Null => Map::new(),
            Value::Object(content) => content,
            _ => bail!("{}: it is not a map", unusable()),
        };
        for list in LISTS {
            match content.entry(list).or_insert_with(|| json!([])) {
                Value::Array(_) => {}
                none @ Value::Null => *none = json!([]),
                _ => bail!("{}: {list} is not a list", unusable()),
            }
        }
        Ok(Self { path: Some(path), content })
    }

    /// One that is in no file.
    pub(crate) fn none() -> Self {
        Self { path: None, content: Map::new() }
    }

    /// What is in it.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.content)
    }

    /// The server of the cluster called `name`.
    pub(crate) fn server(&self, name: &str) -> Option<&str> {
        let clusters = self.content.get("clusters")?.as_array()?;
        let cluster = clusters.iter().find(|it| is_called(it, name))?;
        cluster.pointer("/cluster/server")?.as_str()
    }

    /// Puts the entries of `config` in place of those that have their names; its current context becomes
    /// that of the file.
    pub(crate) fn add(&mut self, config: &Value) {
        for list in LISTS {
            let entries = self.content.entry(list).or_insert_with(|| json!([]));
            let Some(entries) = entries.as_array_mut() else { continue };
            for new in config.get(list).and_then(Value::as_array).into_iter().flatten() {
                let name = new.get("name").and_then(Value::as_str).unwrap_or_default();
                entries.retain(|it| !is_called(it, name));
                entries.push(new.clone());
            }
        }
        for field in ["apiVersion", "kind", "current-context"] {
            if let Some(value) = config.get(field) {
                self.content.insert(field.to_owned(), value.clone());
            }
        }
    }

    /// Writes the file, if it is one, for its owner alone: whole, or not at all.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let written = path.parent().map_or(Ok(()), |folder| Ok(fs::create_dir_all(folder)?));
        let written = written.and_then(|()| {
            files::write_whole(path, |mut file| {
                serde_json::to_writer_pretty(file, &self.content)?;
                Ok(writeln!(file)?)
            })
        });
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where it is, if in a file.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

fn is_called(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, server: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server}}],
            "users": [{"name": name, "user": {"token": "t"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        })
    }

    #[test]
    fn what_is_of_others_stays_and_what_has_the_name_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/config");
        let mut file = ContextsFile::open(&path).unwrap();
        file.add(&config("a", "https://a"));
        file.add(&config("b", "https://b"));
        file.save().unwrap();

        let mut file = ContextsFile::open(&path).unwrap();
        assert_eq!((file.server("a"), file.server("c")), (Some("https://a"), None));
        file.add(&config("a", "https://other"));
        file.save().unwrap();

        let text = fs::read_to_string(&path).unwrap();
        let mut expected = config("b", "https://b");
        for list in LISTS {
            let entries = expected[list].as_array_mut().unwrap();
            entries.extend(config("a", "https://other")[list].as_array().unwrap().clone());
        }
        expected["current-context"] = json!("a");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left over"
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["[", "- a", "contexts: {}"] {
            let path = folder.path().join("config");
            fs::write(&path, text).unwrap();
            let refused = format!("{:#}", ContextsFile::open(&path).unwrap_err());
            assert!(refused.starts_with("cannot use the kubeconfig"), "{refused}");
        }
        let empty = folder.path().join("empty");
        fs::write(&empty, "users: null\n").unwrap();
        let mut file = ContextsFile::open(&empty).unwrap();
        file.add(&config("a", "https://a"));
        assert_eq!(file.content["users"], config("a", "")["users"]);
    }
}
