//! From a word to a kind, and from a kind to paths of the API.

use std::fmt::Write;

use anyhow::bail;
use isocast_api::registry::{KindDescriptor, Scope, kinds};

/// The kind that `word` means: plural, singular, short name or CamelCase, with or without group.
pub(crate) fn find(word: &str) -> anyhow::Result<&'static KindDescriptor> {
    let lower = word.to_lowercase();
    let (name, group) = lower.split_once('.').unwrap_or((&lower, ""));
    let means = |kind: &&KindDescriptor| {
        let is_named = kind.plural == name
            || kind.singular == name
            || kind.short_names.contains(&name)
            // What people call it: an AnycastService is the only service there is.
            || (kind.kind == "AnycastService" && matches!(name, "service" | "services" | "svc"));
        is_named && (group.is_empty() || group == kind.group)
    };
    if let Some(kind) = kinds().iter().find(means) {
        return Ok(kind);
    }
    let known: Vec<_> = kinds().iter().map(|kind| kind.plural).collect();
    bail!("there is no kind {word:?}; there are {}", known.join(", "))
}

/// Where the objects of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// Everywhere.
    All,
    /// In a namespace.
    Namespace(&'a str),
}

/// Path of the objects of `kind` in `place`, or of the one called `name`.
pub(crate) fn path(kind: &KindDescriptor, place: Place<'_>, name: Option<&str>) -> String {
    let mut path = kind.path();
    if let (Scope::Namespaced, Place::Namespace(namespace)) = (kind.scope, place) {
        path.push_str("/namespaces/");
        push_escaped(&mut path, namespace);
    }
    path.push('/');
    path.push_str(kind.plural);
    if let Some(name) = name {
        path.push('/');
        push_escaped(&mut path, name);
    }
    path
}

/// Appends `text` as one segment or value of a URL (RFC 3986 §2.3).
pub(crate) fn push_escaped(url: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            url.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(url, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_many_names() {
        for word in [
            "nodes",
            "node",
            "Node",
            "inode",
            "nodes.network.isocast.dev",
            "Nodes.Network.Isocast.Dev",
        ] {
            assert_eq!(find(word).unwrap().kind, "Node", "{word}");
        }
        assert_eq!(find("svc").unwrap().kind, "AnycastService");
        let refusal = find("pods").unwrap_err().to_string();
        assert!(refusal.starts_with("there is no kind \"pods\"; there are organizations, folders"));
        assert!(find("nodes.core").is_err());
    }

    #[test]
    fn paths_are_the_api_s_and_escape_what_users_type() {
        let nodes = find("nodes").unwrap();
        let claims = find("addressclaims").unwrap();
        let group = "/apis/network.isocast.dev/v1alpha1";

        assert_eq!(path(nodes, Place::All, Some("a")), format!("{group}/nodes/a"));
        assert_eq!(path(claims, Place::All, None), format!("{group}/addressclaims"));
        assert_eq!(
            path(claims, Place::Namespace("web"), Some("../x?y")),
            format!("{group}/namespaces/web/addressclaims/..%2Fx%3Fy"),
        );
    }
}
