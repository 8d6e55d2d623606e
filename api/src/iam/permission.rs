//! [`PermissionPattern`]: what a role allows, as text: `network.isocast.dev/anycastservices.get`.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::text::text_type;

/// `GROUP/RESOURCE.VERB` or `GROUP/RESOURCE/SUBRESOURCE.VERB`, each word a name or `*` for every one.
///
/// `GROUP/*.VERB` means resources alone, `GROUP/*/*.VERB` their subresources alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermissionPattern {
    /// API group.
    pub group: PermissionWord,
    /// Plural of the kind.
    pub resource: PermissionWord,
    /// What of the object.
    pub subresource: Option<PermissionWord>,
    /// What is done to it.
    pub verb: PermissionWord,
}

/// A word of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PermissionWord {
    /// `*`
    Any,
    /// This one.
    Only(String),
}

/// Why a text is not a [`PermissionPattern`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "must be GROUP/RESOURCE.VERB or GROUP/RESOURCE/SUBRESOURCE.VERB, with * for any (for example \
     'network.isocast.dev/anycastservices.get')"
)]
pub struct InvalidPermission;

impl PermissionWord {
    /// Whether `word` is meant.
    #[must_use]
    pub fn matches(&self, word: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => only == word,
        }
    }

    fn parse(text: &str, is_part: fn(u8) -> bool) -> Result<Self, InvalidPermission> {
        match text {
            "" => Err(InvalidPermission),
            "*" => Ok(Self::Any),
            _ if text.bytes().all(is_part) => Ok(Self::Only(text.to_owned())),
            _ => Err(InvalidPermission),
        }
    }
}

impl PermissionPattern {
    /// Whether it means `verb` of `resource`, or of a subresource.
    #[must_use]
    pub fn matches(&self, group: &str, resource: &str, subresource: &str, verb: &str) -> bool {
        let subresource_matches = match &self.subresource {
            None => subresource.is_empty(),
            Some(word) => !subresource.is_empty() && word.matches(subresource),
        };
        subresource_matches
            && self.group.matches(group)
            && self.resource.matches(resource)
            && self.verb.matches(verb)
    }

    /// Whether no word stands for several.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let words = [Some(&self.group), Some(&self.resource), self.subresource.as_ref()];
        let mut words = words.into_iter().flatten().chain([&self.verb]);
        words.all(|word| *word != PermissionWord::Any)
    }
}

impl FromStr for PermissionPattern {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let (group, rest) = text.split_once('/').ok_or(InvalidPermission)?;
        let (path, verb) = rest.rsplit_once('.').ok_or(InvalidPermission)?;
        let (resource, subresource) = match path.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (path, None),
        };
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let dotted = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
        };
        Ok(Self {
            group: PermissionWord::parse(group, dotted)?,
            resource: PermissionWord::parse(resource, lower)?,
            subresource: subresource
                .map(|subresource| PermissionWord::parse(subresource, lower))
                .transpose()?,
            verb: PermissionWord::parse(verb, lower)?,
        })
    }
}

impl fmt::Display for PermissionWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Only(only) => only,
        })
    }
}

impl fmt::Display for PermissionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.resource)?;
        if let Some(subresource) = &self.subresource {
            write!(f, "/{subresource}")?;
        }
        write!(f, ".{}", self.verb)
    }
}

text_type!(PermissionPattern, "permission", 253);

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PermissionPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_reads_back_as_written() {
        for text in [
            "network.isocast.dev/anycastservices.get",
            "network.isocast.dev/nodes/agent.get",
            "network.isocast.dev/*.*",
            "*/*/*.list",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
        for bad in
            ["", "nodes.get", "g/nodes", "g/.get", "/nodes.get", "g/a/b/c.get", "g/Nodes.get"]
        {
            assert_eq!(bad.parse::<PermissionPattern>(), Err(InvalidPermission), "{bad}");
        }
    }

    #[test]
    fn a_star_for_resources_does_not_reach_their_subresources() {
        let group = "network.isocast.dev";
        assert!(pattern("*/*.get").matches(group, "nodes", "", "get"));
        assert!(!pattern("*/*.*").matches(group, "nodes", "agent", "get"));
        assert!(pattern("*/*/*.get").matches(group, "nodes", "agent", "get"));
        assert!(!pattern("*/*/*.get").matches(group, "nodes", "", "get"));
        assert!(!pattern("iam.isocast.dev/*.get").matches(group, "nodes", "", "get"));
    }
}
