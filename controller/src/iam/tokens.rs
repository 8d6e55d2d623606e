//! Tokens of accounts: what is kept of them, who shows one, and how new ones are made.
//!
//! A token is 32 random bytes that are shown once; what is stored is their hash, with the account,
//! in its status. It is found by that hash, so nothing is compared that could be timed.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use isocast_api::{
    iam::{Token, TokenScope},
    text::Time,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    permission::{Catalog, PermissionSet},
    principals::SubjectName,
};
use crate::{
    authz::{Authorized, Identity, verb},
    error::{ApiError, Cause, Reason},
    limits,
    registry::Registry,
    store::{Expect, Key, Object, Persistence, Write},
};

/// Size of a token's hash.
pub(super) const HASH_BYTES: usize = blake3::OUT_LEN;

/// Whom tokens must be for to be accepted here.
const AUDIENCE: &str = "isocast";
/// What every token begins with, so that leaked ones are found.
const PREFIX: &str = "isocast_";
const SECRET_BYTES: usize = 32;
const ID_BYTES: usize = 6;

/// Seconds that a token may be good for.
const TTL_S: std::ops::RangeInclusive<i64> = 60..=365 * 24 * 3600;
const TTL_DEFAULT_S: i64 = 3600;

/// A token as the index knows it.
#[derive(Debug)]
pub(super) struct KnownToken {
    pub(super) bearer: Arc<Bearer>,
    pub(super) expires: Timestamp,
    pub(super) accepted_here: bool,
    /// Whom it is for besides.
    audiences: Box<[String]>,
}

/// An account, as somebody proved to be it, with the part of its rights that the proof carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub(crate) subject: SubjectName,
    pub(crate) uid: Arc<str>,
    /// Where the index keeps the account, as a hint.
    pub(super) number: u32,
    /// The token's name; none for a certificate.
    pub(crate) token: Option<Arc<str>>,
    pub(crate) container: Option<Arc<str>>,
    pub(crate) permissions: PermissionSet,
    /// Who asks as this account, in words.
    by: Option<Arc<str>>,
}

/// Makes tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    registry: Arc<Registry>,
}

/// What somebody asks for: Kubernetes' `TokenRequest`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TokenRequest {
    spec: TokenRequestSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TokenRequestSpec {
    audiences: Vec<String>,
    expiration_seconds: Option<i64>,
    scope: Option<TokenScope>,
}

impl KnownToken {
    pub(super) fn hash_of(token: &Token) -> Option<[u8; HASH_BYTES]> {
        blake3::Hash::from_hex(&token.hash).ok().map(|hash| *hash.as_bytes())
    }

    pub(super) fn of(
        token: &Token,
        subject: &SubjectName,
        number: u32,
        uid: &Arc<str>,
    ) -> Option<([u8; HASH_BYTES], Self)> {
        let scope = token.scope.clone().unwrap_or_default();
        let permissions = if scope.permissions.is_empty() {
            PermissionSet::ALL
        } else {
            Catalog::get().expand(&scope.permissions)
        };
        let bearer = Bearer {
            subject: subject.clone(),
            uid: Arc::clone(uid),
            number,
            token: Some(token.id.as_str().into()),
            container: scope.container.map(|name| name.as_str().into()),
            permissions,
            by: None,
        };
        let known = Self {
            bearer: Arc::new(bearer),
            expires: token.expires_at.timestamp(),
            accepted_here: token.audiences.iter().any(|audience| audience == AUDIENCE),
            audiences: token.audiences.iter().filter(|it| *it != AUDIENCE).cloned().collect(),
        };
        Some((Self::hash_of(token)?, known))
    }

    /// Which of the audiences it is for; no audiences mean this server.
    pub(super) fn is_for(&self, audiences: &[String]) -> Vec<String> {
        let here = [AUDIENCE.to_owned()];
        let asked = if audiences.is_empty() { &here } else { audiences };
        let is_meant = |audience: &&String| {
            (*audience == AUDIENCE && self.accepted_here) || self.audiences.contains(audience)
        };
        asked.iter().filter(is_meant).cloned().collect()
    }
}

impl Bearer {
    /// Somebody with all rights of the account.
    pub(crate) fn of_account(subject: SubjectName, uid: &str) -> Self {
        Self::numbered(subject, u32::MAX, uid.into())
    }

    /// The same, of an account that the index knows by `number` and `uid`.
    pub(super) fn numbered(subject: SubjectName, number: u32, uid: Arc<str>) -> Self {
        Self {
            subject,
            uid,
            number,
            token: None,
            container: None,
            permissions: PermissionSet::ALL,
            by: None,
        }
    }

    /// The account as somebody else asks as it: what their token does not carry is left out.
    pub(crate) fn taken_by(&self, identity: &Identity) -> Self {
        let by = Some(identity.to_string().into());
        match identity {
            Identity::Subject(who) => Self {
                container: who.container.clone(),
                permissions: who.permissions,
                by,
                ..self.clone()
            },
            _ => Self { by, ..self.clone() },
        }
    }
}

impl Bearer {
    /// Who asks as the account, in words.
    pub(crate) fn impersonator(&self) -> Option<Arc<str>> {
        self.by.clone()
    }
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            SubjectName::ServiceAccount(namespace, name) => {
                write!(f, "service account {:?}", format!("{namespace}/{name}"))?;
            }
            subject => write!(f, "user {:?}", subject.username())?,
        }
        if let Some(token) = &self.token {
            write!(f, " by token {token}")?;
        }
        match &self.by {
            Some(by) => write!(f, " as whom {by} asks"),
            None => Ok(()),
        }
    }
}

/// The hash under which a token is known.
pub(super) fn hash(token: &str) -> Option<[u8; HASH_BYTES]> {
    let is_one = token.starts_with(PREFIX) && token.len() < 128;
    is_one.then(|| *blake3::hash(token.as_bytes()).as_bytes())
}

impl Issuer {
    /// An issuer for the accounts of `registry`.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// Gives a token of the account out, as the answer to a `TokenRequest`.
    ///
    /// # Errors
    /// The request is malformed, the account has too many tokens, or the writing fails.
    pub async fn issue(
        &self,
        account: &Object,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let request = TokenRequest::deserialize(body)
            .map_err(|error| ApiError::bad_request(format!("not a TokenRequest: {error}")))?;
        let TokenRequestSpec { audiences, expiration_seconds, scope } = request.spec;
        let ttl = expiration_seconds.unwrap_or(TTL_DEFAULT_S);
        if !TTL_S.contains(&ttl) {
            let message = format!("must be between {} and {}", TTL_S.start(), TTL_S.end());
            return Err(invalid(&account.key, "spec.expirationSeconds", message));
        }
        if audiences.len() > limits::TOKEN_AUDIENCES
            || audiences.iter().any(|audience| audience.is_empty() || audience.len() > 253)
        {
            let message = format!("must be at most {} names", limits::TOKEN_AUDIENCES);
            return Err(invalid(&account.key, "spec.audiences", message));
        }
        let permissions = scope.as_ref().map_or(&[][..], |scope| &scope.permissions);
        if permissions.len() > limits::TOKEN_PERMISSIONS {
            let message = format!("must have at most {} items", limits::TOKEN_PERMISSIONS);
            return Err(invalid(&account.key, "spec.scope.permissions", message));
        }
        let unknown = permissions.iter().position(|pattern| !Catalog::get().knows(pattern));
        if let Some(unknown) = unknown {
            let field = format!("spec.scope.permissions[{unknown}]");
            return Err(invalid(&account.key, &field, "there is no such permission".to_owned()));
        }
        let (id, secret): ([u8; ID_BYTES], [u8; SECRET_BYTES]) = (rand::random(), rand::random());
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let expires_at =
            Time::from(now.saturating_add(SignedDuration::from_secs(ttl)).unwrap_or(now));
        let token = Token {
            id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            hash: blake3::hash(text.as_bytes()).to_string(),
            issued_at: Time::from(now),
            expires_at,
            audiences: if audiences.is_empty() { vec![AUDIENCE.to_owned()] } else { audiences },
            scope,
        };
        let audiences = token.audiences.clone();
        // Users have no namespace: the field is left out, as everywhere.
        let namespace = account.key.container().map(|namespace| ("namespace", namespace));
        let metadata: BTreeMap<_, _> =
            [("name", account.key.name())].into_iter().chain(namespace).collect();
        self.store(&account.key, &token, now).await?;
        Ok(json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": metadata,
            "spec": {"audiences": audiences, "expirationSeconds": ttl},
            "status": {"token": text, "expirationTimestamp": expires_at},
        }))
    }

    /// Adds the token to its account, and forgets those that expired.
    async fn store(&self, key: &Key, token: &Token, now: Timestamp) -> Result<(), ApiError> {
        let proof: Authorized<verb::Update, Key> =
            self.registry.authorize_about(&ISSUER, key.clone(), "status")?;
        let store = self.registry.store();
        for _ in 0..limits::WRITE_ATTEMPTS {
            let object = store.current(&proof).ok_or_else(|| ApiError::not_found(key))?;
            let mut value = Value::clone(&object.value());
            let stored = value.pointer("/status/tokens").cloned().unwrap_or_else(|| json!([]));
            let mut tokens: Vec<Token> = serde_json::from_value(stored)
                .map_err(|error| ApiError::internal(format!("malformed tokens: {error}")))?;
            tokens.retain(|token| token.expires_at.timestamp() > now);
            if tokens.len() >= limits::TOKENS_OF_ACCOUNT {
                let message = format!(
                    "there are {} tokens already: remove one from its status, or wait until one \
                     expires",
                    tokens.len()
                );
                return Err(ApiError::conflict(key, &message));
            }
            tokens.push(token.clone());
            if let Some(fields) = value.as_object_mut() {
                let status = fields.entry("status").or_insert_with(|| json!({}));
                if let Some(status) = status.as_object_mut() {
                    status.insert("tokens".to_owned(), json!(tokens));
                }
            }
            let write = Write {
                expect: Expect::At(object.revision),
                value: Some(value),
                subresource: Some("status"),
                agent: "isocast".to_owned(),
                persistence: Persistence::Durable,
            };
            match store.write(&proof, write).await {
                Err(overtaken) if overtaken.is_stale() => {}
                written => return written.map(drop),
            }
        }
        Err(ApiError::stale(key))
    }
}

/// Whoever asked was allowed to have the token; the writing of it is the controller's own.
pub(super) const ISSUER: Identity = Identity::Component { name: "token-issuer" };

fn invalid(key: &Key, field: &str, message: String) -> ApiError {
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: message.clone(),
        field: field.to_owned(),
    };
    let message = format!("TokenRequest {:?} is invalid: {field}: {message}", key.name());
    ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause])
}
