//! [`preview`]: what a change of policy would do, before anybody does it.

use ipnet::IpNet;

use super::{Context, Policy};
use crate::wire::attribute::PathAttributes;

/// Prefixes that one policy lets pass and the other does not, or not as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Pass under the new policy only.
    pub gained: Vec<IpNet>,
    /// Pass under the old policy only.
    pub lost: Vec<IpNet>,
    /// Pass under both, with other attributes.
    pub changed: Vec<IpNet>,
}

/// What going from `old` to `new` does to `routes`. Pure; the order is that of the routes.
pub fn preview<'r>(
    old: &Policy,
    new: &Policy,
    routes: impl IntoIterator<Item = (IpNet, &'r PathAttributes)>,
    context: &Context<'_>,
) -> Preview {
    let mut preview = Preview::default();
    for (prefix, attributes) in routes {
        let outcome = |policy: &Policy| outcome(policy, prefix, attributes, context);
        let list = match (outcome(old), outcome(new)) {
            (None, Some(_)) => &mut preview.gained,
            (Some(_), None) => &mut preview.lost,
            (Some(before), Some(after)) if before != after => &mut preview.changed,
            _ => continue,
        };
        list.push(prefix);
    }
    preview
}

type Outcome = (PathAttributes, Option<super::NextHopEdit>);

fn outcome(
    policy: &Policy,
    prefix: IpNet,
    attributes: &PathAttributes,
    context: &Context<'_>,
) -> Option<Outcome> {
    match policy.evaluate(prefix, attributes, context) {
        super::Verdict::Accept { edits, .. } => {
            let mut after = attributes.clone();
            edits.apply(&mut after);
            Some((after, edits.next_hop(crate::types::Family::of(&prefix))))
        }
        super::Verdict::Reject { .. } => None,
    }
}
