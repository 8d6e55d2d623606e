//! What a client may not do to the server: sizes, depth, compression, streams.

use std::{sync::Arc, time::Duration};

use hyper::{Method, StatusCode};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, client::danger};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{DATACENTERS, connect};
use crate::support::{Api, client::Credentials};

#[tokio::test]
async fn a_compressed_body_is_not_read() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.extra.push(("content-encoding", "gzip".to_owned()));

    let answer = client.send(Method::POST, DATACENTERS, "application/json", "\x1f\u{8b}").await;

    assert_eq!(answer.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn depth_and_heads_have_limits() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let nested = format!("{}1{}", "{\"a\":".repeat(33), "}".repeat(33));
    let answer = client.send(Method::POST, DATACENTERS, "application/json", nested).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    let said = answer.body["message"].as_str().unwrap_or_default();
    assert!(said.contains("more than 32 levels"), "{said}");

    client.extra.push(("x-large", "x".repeat(17 << 10)));
    let refused = match client.try_send(Method::GET, DATACENTERS, "", "").await {
        Ok(answer) => answer.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Err(_) => true,
    };
    assert!(refused);
    let mut client = connect(&api).await;
    client.extra.push(("x-large", "x".repeat(8 << 10)));
    assert_eq!(client.get(DATACENTERS).await.code, StatusCode::OK);
}

#[tokio::test]
async fn somebody_who_connects_and_says_nothing_is_disconnected() {
    let api = Api::start();
    let address = Credentials::load(api.kubeconfig()).address;
    let mut stream = TcpStream::connect(address).await.expect("it listens");

    let mut buffer = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer)).await;

    assert!(matches!(read.expect("it hangs up"), Ok(0) | Err(_)));
}

/// Somebody who takes any server for the right one.
#[derive(Debug)]
struct Anybody;

impl danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<danger::ServerCertVerified, rustls::Error> {
        Ok(danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, rustls::Error> {
        Ok(danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, rustls::Error> {
        Ok(danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn somebody_who_resets_streams_without_end_is_disconnected() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    let api = Api::start();
    let address = Credentials::load(api.kubeconfig()).address;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::IpAddress(address.ip().into());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    // :method GET, :scheme https, :path /, :authority a (RFC 7541 appendix A).
    let head = [0x82, 0x87, 0x84, 0x41, 0x01, b'a'];
    for request in 0..2000 {
        let id = request * 2 + 1;
        bytes.extend(frame(HEADERS, 0x5, id, &head));
        bytes.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    // The server may hang up before all of it is sent.
    let (mut read, mut write) = tokio::io::split(stream);
    let sender = tokio::spawn(async move {
        let _sent = write.write_all(&bytes).await;
        write
    });

    let mut said = Vec::new();
    let all = tokio::time::timeout(Duration::from_secs(20), async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..count]);
        }
    });
    all.await.expect("it hangs up");
    drop(sender);

    let mut rest = said.as_slice();
    let mut reasons = Vec::new();
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let payload = &rest[9..(9 + length).min(rest.len())];
        if rest[3] == GOAWAY && payload.len() >= 8 {
            reasons.push(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
        }
        rest = &rest[(9 + length).min(rest.len())..];
    }
    assert!(reasons.contains(&11), "ENHANCE_YOUR_CALM is not among {reasons:?}");
    let mut client = connect(&api).await;
    let answer = client.post(DATACENTERS, &json!({})).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST, "others are served as before");
}
