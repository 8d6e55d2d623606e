//! The guard: what may be written about rights, and by whom.
//!
//! Nobody gives away what they do not hold, takes away what restrains them, or gains by moving a
//! container. What one holds counts only without conditions, and for as long as what is given.

use std::collections::BTreeMap;

use isocast_api::{
    iam::{
        Effect, GroupMembership, GroupMembershipSpec, GroupSpec, PolicyBinding, PolicyBindingSpec,
        ProtectedResourceSpec, Role, RoleSpec, ServiceAccountSpec, UserSpec,
    },
    object::{Object, Spec},
    resourcemanager,
};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    access::{Asked, decide},
    bootstrap,
    condition::Condition,
    index::{Index, placed},
    permission::{BIND, Catalog, ESCALATE, Permission, PermissionSet},
    principals::{GROUP_DEPTH_MAX, PRINCIPALS_MAX, SubjectName, SubjectRef},
    roles::{HEIRS_MAX, INHERITED_MAX, PlacedRef},
    tokens::{Bearer, ISSUER},
};
use crate::{
    admission::ProposedChange,
    authz::Identity,
    error::{ApiError, Cause, Reason},
    managers::SYSTEM_NAMESPACE,
    store::{Key, Resource},
};

/// Judges a change: whether its author still may, whether it makes sense, and whether it gives away
/// more than its author holds.
pub(super) fn admit(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    still_allowed(index, change)?;
    let resource = change.key.resource();
    let is = |kind: isocast_api::object::Kind| resource.is(kind.plural, kind.group);
    if is(RoleSpec::KIND) {
        role(index, change)
    } else if is(PolicyBindingSpec::KIND) {
        binding(index, change)
    } else if is(GroupMembershipSpec::KIND) {
        membership(index, change)
    } else if is(GroupSpec::KIND) {
        group(index, change)
    } else if is(UserSpec::KIND) || is(ServiceAccountSpec::KIND) {
        tokens(change)
    } else if is(ProtectedResourceSpec::KIND) && !matches!(change.actor, Identity::Component { .. })
    {
        Err(ApiError::forbidden(&change.key, "protected resources are derived from the kinds"))
    } else if resourcemanager::is_container(resource.plural(), resource.group()) {
        container_move(index, change)
    } else {
        Ok(())
    }
}

/// Asks again, in the write's place in the order.
fn still_allowed(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    let Identity::Subject(who) = &change.actor else { return Ok(()) };
    // A patch may make the object.
    let verb = if change.old.is_none() { "create" } else { change.verb };
    let parent = match (&change.old, &change.new) {
        (None, Some(new)) => parent_of(change.key.resource(), new),
        _ => None,
    };
    let asked = Asked {
        verb,
        resource: change.key.resource(),
        subresource: change.subresource.unwrap_or_default(),
        namespace: change.key.container(),
        name: change.key.name(),
        parent,
    };
    if decide(index, who, &asked, change.now).is_allowed() {
        return Ok(());
    }
    let why = format!("{} may not {verb} it any more", change.actor);
    Err(ApiError::forbidden(&change.key, &why))
}

/// The container above a container, by its object; that of one without is the platform.
pub(crate) fn parent_of<'a>(resource: &Resource, value: &'a Value) -> Option<&'a str> {
    if !resourcemanager::is_container(resource.plural(), resource.group()) {
        return None;
    }
    let pointer =
        if resource.plural() == "organizations" { "/spec/parent" } else { "/spec/parent/name" };
    Some(value.pointer(pointer).and_then(Value::as_str).unwrap_or(SYSTEM_NAMESPACE))
}

/// Whoever moves a container could as well delete it where it is and make it where it goes.
fn container_move(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    let Identity::Subject(who) = &change.actor else { return Ok(()) };
    let resource = change.key.resource();
    let (Some(old), Some(new)) = (change.old_value(), &change.new) else { return Ok(()) };
    let (Some(from), Some(to)) = (parent_of(resource, old), parent_of(resource, new)) else {
        return Ok(());
    };
    if from == to {
        return Ok(());
    }
    for (verb, parent) in [("delete", from), ("create", to)] {
        let asked = Asked {
            verb,
            resource,
            subresource: "",
            namespace: None,
            name: change.key.name(),
            parent: Some(parent),
        };
        if !decide(index, who, &asked, change.now).is_allowed() {
            let why = format!(
                "{} cannot move it: that takes the right to delete {} in the container above it, \
                 and to create them in the one that it goes to",
                change.actor,
                resource.plural(),
            );
            return Err(ApiError::forbidden(&change.key, &why));
        }
    }
    Ok(())
}

fn role(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    let key = &change.key;
    let namespace = key.container().unwrap_or_default();
    if bootstrap::is_built_in(key) && !matches!(change.actor, Identity::Component { .. }) {
        return Err(ApiError::forbidden(key, "it is one of the roles that come with the platform"));
    }
    let number = index.roles.find(PlacedRef(namespace, key.name()));
    let before = number.and_then(|number| index.roles.get(number)).map(|(set, _)| *set);
    let before = before.unwrap_or_default();
    let after = match &change.new {
        None => PermissionSet::default(),
        Some(new) => {
            let role: Role = decode(new)?;
            check_role(index, key, &role, number)?
        }
    };
    let Identity::Subject(who) = &change.actor else { return Ok(()) };
    if has(index, who, namespace, ESCALATE, change.now) {
        return Ok(());
    }
    expect_held(index, who, &before.difference(&after), namespace, i64::MAX, change)
}

/// What the role will allow, if it makes sense.
fn check_role(
    index: &Index,
    key: &Key,
    role: &Role,
    number: Option<u32>,
) -> Result<PermissionSet, ApiError> {
    let catalog = Catalog::get();
    let included = &role.spec.included_permissions;
    if let Some(place) =
        included.iter().position(|pattern| pattern.is_exact() && !catalog.knows(pattern))
    {
        let message =
            "there is no such permission; kubectl get protectedresources -o wide lists them";
        return Err(invalid::<RoleSpec>(
            key,
            &format!("spec.includedPermissions[{place}]"),
            message,
        ));
    }
    let mut permissions = catalog.expand(included);
    let mut reached = Vec::new();
    for (place, reference) in role.spec.inherited_roles.iter().enumerate() {
        let field = format!("spec.inheritedRoles[{place}]");
        let other = placed(reference, role.namespace());
        expect_above::<RoleSpec>(index, key, &field, other, role.namespace())?;
        let Some(other) = index.roles.find(other) else {
            return Err(invalid::<RoleSpec>(key, &field, "there is no such role"));
        };
        for inherited in index.roles.inherited(other) {
            if Some(inherited) == number {
                let message = "a role cannot inherit from itself";
                return Err(invalid::<RoleSpec>(key, &field, message));
            }
            if !reached.contains(&inherited) {
                reached.push(inherited);
            }
        }
        if reached.len() > INHERITED_MAX {
            let message = format!("a role inherits from at most {INHERITED_MAX} others altogether");
            return Err(invalid::<RoleSpec>(key, &field, &message));
        }
        if index.roles.heirs(other).len() >= HEIRS_MAX {
            let message = format!("at most {HEIRS_MAX} roles inherit from a role altogether");
            return Err(invalid::<RoleSpec>(key, &field, &message));
        }
        if let Some((theirs, _)) = index.roles.get(other) {
            permissions.add(theirs);
        }
    }
    Ok(permissions)
}

fn binding(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    let key = &change.key;
    let namespace = key.container().unwrap_or_default();
    let new: Option<PolicyBinding> = change.new.as_ref().map(decode).transpose()?;
    if let Some(new) = &new {
        let role = placed(&new.spec.role, namespace);
        expect_above::<PolicyBindingSpec>(index, key, "spec.role.namespace", role, namespace)?;
        if !index.roles.find(role).is_some_and(|number| index.roles.is_defined(number)) {
            let message = "there is no such role";
            return Err(invalid::<PolicyBindingSpec>(key, "spec.role.name", message));
        }
        if let Some(condition) = &new.spec.condition {
            Condition::compile(&condition.expression).map_err(|message| {
                invalid::<PolicyBindingSpec>(key, "spec.condition.expression", &message)
            })?;
        }
    }
    let Identity::Subject(who) = &change.actor else { return Ok(()) };
    if has(index, who, namespace, BIND, change.now) {
        return Ok(());
    }
    let old: Option<PolicyBinding> = change.old_value().map(|value| decode(value)).transpose()?;
    // What is given must be held, and so must what a denial stops to restrain.
    let given = new.as_ref().filter(|it| it.spec.effect == Effect::Allow);
    let lifted = old.as_ref().filter(|it| it.spec.effect == Effect::Deny);
    for (binding, is_given) in [(given, true), (lifted, false)] {
        let Some(binding) = binding else { continue };
        let role = index.roles.find(placed(&binding.spec.role, namespace));
        let Some((permissions, _)) = role.and_then(|number| index.roles.get(number)) else {
            continue;
        };
        let expires = binding.spec.expires_at.map_or(i64::MAX, |at| at.timestamp().as_second());
        let until = if is_given { expires } else { i64::MAX };
        expect_held(index, who, permissions, namespace, until, change)?;
    }
    Ok(())
}

fn membership(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    let key = &change.key;
    let namespace = key.container().unwrap_or_default();
    let Some(value) = change.new.as_ref().or_else(|| change.old_value().map(|old| &**old)) else {
        return Ok(());
    };
    let membership: GroupMembership = decode(value)?;
    let group = SubjectRef::Group(namespace, membership.spec.group.as_str());
    if change.old.is_none() {
        check_nesting(index, key, &membership, group)?;
    } else if change.new.is_some() {
        // Neither end of it can change.
        return Ok(());
    }
    let effect = if change.new.is_some() { Effect::Allow } else { Effect::Deny };
    expect_group_held(index, group, effect, change)
}

fn group(index: &Index, change: &ProposedChange) -> Result<(), ApiError> {
    // A group that comes or goes does to its members what their memberships say.
    let effect = match (&change.old, &change.new) {
        (None, _) => Effect::Allow,
        (_, None) => Effect::Deny,
        _ => return Ok(()),
    };
    let group = SubjectRef::Group(change.key.container().unwrap_or_default(), change.key.name());
    expect_group_held(index, group, effect, change)
}

fn check_nesting(
    index: &Index,
    key: &Key,
    membership: &GroupMembership,
    group: SubjectRef<'_>,
) -> Result<(), ApiError> {
    let refuse = |message: &str| Err(invalid::<GroupMembershipSpec>(key, "spec.member", message));
    let member = SubjectRef::of(&membership.spec.member, membership.namespace());
    if member == group {
        return refuse("a group cannot be a member of itself");
    }
    let (group, member) = (index.principals.find(group), index.principals.find(member));
    let above = group.and_then(|group| index.principals.closure_of(group));
    if let (Some(above), Some(member)) = (&above, member)
        && above.contains(member)
    {
        return refuse("a group cannot be a member of itself, also not through others");
    }
    let levels = |number: Option<u32>, up| number.map_or(0, |it| index.principals.levels(it, up));
    let is_group = membership.spec.member.kind == isocast_api::iam::SubjectKind::Group;
    if is_group && levels(group, true) + levels(member, false) + 1 > GROUP_DEPTH_MAX {
        return refuse(&format!("groups may nest at most {GROUP_DEPTH_MAX} deep"));
    }
    let mine = member.map_or(Some(1), |it| Some(index.principals.closure_of(it)?.len()));
    let theirs = group.map_or(Some(1), |_| above.map(|above| above.len()));
    // Two more for the groups of everybody.
    match (mine, theirs) {
        (Some(mine), Some(theirs)) if mine + theirs + 2 <= PRINCIPALS_MAX => Ok(()),
        _ => refuse(&format!("one may be in at most {} groups", PRINCIPALS_MAX - 3)),
    }
}

/// What a group was given, or denied, must be held by whoever makes or ends memberships of it.
fn expect_group_held(
    index: &Index,
    group: SubjectRef<'_>,
    effect: Effect,
    change: &ProposedChange,
) -> Result<(), ApiError> {
    let Identity::Subject(who) = &change.actor else { return Ok(()) };
    let closure = index.principals.find(group).and_then(|it| index.principals.closure_of(it));
    let Some(closure) = closure else { return Ok(()) };
    for (container, permissions) in given(index, closure.numbers(), effect, change.now) {
        let container = index.tree.name(container);
        if !has(index, who, container, BIND, change.now) {
            expect_held(index, who, &permissions, container, i64::MAX, change)?;
        }
    }
    Ok(())
}

/// Refuses to let `actor` become `subject` when that holds more.
pub(super) fn impersonation(
    index: &Index,
    actor: &Identity,
    subject: &SubjectName,
    now: Timestamp,
) -> Result<(), ApiError> {
    let Identity::Subject(who) = actor else { return Ok(()) };
    let Some(closure) = index.principals.closure_of_account(subject.borrowed()) else {
        return Ok(());
    };
    for (container, permissions) in given(index, closure.numbers(), Effect::Allow, now) {
        let container = index.tree.name(container);
        if has(index, who, container, BIND, now) {
            continue;
        }
        let rights = index.rights(who, container, now, i64::MIN);
        if rights.missing(&permissions).is_some() {
            let message = format!(
                "{actor} cannot act as {} {:?}: it holds more than they do",
                subject.kind(),
                subject.username()
            );
            return Err(ApiError::new(Reason::Forbidden, message));
        }
    }
    Ok(())
}

/// What principals were given or denied, by container.
fn given(
    index: &Index,
    principals: impl Iterator<Item = u32>,
    effect: Effect,
    now: Timestamp,
) -> BTreeMap<u32, PermissionSet> {
    let mut all: BTreeMap<u32, PermissionSet> = BTreeMap::new();
    for principal in principals.filter_map(|number| index.principals.get(number)) {
        for (container, grant) in principal.grants.iter() {
            if grant.effect == effect
                && grant.expires > now.as_second()
                && let Some((role, _)) = index.roles.get(grant.role)
            {
                all.entry(container).or_default().add(role);
            }
        }
    }
    all.retain(|_, permissions| !permissions.is_empty());
    all
}

/// Tokens are made by the issuer alone; others may take them away.
fn tokens(change: &ProposedChange) -> Result<(), ApiError> {
    if change.actor == ISSUER {
        return Ok(());
    }
    let list = |value: &Value| -> Vec<Value> {
        value.pointer("/status/tokens").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let old = change.old_value().map(|old| list(old)).unwrap_or_default();
    let new = change.new.as_ref().map(list).unwrap_or_default();
    if new.iter().all(|token| old.contains(token)) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        &change.key,
        "tokens are made by its token subresource; from status they can only be removed",
    ))
}

/// Whether somebody may go beyond what they hold themselves.
fn has(index: &Index, who: &Bearer, container: &str, verb: &str, now: Timestamp) -> bool {
    let permission = Catalog::get().find("roles.iam.isocast.dev", "", verb);
    permission.is_some_and(|it| index.rights(who, container, now, i64::MIN).contains(it))
}

fn expect_held(
    index: &Index,
    who: &Bearer,
    permissions: &PermissionSet,
    container: &str,
    until: i64,
    change: &ProposedChange,
) -> Result<(), ApiError> {
    let rights = index.rights(who, container, change.now, until);
    let Some(missing) = rights.missing(permissions) else { return Ok(()) };
    Err(ApiError::forbidden(&change.key, &lacking(&change.actor, missing)))
}

fn lacking(actor: &Identity, missing: Permission) -> String {
    format!(
        "{actor} cannot give, take or change what they do not hold themselves, without conditions \
         and for as long: {}",
        Catalog::get().name(missing)
    )
}

/// A role is referred to where it lives, and below.
fn expect_above<S: Spec>(
    index: &Index,
    key: &Key,
    field: &str,
    role: PlacedRef<'_>,
    namespace: &str,
) -> Result<(), ApiError> {
    if role.0 == namespace || role.0 == SYSTEM_NAMESPACE || index.is_within(namespace, role.0) {
        return Ok(());
    }
    let message =
        "must be the object's own namespace, that of a container above, or isocast-system";
    Err(invalid::<S>(key, field, message))
}

fn decode<S: Spec>(value: &Value) -> Result<Object<S>, ApiError> {
    Object::decode(value).map_err(|error| ApiError::internal(error.to_string()))
}

fn invalid<S: Spec>(key: &Key, field: &str, message: &str) -> ApiError {
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: message.to_owned(),
        field: field.to_owned(),
    };
    let (kind, name) = (S::KIND.kind, key.name());
    let message = format!("{kind} {name:?} is invalid: {field}: {message}");
    ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause])
}
