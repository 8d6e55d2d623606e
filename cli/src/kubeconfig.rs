//! [`Kubeconfig`]: where the controller is, and who asks.
//!
//! Reads what kubectl reads, as far as the controller needs it: certificate authority, client
//! certificate or token, inline or in files. Verification of the server cannot be switched off.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

/// One context of a kubeconfig file, with its files read.
#[derive(Debug)]
pub(crate) struct Kubeconfig {
    /// The file, for messages.
    pub(crate) path: PathBuf,
    /// `https://HOST:PORT`, without a slash at the end.
    pub(crate) server: String,
    /// Namespace that the context names.
    pub(crate) namespace: Option<String>,
    /// PEM of the authorities that the server's certificate may be of.
    pub(crate) authority: Option<Vec<u8>>,
    /// Who asks.
    pub(crate) credential: Credential,
}

/// Who asks.
pub(crate) enum Credential {
    /// Nobody in particular.
    Anonymous,
    /// The holder of a certificate: PEM of the chain and of its key.
    Certificate {
        /// The chain.
        chain: Vec<u8>,
        /// The key.
        key: Vec<u8>,
    },
    /// The bearer of a token.
    Token(String),
}

impl std::fmt::Debug for Credential {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Certificate { .. } => "Certificate",
            Self::Token(_) => "Token",
        })
    }
}

impl Kubeconfig {
    /// Reads `path`, or where kubectl would look, and takes `context`, or the current one.
    pub(crate) fn load(path: Option<&Path>, context: Option<&str>) -> anyhow::Result<Self> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
        Self::parse(&path, &text, context)
            .with_context(|| format!("in the kubeconfig {}", path.display()))
    }

    fn parse(path: &Path, text: &str, context: Option<&str>) -> anyhow::Result<Self> {
        let file: File = serde_saphyr::from_str(text).context("it is not valid YAML")?;
        let current = file.current_context.filter(|name| !name.is_empty());
        let name = context.map(str::to_owned).or(current);
        let name = name.context("there is no current-context: choose one with --context")?;
        let context = file.contexts.into_iter().find(|it| it.name == name);
        let context = context.with_context(|| format!("there is no context {name:?}"))?.context;
        let cluster = file.clusters.into_iter().find(|it| it.name == context.cluster);
        let cluster =
            cluster.with_context(|| format!("there is no cluster {:?}", context.cluster))?.cluster;
        let user = file.users.into_iter().find(|it| it.name == context.user);
        let user = user.map(|it| it.user).unwrap_or_default();
        if cluster.insecure_skip_tls_verify {
            bail!("insecure-skip-tls-verify is not supported: give certificate-authority-data");
        }
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        let read = |data, file| material(base, data, file);
        let authority = read(cluster.certificate_authority_data, cluster.certificate_authority)?;
        let chain = read(user.client_certificate_data, user.client_certificate)?;
        let key = read(user.client_key_data, user.client_key)?;
        let credential = match (chain, key, user.token) {
            (Some(chain), Some(key), _) => Credential::Certificate { chain, key },
            (None, None, Some(token)) => Credential::Token(token),
            (None, None, None) => Credential::Anonymous,
            _ => bail!("user {:?} has a client certificate or a key, but not both", context.user),
        };
        let server = cluster.server.trim_end_matches('/').to_owned();
        let namespace = context.namespace.filter(|name| !name.is_empty());
        Ok(Self { path: path.to_owned(), server, namespace, authority, credential })
    }
}

impl Kubeconfig {
    /// The server without a path, which would name a view.
    pub(crate) fn origin(&self) -> &str {
        let host = self.server.find("://").map_or(0, |at| at + "://".len());
        let path = self.server.get(host..).and_then(|rest| rest.find('/'));
        path.and_then(|at| self.server.get(..host + at)).unwrap_or(&self.server)
    }
}

/// $KUBECONFIG's first file that exists, else kubectl's own.
fn default_path() -> anyhow::Result<PathBuf> {
    if let Some(list) = env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        let paths: Vec<_> = env::split_paths(&list).collect();
        let found = paths.iter().find(|path| path.exists()).or_else(|| paths.first());
        return found.cloned().context("$KUBECONFIG names no file");
    }
    let path = home_path().context("neither $KUBECONFIG nor $HOME is set")?;
    if path.exists() {
        return Ok(path);
    }
    bail!(
        "there is no kubeconfig: give --kubeconfig or $KUBECONFIG (the controller writes \
         admin.kubeconfig into its data folder at its first start)"
    )
}

/// kubectl's own, if somebody is at home.
pub(crate) fn home_path() -> Option<PathBuf> {
    env::var_os("HOME").map(|home| Path::new(&home).join(".kube").join("config"))
}

/// Inline data, or what the file beside the kubeconfig holds.
fn material(
    base: &Path,
    data: Option<String>,
    file: Option<PathBuf>,
) -> anyhow::Result<Option<Vec<u8>>> {
    if let Some(data) = data {
        let joined: String = data.split_whitespace().collect();
        return STANDARD.decode(joined).map(Some).context("a …-data field is not base64");
    }
    let Some(file) = file else { return Ok(None) };
    let file = base.join(file);
    fs::read(&file).map(Some).with_context(|| format!("cannot read {}", file.display()))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: FileContext,
}

#[derive(Deserialize)]
struct FileContext {
    cluster: String,
    #[serde(default)]
    user: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: admin
contexts:
- name: admin
  context: {cluster: c, user: admin, namespace: web}
- name: other
  context: {cluster: gone, user: admin}
clusters:
- name: c
  cluster: {server: 'https://127.0.0.1:6443/', certificate-authority-data: Y2E=}
users:
- name: admin
  user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}
";

    fn parse(text: &str, context: Option<&str>) -> anyhow::Result<Kubeconfig> {
        Kubeconfig::parse(Path::new("/nowhere/config"), text, context)
    }

    #[test]
    fn the_current_context_is_taken() {
        let kubeconfig = parse(FILE, None).unwrap();

        assert_eq!(kubeconfig.server, "https://127.0.0.1:6443");
        assert_eq!(kubeconfig.namespace.as_deref(), Some("web"));
        assert_eq!(kubeconfig.authority.as_deref(), Some(b"ca".as_slice()));
        let Credential::Certificate { chain, key } = kubeconfig.credential else {
            panic!("{:?}", kubeconfig.credential);
        };
        assert_eq!((chain.as_slice(), key.as_slice()), (b"cert".as_slice(), b"key".as_slice()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let refusal = |text: &str, context| format!("{:#}", parse(text, context).unwrap_err());

        assert_eq!(refusal(FILE, Some("other")), "there is no cluster \"gone\"");
        assert_eq!(refusal(FILE, Some("x")), "there is no context \"x\"");
        assert!(refusal("{}", None).contains("choose one with --context"));
        assert!(refusal("[", None).starts_with("it is not valid YAML"));
        let half = FILE.replace(", client-key-data: a2V5", "");
        assert!(refusal(&half, None).contains("but not both"));
        let unverified = FILE.replace("server:", "insecure-skip-tls-verify: true, server:");
        assert!(refusal(&unverified, None).contains("not supported"));
        let garbled = FILE.replace("Y2E=", "'?'");
        assert!(refusal(&garbled, None).contains("not base64"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!("{:?}", parse(FILE, None).unwrap().credential);

        assert_eq!(printed, "Certificate");
    }
}
