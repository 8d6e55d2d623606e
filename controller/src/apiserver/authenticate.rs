//! Who asks: by the certificate that TLS verified, else by a bearer token.
//!
//! Another way to prove who one is (OpenID Connect, say) is another arm of [`identify`]; what it
//! yields is an [`Identity`], and nothing further in knows how it came about.

use hyper::{HeaderMap, header};
use jiff::Timestamp;

use super::websocket;
use crate::{
    authz::Identity,
    error::{ApiError, Reason},
    iam::Access,
};

/// Who asks; none: nobody in particular.
///
/// # Errors
/// `Unauthorized` when somebody claims to be who they are not, or not any more.
pub(super) fn identify(
    access: &Access,
    certificate: Option<&Identity>,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Option<Identity>, ApiError> {
    match certificate {
        // The certificate outlives the account.
        Some(Identity::Subject(who)) if !access.is_live(who) => Err(unauthorized()),
        Some(identity) => Ok(Some(identity.clone())),
        None => {
            let token = match headers.get(header::AUTHORIZATION) {
                Some(value) => value.to_str().ok().and_then(bearer_token).map(str::to_owned),
                None => match websocket::token(headers) {
                    Some(token) => Some(token),
                    None => return Ok(None),
                },
            };
            let bearer = token.and_then(|token| access.bearer_of(&token, now));
            let bearer = bearer.ok_or_else(unauthorized)?;
            Ok(Some(Identity::Subject(bearer)))
        }
    }
}

fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(super) fn unauthorized() -> ApiError {
    ApiError::new(Reason::Unauthorized, "Unauthorized")
}
