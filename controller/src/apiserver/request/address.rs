//! Addresses that mean another: written with escapes that need not be, or as watches once were.

use hyper::{Uri, http::uri::PathAndQuery};

use super::Prefix;

/// The same address without escapes of what needs none (RFC 3986 §6.2.2.2), and of colons; none: it is
/// as it should be. Nothing else is read as what it stands for: no name has it, and keys are put
/// together with some of it.
pub(in crate::apiserver) fn unescaped(uri: &Uri) -> Option<Uri> {
    // Nearly every address is.
    if !uri.path().contains('%') {
        return None;
    }
    let mut path = String::with_capacity(uri.path().len());
    let mut rest = uri.path();
    while let Some(at) = rest.find('%') {
        let (before, escaped) = rest.split_at_checked(at)?;
        let (escape, after) = escaped.split_at_checked(3)?;
        path.push_str(before);
        let byte = escape.get(1..).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.map(char::from) {
            Some(plain) if plain.is_ascii_alphanumeric() || "-._~:".contains(plain) => {
                path.push(plain)
            }
            _ => path.push_str(escape),
        }
        rest = after;
    }
    path.push_str(rest);
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    if path == uri.path() { None } else { with(uri, path + &query) }
}

/// What `uri` asks for as it is asked today, if it asks for a watch by a former path,
/// `/apis/{group}/{version}/watch/…`: deprecated since Kubernetes 1.11 and served ever since, because
/// Ruby's clients ask by no others. A name becomes a selection.
pub(in crate::apiserver) fn of_former_watch(uri: &Uri) -> Option<Uri> {
    if !uri.path().contains("/watch/") {
        return None;
    }
    let (_, path) = Prefix::split(uri.path());
    let view = uri.path().strip_suffix(path)?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let version: usize = match &*parts {
        ["api", _, "watch", ..] => 2,
        ["apis", _, _, "watch", ..] => 3,
        _ => return None,
    };
    let (before, rest) = (parts.get(..version)?, parts.get(version + 1..)?);
    let (collection, name) = match rest {
        ["namespaces", _, _] | [_] => (rest, None),
        ["namespaces", _, _, name] | [_, name] => (rest.get(..rest.len() - 1)?, Some(name)),
        _ => return None,
    };
    let path = [before, collection].concat().join("/");
    let asked = uri.query().map(|query| format!("&{query}")).unwrap_or_default();
    let named = name.map(|name| format!("&fieldSelector=metadata.name%3D{name}"));
    let named = named.unwrap_or_default();
    // Of what is said twice, the last counts.
    let target = format!(
        "{view}{}{path}?{asked}&watch=true{named}",
        if view.ends_with('/') { "" } else { "/" }
    );
    with(uri, target)
}

fn with(uri: &Uri, target: String) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_path_is_a_watch_of_today() {
        for (former, today) in [
            ("/api/v1/watch/configmaps", "/api/v1/configmaps?&watch=true"),
            (
                "/apis/g/v1/watch/namespaces/n/pools?resourceVersion=7",
                "/apis/g/v1/namespaces/n/pools?&resourceVersion=7&watch=true",
            ),
            (
                "/projects/web/apis/g/v1/watch/namespaces/n/pools/p",
                "/projects/web/apis/g/v1/namespaces/n/pools?&watch=true&fieldSelector=metadata.name%3Dp",
            ),
            (
                "/api/v1/watch/namespaces/eng",
                "/api/v1/namespaces?&watch=true&fieldSelector=metadata.name%3Deng",
            ),
        ] {
            let uri = of_former_watch(&former.parse().expect("an address"));
            assert_eq!(uri.map(|uri| uri.to_string()).as_deref(), Some(today));
        }
    }

    #[test]
    fn escapes_of_what_needs_none_are_read_and_no_others() {
        let read =
            |uri: &str| unescaped(&uri.parse().expect("an address")).map(|uri| uri.to_string());

        assert_eq!(read("/api/v1/r%31/a%2eb%7E?x=%31").as_deref(), Some("/api/v1/r1/a.b~?x=%31"));
        assert_eq!(read("/roles/a%3Ab%2F%00%31").as_deref(), Some("/roles/a:b%2F%001"));
        for address in ["/roles/a:b?x=%31", "/a%2Fb", "/a%00b", "/a%", "/a%3", "/a%zz", "/%c3%a4"] {
            assert_eq!(read(address), None, "{address}");
        }
    }

    #[test]
    fn other_paths_are_left_alone() {
        for path in [
            "/",
            "/api/v1/namespaces/watch",
            "/apis/g/v1/namespaces/watch/pools/p",
            "/apis/g/watch",
        ] {
            assert_eq!(of_former_watch(&path.parse().expect("an address")), None, "{path}");
        }
    }
}
