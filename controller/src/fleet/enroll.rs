//! Enrolment: who gets a certificate, and who is told why not.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use isocast_api::agent::{EnrollRequest, EnrollResponse, JoinToken};
use rcgen::CertificateSigningRequestParams;
use rustls_pki_types::CertificateSigningRequestDer;
use thiserror::Error;

use super::{
    source::Desired,
    tokens::{NodeRef, RedeemError, Tokens},
};
use crate::pki::{Pki, PkiError};

/// Issues certificates to nodes.
#[derive(Clone, Debug)]
pub(super) struct Enroller {
    pub(super) pki: Arc<Pki>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) certificate_ttl: Duration,
}

/// Why a node gets no certificate.
#[derive(Debug, Error)]
enum Refusal {
    #[error("the certificate is of another node: {0}")]
    CertificateOfAnotherNode(String),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("the certificate request is malformed: {0}")]
    Request(#[source] rcgen::Error),
    #[error(transparent)]
    Token(#[from] RedeemError),
    #[error("the join token is malformed")]
    TokenMalformed,
    #[error("neither a join token nor a certificate of this node was given")]
    Unauthenticated,
    #[error("there is no node {0:?}; create it first")]
    UnknownNode(String),
}

impl Enroller {
    /// Answers a request that came with the certificate of `bearer`, if with any.
    ///
    /// Blocks on the disk when a token is spent.
    pub(super) fn answer(
        &self,
        request: &EnrollRequest,
        bearer: Option<&NodeRef>,
        desired: &dyn Desired,
        now: SystemTime,
    ) -> EnrollResponse {
        match self.issue(request, bearer, desired, now) {
            Ok(response) => {
                tracing::info!(node = request.node, "certificate issued");
                response
            }
            Err(refusal) => {
                let reason = refusal.reason();
                tracing::warn!(node = request.node, reason, error = %refusal, "not enrolled");
                EnrollResponse {
                    error_reason: reason.to_owned(),
                    error_message: refusal.to_string(),
                    ..EnrollResponse::default()
                }
            }
        }
    }

    fn issue(
        &self,
        request: &EnrollRequest,
        bearer: Option<&NodeRef>,
        desired: &dyn Desired,
        now: SystemTime,
    ) -> Result<EnrollResponse, Refusal> {
        let name = &request.node;
        let csr = CertificateSigningRequestDer::from(request.csr_der.as_slice());
        let csr = CertificateSigningRequestParams::from_der(&csr).map_err(Refusal::Request)?;
        let uid = desired.node_uid(name).ok_or_else(|| Refusal::UnknownNode(name.clone()))?;
        let node = NodeRef { name: name.clone(), uid };
        match bearer {
            _ if !request.join_token.is_empty() => {
                let token: JoinToken =
                    request.join_token.parse().map_err(|_malformed| Refusal::TokenMalformed)?;
                let public_key = rcgen::PublicKeyData::der_bytes(&csr.public_key);
                self.tokens.redeem(&token, &node, public_key, now)?;
            }
            None => return Err(Refusal::Unauthenticated),
            Some(bearer) if *bearer != node => {
                return Err(Refusal::CertificateOfAnotherNode(bearer.name.clone()));
            }
            Some(_) => {}
        }
        let ttl = self.certificate_ttl;
        let chain = self.pki.issue_node(&request.csr_der, &node.name, &node.uid, ttl, now)?;
        Ok(EnrollResponse {
            chain_der: chain.into_iter().map(|certificate| certificate.to_vec()).collect(),
            ca_der: self.pki.certificate().to_vec(),
            ..EnrollResponse::default()
        })
    }
}

impl Refusal {
    fn reason(&self) -> &'static str {
        match self {
            Self::CertificateOfAnotherNode(_) => "CertificateOfAnotherNode",
            Self::Pki(_) => "InternalError",
            Self::Request(_) => "BadRequest",
            Self::Token(refusal) => refusal.reason(),
            Self::TokenMalformed => "TokenMalformed",
            Self::Unauthenticated => "Unauthenticated",
            Self::UnknownNode(_) => "NodeUnknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use isocast_api::agent::{CaFingerprint, Configuration};
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::cabinet::Sheet;

    #[derive(Debug)]
    struct OneNode;

    impl Desired for OneNode {
        fn revision(&self) -> u64 {
            1
        }

        fn node_uid(&self, node: &str) -> Option<String> {
            (node == "a").then(|| "uid".to_owned())
        }

        fn compile(&self, _node: &str) -> Configuration {
            Configuration::default()
        }
    }

    struct Bench {
        enroller: Enroller,
        now: SystemTime,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let now = SystemTime::now();
            let pki = Arc::new(Pki::open(folder.path(), now).unwrap());
            let ca = CaFingerprint::of(pki.certificate());
            let tokens =
                Arc::new(Tokens::open(Sheet::at(&folder.path().join("tokens")), ca).unwrap());
            let certificate_ttl = Duration::from_secs(3600);
            Self { enroller: Enroller { pki, tokens, certificate_ttl }, now, _folder: folder }
        }

        fn token(&self) -> String {
            let node = NodeRef { name: "a".into(), uid: "uid".into() };
            self.enroller.tokens.create(node, None, self.now).unwrap().token
        }

        fn answer(&self, node: &str, join_token: &str, bearer: Option<&NodeRef>) -> EnrollResponse {
            let key = KeyPair::generate().unwrap();
            let csr = CertificateParams::default().serialize_request(&key).unwrap();
            let request = EnrollRequest {
                node: node.into(),
                join_token: join_token.into(),
                csr_der: csr.der().to_vec(),
            };
            self.enroller.answer(&request, bearer, &OneNode, self.now)
        }
    }

    #[test]
    fn a_token_or_a_certificate_of_the_node_brings_the_next_certificate() {
        let bench = Bench::new();
        let bearer = NodeRef { name: "a".into(), uid: "uid".into() };

        let joined = bench.answer("a", &bench.token(), None);
        let renewed = bench.answer("a", "", Some(&bearer));

        for response in [joined, renewed] {
            assert_eq!(response.error_reason, "");
            assert_eq!(response.chain_der.len(), 2);
            assert_eq!(response.ca_der, bench.enroller.pki.certificate().to_vec());
        }
    }

    #[test]
    fn each_refusal_has_its_own_reason() {
        let bench = Bench::new();
        let token = bench.token();
        let used = bench.token();
        bench.answer("a", &used, None);
        let earlier = NodeRef { name: "a".into(), uid: "earlier".into() };

        let reasons = [
            ("a", used.as_str(), None, "TokenUsed"),
            ("a", "isocast1.x", None, "TokenMalformed"),
            ("a", "", None, "Unauthenticated"),
            ("a", "", Some(&earlier), "CertificateOfAnotherNode"),
            ("b", token.as_str(), None, "NodeUnknown"),
        ];

        for (node, token, bearer, reason) in reasons {
            assert_eq!(bench.answer(node, token, bearer).error_reason, reason);
        }
    }
}
