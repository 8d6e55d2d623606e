//! [`Client`]: requests to the controller, and what went wrong with them in words.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use ureq::{
    Agent, Body, RequestBuilder, http,
    tls::{ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem},
};

use crate::kubeconfig::{Credential, Kubeconfig};

/// A client of one controller.
pub(crate) struct Client {
    agent: Agent,
    server: String,
    origin: String,
    kubeconfig: String,
    bearer: Option<String>,
}

/// No answer is larger; a list of a thousand services is about 5 MB.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Asks for a table, and takes the object if the server has none.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";

impl Client {
    /// A client as `kubeconfig` says; connects at its first request.
    pub(crate) fn new(kubeconfig: &Kubeconfig) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        if let Some(authority) = &kubeconfig.authority {
            let certificates = certificates(authority).context("certificate-authority-data")?;
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        } else if kubeconfig.server.starts_with("https:") {
            bail!("the kubeconfig {} has no certificate-authority-data", kubeconfig.path.display());
        }
        let mut bearer = None;
        match &kubeconfig.credential {
            Credential::Anonymous => {}
            Credential::Certificate { chain, key } => {
                let chain = certificates(chain).context("client-certificate-data")?;
                let key = PrivateKey::from_pem(key).context("client-key-data")?;
                tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
            }
            Credential::Token(token) => bearer = Some(format!("Bearer {token}")),
        }
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            // The controller is reached directly or not at all: a proxy could not pass on who asks.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIME))
            .timeout_global(Some(ANSWER_TIME))
            .user_agent(concat!("isocast/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            server: kubeconfig.server.clone(),
            origin: kubeconfig.origin().to_owned(),
            kubeconfig: kubeconfig.path.display().to_string(),
            bearer,
        })
    }

    /// The object or list at `path`.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.read(path, "application/json")
    }

    /// What is at `path`, whatever view the kubeconfig is of.
    pub(crate) fn get_from_root(&self, path: &str) -> anyhow::Result<Value> {
        self.read_url(&format!("{}{path}", self.origin), "application/json")
    }

    /// The same, as a table.
    pub(crate) fn get_table(&self, path: &str) -> anyhow::Result<Value> {
        self.read(path, TABLE)
    }

    fn read(&self, path: &str, accept: &str) -> anyhow::Result<Value> {
        self.read_url(&format!("{}{path}", self.server), accept)
    }

    fn read_url(&self, url: &str, accept: &str) -> anyhow::Result<Value> {
        let request = self.asking(self.agent.get(url).header("Accept", accept));
        self.answer("GET", url, request.call())
    }

    /// Writes what is at `path` to `out` as it comes, however long it takes.
    pub(crate) fn download(&self, path: &str, out: &mut impl Write) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.origin);
        let request = self.asking(self.agent.get(&url).config().timeout_global(None).build());
        match request.call() {
            Ok(mut response) if response.status().is_success() => {
                let copied = io::copy(&mut response.body_mut().as_reader(), out);
                copied.with_context(|| format!("GET {url}: the answer broke off"))?;
                Ok(())
            }
            refused => {
                self.answer("GET", &url, refused)?;
                Ok(())
            }
        }
    }

    /// The answer to `body` sent to `path`.
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.server);
        let sent = self.send(&url, body);
        self.answer("POST", &url, sent)
    }

    /// Makes `object` among those at `path`; false where one of its name is.
    pub(crate) fn create(&self, path: &str, object: &Value) -> anyhow::Result<bool> {
        let url = format!("{}{path}", self.server);
        let sent = self.send(&url, object);
        let (status, body) = self.outcome("POST", &url, sent)?;
        let reason = body.as_ref().and_then(|body| body.get("reason")).and_then(Value::as_str);
        match reason {
            _ if status.is_success() => Ok(true),
            Some("AlreadyExists") => Ok(false),
            _ => bail!(refusal(status, body.as_ref(), "POST", &url)),
        }
    }

    fn send(&self, url: &str, body: &Value) -> Result<http::Response<Body>, ureq::Error> {
        let request = self.asking(self.agent.post(url)).header("Accept", "application/json");
        request.content_type("application/json").send(body.to_string())
    }

    /// The object at `path` after an RFC 7386 merge of `patch`.
    pub(crate) fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.server);
        let request = self.asking(self.agent.patch(&url)).header("Accept", "application/json");
        let request = request.content_type("application/merge-patch+json");
        self.answer("PATCH", &url, request.send(patch.to_string()))
    }

    /// Deletes the object at `path`.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.server);
        let request = self.asking(self.agent.delete(&url)).header("Accept", "application/json");
        self.answer("DELETE", &url, request.call())
    }

    /// A request that says who asks, unless the connection does.
    fn asking<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.bearer {
            Some(bearer) => request.header("Authorization", bearer),
            None => request,
        }
    }

    fn answer(
        &self,
        method: &str,
        url: &str,
        result: Result<http::Response<Body>, ureq::Error>,
    ) -> anyhow::Result<Value> {
        let (status, value) = self.outcome(method, url, result)?;
        if status.is_success() {
            return value.with_context(|| format!("{method} {url}: the answer is not JSON"));
        }
        bail!(refusal(status, value.as_ref(), method, url))
    }

    /// What was answered, if anything was, and its body if that is JSON.
    fn outcome(
        &self,
        method: &str,
        url: &str,
        result: Result<http::Response<Body>, ureq::Error>,
    ) -> anyhow::Result<(http::StatusCode, Option<Value>)> {
        let mut response = result.map_err(|error| {
            let advice = self.advice(&error);
            anyhow!(error).context(format!("{method} {url} failed: {advice}"))
        })?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.with_context(|| format!("{method} {url}: the answer broke off"))?;
        Ok((status, serde_json::from_slice(&body).ok()))
    }

    /// What to do about a request that got no answer.
    fn advice(&self, error: &ureq::Error) -> String {
        let where_from = format!("the address comes from {}", self.kubeconfig);
        match error {
            ureq::Error::Io(error)
                if error.get_ref().is_some_and(|it| it.is::<rustls::Error>()) =>
            {
                format!("the controller and {} do not trust each other", self.kubeconfig)
            }
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => {
                format!("the controller and {} do not trust each other", self.kubeconfig)
            }
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Timeout(_) => {
                format!("is the controller running and reachable? {where_from}")
            }
            ureq::Error::HostNotFound => format!("the host's name is not known; {where_from}"),
            _ => where_from,
        }
    }
}

/// A refusal as the server worded it, and where it came from.
fn refusal(status: http::StatusCode, body: Option<&Value>, method: &str, url: &str) -> String {
    let field = |name| body.and_then(|body| body.get(name)).and_then(Value::as_str);
    let reason = field("reason").or_else(|| status.canonical_reason()).unwrap_or_default();
    let message = field("message").unwrap_or("the server gave no reason");
    format!("{message} ({} {reason}, {method} {url})", status.as_u16())
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<ureq::tls::Certificate<'static>>> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.context("it is not PEM")? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        bail!("there is no certificate in it");
    }
    Ok(certificates)
}
