//! Impersonation: an account that asks as another one, `kubectl --as alice`.
//!
//! Takes the right `impersonate`, and is no way around the rule that nobody gains what they do not
//! hold: who is impersonated holds no more than who asks, and a token's scope stays. Groups follow
//! from memberships, so they can be named and not chosen.

use std::sync::Arc;

use hyper::HeaderMap;
use isocast_api::iam;
use jiff::Timestamp;

use crate::{
    authz::{Identity, verb},
    error::{ApiError, Reason},
    iam::SubjectName,
    registry::Registry,
    store::{Key, Resource},
};

const PREFIX: &str = "impersonate-";

/// Whom a request asks to be taken for.
#[derive(Debug, Default)]
struct Wanted<'a> {
    user: Option<&'a str>,
    uid: Option<&'a str>,
    groups: Vec<&'a str>,
}

/// Who asks, after what the headers say.
///
/// # Errors
/// `BadRequest` when the headers make no sense, `Forbidden` when they ask for what is not allowed.
pub(super) fn impersonated(
    registry: &Registry,
    identity: Identity,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Identity, ApiError> {
    let Some(wanted) = Wanted::of(headers)? else { return Ok(identity) };
    let Some(user) = wanted.user else {
        let message = "Impersonate-User is required with other headers of impersonation";
        return Err(ApiError::bad_request(message));
    };
    let subject = SubjectName::of_username(user);
    let (plural, container, name) = match &subject {
        SubjectName::ServiceAccount(namespace, name) => {
            ("serviceaccounts", Some(&**namespace), &**name)
        }
        _ => ("users", None, user),
    };
    let key = Key::new(Resource::new(plural, iam::GROUP), container, name);
    registry.authorize::<verb::Impersonate, _>(&identity, key.clone())?;
    let access = registry.access();
    access.guard_impersonation(&identity, &subject, now)?;
    let Some(Identity::Subject(account)) = access.identity(user) else {
        return Err(ApiError::forbidden(&key, "there is no such account to be taken for"));
    };
    if wanted.uid.is_some_and(|uid| *uid != *account.uid) {
        return Err(ApiError::forbidden(&key, "the account has another uid than Impersonate-Uid"));
    }
    let groups = access.groups(&account);
    if let Some(other) = wanted.groups.iter().find(|name| !groups.iter().any(|it| it == *name)) {
        let why = format!(
            "the account is not in the group {other:?}: groups follow from memberships, also for \
             whoever is taken for somebody",
        );
        return Err(ApiError::forbidden(&key, &why));
    }
    Ok(Identity::Subject(Arc::new(account.taken_by(&identity))))
}

impl<'a> Wanted<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut wanted: Option<Self> = None;
        for (name, value) in headers {
            let Some(what) = name.as_str().strip_prefix(PREFIX) else { continue };
            let value = value
                .to_str()
                .map_err(|_binary| ApiError::bad_request(format!("{name} is not text")))?;
            let wanted = wanted.get_or_insert_default();
            let before = match what {
                "user" => wanted.user.replace(value),
                "uid" => wanted.uid.replace(value),
                "group" => {
                    wanted.groups.push(value);
                    None
                }
                _ => {
                    let message = format!("impersonation by the header {name} is not supported");
                    return Err(ApiError::new(Reason::Forbidden, message));
                }
            };
            if before.is_some() {
                return Err(ApiError::bad_request(format!("{name} is given twice")));
            }
        }
        Ok(wanted)
    }
}
