//! Names of reported objects: made of what they are about, so that nobody has to look them up.
//!
//! Readable where that is unambiguous. Where a name would be too long, or could be another's too,
//! a hash of what it was made of follows.

use ipnet::IpNet;

/// Longest name of an object (RFC 1123 §2.1).
const NAME_LENGTH_MAX: usize = 253;

/// Hex digits of the hash.
const HASH_LENGTH: usize = 10;

/// The name of a session.
pub(super) fn of_session(node: &str, peer: &str) -> String {
    join(node, peer)
}

/// The name of an advertisement.
pub(super) fn of_advertisement(node: &str, prefix: IpNet) -> String {
    let text = match prefix {
        IpNet::V4(prefix) => format!("{}-{}", prefix.addr(), prefix.prefix_len()),
        IpNet::V6(prefix) => {
            let groups = prefix.addr().segments().map(|group| format!("{group:x}"));
            format!("{}-{}", groups.join("-"), prefix.prefix_len())
        }
    };
    join(node, &text)
}

fn join(node: &str, rest: &str) -> String {
    let is_legal = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let clean: String =
        rest.bytes().map(|byte| char::from(if is_legal(&byte) { byte } else { b'-' })).collect();
    let labels = clean.split('.').map(|label| label.trim_matches('-'));
    let clean = labels.filter(|label| !label.is_empty()).collect::<Vec<_>>().join(".");
    let plain = format!("{node}.{clean}");
    // With dots in the node's name, nobody could say where it ends.
    if clean == rest && !rest.is_empty() && !node.contains('.') && plain.len() <= NAME_LENGTH_MAX {
        return plain;
    }
    let hash = blake3::hash(format!("{node}\0{rest}").as_bytes()).to_hex();
    let hash = hash.get(..HASH_LENGTH).unwrap_or_default();
    let room = NAME_LENGTH_MAX.saturating_sub(HASH_LENGTH.saturating_add(1));
    let kept = plain.get(..plain.len().min(room)).unwrap_or_default();
    format!("{}-{hash}", kept.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use isocast_api::text::Name;

    use super::*;

    #[test]
    fn names_say_what_they_are_about() {
        let v4 = of_advertisement("edge-1", "203.0.113.10/32".parse().unwrap());
        let v6 = of_advertisement("edge-1", "::1/128".parse().unwrap());

        assert_eq!(of_session("edge-1", "tor-ams"), "edge-1.tor-ams");
        assert_eq!(of_session("edge-1", "exchange-192.0.2.1"), "edge-1.exchange-192.0.2.1");
        assert_eq!(v4, "edge-1.203.0.113.10-32");
        assert_eq!(v6, "edge-1.0-0-0-0-0-0-0-1-128");
    }

    #[test]
    fn whatever_nodes_and_peers_are_called_names_are_valid_and_differ() {
        let long = "a".repeat(250);
        let pairs = [
            ("a.b", "c"),
            ("a", "b.c"),
            ("edge", "x-2001:db8::1"),
            ("edge", "x-2001-db8--1"),
            ("edge", "::"),
            ("edge", ""),
            ("edge", "Größe"),
            (long.as_str(), "b"),
            (long.as_str(), "c"),
        ];
        let names: std::collections::BTreeSet<_> =
            pairs.iter().map(|(node, peer)| of_session(node, peer)).collect();

        assert_eq!(names.len(), pairs.len(), "{names:?}");
        for name in names {
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
    }
}
