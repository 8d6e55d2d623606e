//! `isocast kubeconfig`: a kubeconfig for one organization, folder or project, or for somebody's token.

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::Client,
    kubeconfig::{Credential, Kubeconfig},
    output,
    resource::push_escaped,
};

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct ViewArguments {
    /// What lies in this project
    #[arg(long, value_name = "NAME", group = "container")]
    pub(crate) project: Option<String>,
    /// What lies in this folder and below
    #[arg(long, value_name = "NAME", group = "container")]
    pub(crate) folder: Option<String>,
    /// What lies in this organization and below
    #[arg(long, value_name = "NAME", group = "container")]
    pub(crate) organization: Option<String>,
    /// File with a token to ask with [default: ask as the current context does]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

pub(crate) fn run(
    client: &Client,
    kubeconfig: &Kubeconfig,
    arguments: &ViewArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let container = match (&arguments.project, &arguments.folder, &arguments.organization) {
        (Some(name), _, _) => Some(("projects", name)),
        (_, Some(name), _) => Some(("folders", name)),
        (_, _, Some(name)) => Some(("organizations", name)),
        (None, None, None) => None,
    };
    if container.is_none() && arguments.token_file.is_none() {
        bail!("which container? give --project, --folder or --organization");
    }
    let token = match &arguments.token_file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    let prefix = container.map_or_else(String::new, |(plural, name)| prefix(plural, name));
    // A view of a container that is not there would be found out much later, by an empty list.
    client.get_from_root(&format!("{prefix}/api"))?;
    let server = format!("{}{prefix}", kubeconfig.origin());
    let namespace = container.map(|(_, name)| name.as_str());
    output::json(out, &config(kubeconfig, &server, namespace, token.as_deref()))
}

/// Where the view of a container begins.
pub(crate) fn prefix(plural: &str, name: &str) -> String {
    let mut prefix = format!("/{plural}/");
    push_escaped(&mut prefix, name);
    prefix
}

/// One cluster, one user, one context, whose namespace is the container's if there is one.
pub(crate) fn config(
    kubeconfig: &Kubeconfig,
    server: &str,
    namespace: Option<&str>,
    token: Option<&str>,
) -> Value {
    let name = namespace.unwrap_or(PLATFORM);
    let user = match (token, &kubeconfig.credential) {
        (Some(token), _) => json!({"token": token}),
        (None, Credential::Anonymous) => json!({}),
        (None, Credential::Token(token)) => json!({"token": token}),
        (None, Credential::Certificate { chain, key }) => json!({
            "client-certificate-data": STANDARD.encode(chain),
            "client-key-data": STANDARD.encode(key),
        }),
    };
    let mut cluster = json!({"server": server});
    if let (Some(authority), Some(fields)) = (&kubeconfig.authority, cluster.as_object_mut()) {
        let data = json!(STANDARD.encode(authority));
        fields.insert("certificate-authority-data".to_owned(), data);
    }
    let mut context = json!({"cluster": name, "user": name});
    if let (Some(namespace), Some(fields)) = (namespace, context.as_object_mut()) {
        fields.insert("namespace".to_owned(), json!(namespace));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": context}],
    })
}

/// Name of a context that is no container's.
const PLATFORM: &str = "isocast";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Options;

    #[test]
    fn a_view_is_a_server_with_a_path_and_a_namespace() {
        let kubeconfig = Kubeconfig {
            path: "/nowhere".into(),
            server: "https://127.0.0.1:6443/organizations/acme".to_owned(),
            namespace: None,
            authority: Some(b"ca".to_vec()),
            credential: Credential::Token("t".to_owned()),
        };
        assert_eq!(kubeconfig.origin(), "https://127.0.0.1:6443");

        let made = config(&kubeconfig, "https://127.0.0.1:6443/projects/web", Some("web"), None);

        let cluster = &made["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], "https://127.0.0.1:6443/projects/web");
        assert_eq!(cluster["certificate-authority-data"], "Y2E=");
        assert_eq!(made["users"][0]["user"], json!({"token": "t"}));
        assert_eq!(made["contexts"][0]["context"]["namespace"], "web");
        let other = config(&kubeconfig, "https://x", None, Some("other"));
        assert_eq!(other["users"][0]["user"], json!({"token": "other"}));
        assert_eq!(
            other["contexts"][0]["context"],
            json!({"cluster": "isocast", "user": "isocast"})
        );
    }

    #[test]
    fn a_token_goes_with_any_container_and_containers_not_with_one_another() {
        let parses = |arguments: &[&str]| {
            let all = ["isocast", "kubeconfig"].iter().chain(arguments);
            Options::try_parse_from(all).is_ok()
        };

        assert!(parses(&["--project", "web", "--token-file", "t"]));
        assert!(parses(&["--token-file", "t"]));
        assert!(!parses(&["--project", "web", "--folder", "eng"]));
    }
}
