//! What somebody is told for whom there is no room.

use std::fmt::Write;

use super::{bucket, index::Shortage};
use crate::authz::Identity;
use crate::{
    admission::ProposedChange,
    error::{ApiError, Cause},
    iam::Access,
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
    let causes = texts.into_iter().map(|message| Cause {
        reason: "QuotaExceeded".to_owned(),
        message,
        field: String::new(),
    });
    ApiError::forbidden(&change.key, &message).with_causes(causes.collect())
}

fn text(access: &Access, change: &ProposedChange, shortage: &Shortage) -> String {
    let Shortage { container, kind, registration, resource_type, limit, allocated, .. } = shortage;
    let requested = shortage.requested;
    let key = bucket::key(container, registration);
    let may_know = match &change.actor {
        who @ Identity::Subject(_) => access.allows(who, "get", &key, change.now),
        _ => true,
    };
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
