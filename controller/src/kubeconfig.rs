//! `admin.kubeconfig`: the administrator's way in, in the form that kubectl and every other client
//! of Kubernetes reads.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::pki::Credential;

/// A kubeconfig with one cluster, one user and one context, whose namespace is `namespace`.
pub(crate) fn of(server: &str, ca_pem: &str, credential: &Credential, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "isocast",
        "clusters": [{
            "name": "isocast",
            "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca_pem)},
        }],
        "users": [{
            "name": "admin",
            "user": {
                "client-certificate-data": STANDARD.encode(&credential.certificate_pem),
                "client-key-data": STANDARD.encode(&credential.key_pem),
            },
        }],
        "contexts": [{
            "name": "isocast",
            "context": {"cluster": "isocast", "user": "admin", "namespace": namespace},
        }],
    })
}
