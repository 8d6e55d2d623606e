//! `isocast kubeconfig`: a kubeconfig for one organization, folder or project.

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
#[group(id = "container", required = true, multiple = false)]
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
    let (plural, name) = match (&arguments.project, &arguments.folder, &arguments.organization) {
        (Some(name), _, _) => ("projects", name),
        (_, Some(name), _) => ("folders", name),
        (_, _, Some(name)) => ("organizations", name),
        (None, None, None) => bail!("which container? give --project, --folder or --organization"),
    };
    let token = match &arguments.token_file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    let mut prefix = format!("/{plural}/");
    push_escaped(&mut prefix, name);
    // A view of a container that is not there would be found out much later, by an empty list.
    client.get_from_root(&format!("{prefix}/api"))?;
    let server = format!("{}{prefix}", kubeconfig.origin());
    output::json(out, &config(kubeconfig, &server, name, token.as_deref()))
}

/// One cluster, one user, one context, whose namespace is the container's.
fn config(kubeconfig: &Kubeconfig, server: &str, name: &str, token: Option<&str>) -> Value {
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
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{
            "name": name,
            "context": {"cluster": name, "user": name, "namespace": name},
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

        let made = config(&kubeconfig, "https://127.0.0.1:6443/projects/web", "web", None);

        let cluster = &made["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], "https://127.0.0.1:6443/projects/web");
        assert_eq!(cluster["certificate-authority-data"], "Y2E=");
        assert_eq!(made["users"][0]["user"], json!({"token": "t"}));
        assert_eq!(made["contexts"][0]["context"]["namespace"], "web");
        let other = config(&kubeconfig, "https://x", "web", Some("other"));
        assert_eq!(other["users"][0]["user"], json!({"token": "other"}));
    }
}
