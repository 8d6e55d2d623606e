//! Credentials of accounts, as subresources: `users/{name}/token`, `users/{name}/certificate`,
//! `serviceaccounts/{name}/token`.
//!
//! Whoever may have one becomes that account, so the guard sees to it that they hold what it holds.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use isocast_api::ResourceKind;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::{
    apiserver::Extension,
    authz::Identity,
    error::{ApiError, Reason},
    iam::{Access, Issuer, SubjectName},
    pki::Pki,
    registry::Registry,
    store::Object,
};

/// Seconds that a user's certificate is good for.
const CERTIFICATE_TTL_S: std::ops::RangeInclusive<u64> = 600..=365 * 24 * 3600;
const CERTIFICATE_TTL_DEFAULT_S: u64 = 30 * 24 * 3600;

/// The subresources.
pub(crate) fn subresources(registry: &Arc<Registry>, pki: &Arc<Pki>) -> Vec<Extension> {
    let token = |kind| {
        let (issuer, access) = (Issuer::new(Arc::clone(registry)), Arc::clone(registry.access()));
        Extension {
            kind,
            name: "token",
            serve: Arc::new(move |who: &Identity, account: &Object, body: &Value| {
                let now = Timestamp::now();
                access.guard_impersonation(who, &subject(account), now)?;
                // Subresources are served where blocking is allowed.
                Handle::current().block_on(issuer.issue(account, body, now))
            }),
        }
    };
    let (pki, access) = (Arc::clone(pki), Arc::clone(registry.access()));
    let certificate = Extension {
        kind: ResourceKind::User,
        name: "certificate",
        serve: Arc::new(move |who, account, body| certify(&pki, &access, who, account, body)),
    };
    vec![token(ResourceKind::ServiceAccount), token(ResourceKind::User), certificate]
}

/// `{"spec": {"request": "-----BEGIN CERTIFICATE REQUEST-----…", "expirationSeconds": 86400}}`
fn certify(
    pki: &Pki,
    access: &Access,
    who: &Identity,
    account: &Object,
    body: &Value,
) -> Result<Value, ApiError> {
    access.guard_impersonation(who, &subject(account), Timestamp::now())?;
    let request = body.pointer("/spec/request").and_then(Value::as_str);
    let request = request.ok_or_else(|| {
        ApiError::bad_request("spec.request: a certificate signing request in PEM is required")
    })?;
    let ttl = body
        .pointer("/spec/expirationSeconds")
        .map_or(Some(CERTIFICATE_TTL_DEFAULT_S), Value::as_u64);
    let ttl = ttl.filter(|ttl| CERTIFICATE_TTL_S.contains(ttl)).ok_or_else(|| {
        let message = format!(
            "spec.expirationSeconds: must be between {} and {}",
            CERTIFICATE_TTL_S.start(),
            CERTIFICATE_TTL_S.end()
        );
        ApiError::new(Reason::Invalid, message)
    })?;
    let value = account.value();
    let uid = value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let (life, now) = (Duration::from_secs(ttl), SystemTime::now());
    let pem = pki
        .issue_user(request, account.key.name(), uid, life, now)
        .map_err(|error| ApiError::bad_request(format!("spec.request: {error}")))?;
    Ok(json!({
        "apiVersion": "iam.isocast.dev/v1alpha1",
        "kind": "CertificateRequest",
        "metadata": {"name": account.key.name()},
        "spec": {"expirationSeconds": ttl},
        "status": {"certificate": pem},
    }))
}

fn subject(account: &Object) -> SubjectName {
    let name = account.key.name().into();
    match account.key.container() {
        Some(namespace) => SubjectName::ServiceAccount(namespace.into(), name),
        None => SubjectName::User(name),
    }
}
