//! A plain HTTPS client: requests as they go over the wire, without kubectl's kindness.

use std::{net::SocketAddr, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// One connection.
pub struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    /// A token to show.
    pub bearer: Option<String>,
    /// Headers that every request has.
    pub extra: Vec<(&'static str, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

/// An answer that is read line by line.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

/// What a client shows and trusts.
#[derive(Clone)]
pub struct Credentials {
    pub address: SocketAddr,
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
    version: &'static SupportedProtocolVersion,
}

impl Credentials {
    /// Those of a kubeconfig.
    pub fn load(kubeconfig: &Path) -> Self {
        let text = std::fs::read(kubeconfig).expect("readable");
        let config: Value = serde_json::from_slice(&text).expect("JSON");
        let server = config["clusters"][0]["cluster"]["server"].as_str().expect("a URL");
        let pem = |value: &Value| STANDARD.decode(value.as_str().expect("text")).expect("base64");
        let cluster = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let ca = CertificateDer::from_pem_slice(&pem(&cluster["certificate-authority-data"]));
        let mut roots = RootCertStore::empty();
        roots.add(ca.expect("a certificate")).expect("an authority");
        let leaf = CertificateDer::from_pem_slice(&pem(&user["client-certificate-data"]));
        let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])).expect("a key");
        Self {
            address: server.trim_start_matches("https://").parse().expect("an address"),
            roots,
            identity: Some((vec![leaf.expect("a certificate")], Arc::new(key))),
            version: &rustls::version::TLS13,
        }
    }

    /// Without a certificate.
    pub fn anonymous(mut self) -> Self {
        self.identity = None;
        self
    }

    /// With the certificate of somebody else.
    pub fn with_identity_of(mut self, other: &Self) -> Self {
        self.identity.clone_from(&other.identity);
        self
    }

    /// With an issued certificate.
    pub fn with_identity(
        mut self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        self.identity = Some((chain, Arc::new(key)));
        self
    }

    /// With a certificate chain and its key, both base64 of PEM.
    pub fn with_pem(self, chain: &str, key: &str) -> Self {
        let decode = |text: &str| STANDARD.decode(text).expect("base64");
        let chain = CertificateDer::pem_slice_iter(&decode(chain))
            .collect::<Result<Vec<_>, _>>()
            .expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(&decode(key)).expect("a key");
        self.with_identity(chain, key)
    }

    /// Speaking TLS 1.2 only.
    pub fn outdated(mut self) -> Self {
        self.version = &rustls::version::TLS12;
        self
    }

    pub async fn connect(&self) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.tls().await?)).await?;
        tokio::spawn(connection);
        Ok(Client { sender, bearer: None, extra: Vec::new() })
    }

    /// The connection, without a word said.
    pub async fn tls(
        &self,
    ) -> Result<TlsStream<TcpStream>, Box<dyn std::error::Error + Send + Sync>> {
        self.tls_of(&[]).await
    }

    /// The same, that offers these protocols.
    pub async fn tls_of(
        &self,
        protocols: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, Box<dyn std::error::Error + Send + Sync>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[self.version])?
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
    }
}

impl Client {
    pub async fn try_send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<hyper::Response<Incoming>, hyper::Error> {
        let mut builder = Request::builder();
        if let Some(token) = &self.bearer {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in &self.extra {
            builder = builder.header(*name, value);
        }
        let request = builder
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::USER_AGENT, "test/1")
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(body.into()))
            .expect("a request");
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self.try_send(method, path, content_type, body).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        Answer { code: head.status, headers: head.headers, body }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, "", "").await
    }

    /// The same with headers of this one request.
    pub async fn get_with(&mut self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        let before = self.extra.len();
        self.extra.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let answer = self.get(path).await;
        self.extra.truncate(before);
        answer
    }

    pub async fn post(&mut self, path: &str, object: &Value) -> Answer {
        self.send(Method::POST, path, "application/json", object.to_string()).await
    }

    pub async fn delete(&mut self, path: &str, options: &Value) -> Answer {
        self.send(Method::DELETE, path, "application/json", options.to_string()).await
    }

    pub async fn merge(&mut self, path: &str, patch: &Value) -> Answer {
        let content_type = "application/merge-patch+json";
        self.send(Method::PATCH, path, content_type, patch.to_string()).await
    }

    /// Follows a watch; the connection is used up by it.
    pub async fn watch(mut self, path: &str) -> Lines {
        let response = self.try_send(Method::GET, path, "", "").await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        Lines::of(response)
    }
}

impl Lines {
    /// The lines of an answer.
    pub fn of(response: hyper::Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Value> {
        self.read().await.expect("a frame")
    }

    /// The same, where an answer that breaks off has ended too.
    pub async fn try_next(&mut self) -> Option<Value> {
        self.read().await.ok().flatten()
    }

    async fn read(&mut self) -> Result<Option<Value>, hyper::Error> {
        let line = self.line().await?;
        Ok(line.map(|line| serde_json::from_slice(&line).expect("an event")))
    }

    /// The next line as it came; none at the end.
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>, hyper::Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.buffer.drain(..=end).collect()));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}
