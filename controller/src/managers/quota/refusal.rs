//! What somebody is told for whom there is no room.

use std::{fmt::Write, time::Duration};

use jiff::Timestamp;

use super::{Request, bucket, index::Shortage};
use crate::{
    admission::ProposedChange,
    authz::Identity,
    error::{ApiError, Cause, Reason},
    iam::Access,
    store::Key,
};

/// The refusal, in Kubernetes' words, with figures of containers whose buckets its reader may get.
pub(super) fn of(access: &Access, change: &ProposedChange, shortages: &[Shortage]) -> ApiError {
    let texts: Vec<String> =
        shortages.iter().map(|shortage| text(access, change, shortage)).collect();
    let mut message = String::new();
    for text in &texts {
        let between = if message.is_empty() { "" } else { "; " };
        let _infallible = write!(message, "{between}{text}");
    }
    ApiError::forbidden(&change.key, &message).with_causes(texts.into_iter().map(cause).collect())
}

/// The refusal of a request that comes too fast: what there was too much of, if it is still known, and
/// when to come back.
pub(super) fn too_fast(
    access: &Access,
    request: &Request<'_>,
    shortage: Option<&Shortage>,
    wait: Duration,
    now: Timestamp,
) -> ApiError {
    let text = match shortage {
        None => "exceeded quota: too many requests".to_owned(),
        Some(Shortage { container, kind, registration, resource_type, limit, .. }) => {
            let bucket = bucket::key(container, registration);
            let whose = if may_know(access, request.actor, &bucket, now) {
                format!(
                    "{kind} {container:?} may have {limit} a second (allowancebucket \
                     {container}/{registration})"
                )
            } else {
                "a container above may have no more a second, and its limit is not yours to see"
                    .to_owned()
            };
            format!("exceeded quota: {registration}, requested: {resource_type}=1: {whose}")
        }
    };
    // In whole seconds, as the header is.
    let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    let error = ApiError::about(Reason::TooManyRequests, request.about, text.clone());
    error.with_causes(vec![cause(text)]).with_retry_after(seconds.max(1))
}

fn cause(message: String) -> Cause {
    Cause { reason: "QuotaExceeded".to_owned(), message, field: String::new() }
}

/// Whether a limit may be shown to who is refused.
fn may_know(access: &Access, who: &Identity, bucket: &Key, now: Timestamp) -> bool {
    !matches!(who, Identity::Subject(_)) || access.allows(who, "get", bucket, now)
}

fn text(access: &Access, change: &ProposedChange, shortage: &Shortage) -> String {
    let Shortage { container, kind, registration, resource_type, limit, allocated, .. } = shortage;
    let requested = shortage.requested;
    let key = bucket::key(container, registration);
    let may_know = may_know(access, &change.actor, &key, change.now);
    if shortage.is_feature {
        let whose =
            if may_know { format!("{kind} {container:?}") } else { "a container above".into() };
        let ended = if may_know && shortage.has_ended { " any more" } else { "" };
        return format!(
            "exceeded quota: {registration}: {whose} does not have the feature {resource_type}{ended}"
        );
    }
    if !may_know {
        return format!(
            "exceeded quota: {registration}, requested: {resource_type}={requested}: a container \
             above has no room for it, and its limit is not yours to see"
        );
    }
    let ended = if shortage.has_ended { "; grants of it have ended" } else { "" };
    format!(
        "exceeded quota: {registration}, requested: {resource_type}={requested}, used: \
         {resource_type}={allocated}, limited: {resource_type}={limit}: {kind} {container:?} has no \
         room (allowancebucket {container}/{registration}{ended})"
    )
}
