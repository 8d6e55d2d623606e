//! Where a container may be: its name, its parent, and where it may move.

use isocast_api::{
    object::{Object, Spec},
    resourcemanager::{
        CONTAINERS_ABOVE_MAX, ContainerReference, FolderSpec, OrganizationSpec, ParentKind,
    },
};

use super::{
    super::lookup,
    belongings::Belongings,
    container::{self, Container},
    tree::Tree,
};
use crate::{
    admission::ProposedChange,
    error::{ApiError, Cause, Reason},
    store::{Key, View},
};

/// A container moves with all that it holds, also to another organization, unless something of that
/// cannot go along. An organization that is a part of another one holds what it was granted itself.
pub(super) fn admit_move<S: Container>(
    tree: &mut Tree,
    view: &View,
    change: &ProposedChange,
) -> Result<(), ApiError> {
    let (Some(old), Some(new)) = (change.old_value(), &change.new) else { return Ok(()) };
    let (old, new): (Object<S>, Object<S>) = (lookup::decode(old)?, lookup::decode(new)?);
    if old.spec.parent() == new.spec.parent() {
        return Ok(());
    }
    let name = change.key.name();
    if old.metadata.deletion_timestamp.is_some() {
        return Err(misplaced::<S>(&change.key, format!("{name:?} is being deleted")));
    }
    let above = new.spec.parent();
    let above = above.as_ref().map(|parent| parent.name.as_str());
    expect_parent(view, &change.key, &new.spec)?;
    let depth = above.map_or(0, |above| container::chain(view, above).count());
    if depth + tree.height(name) > CONTAINERS_ABOVE_MAX {
        let message = format!("there may be at most {CONTAINERS_ABOVE_MAX} containers above");
        return Err(misplaced::<S>(&change.key, message));
    }
    let of = |spec: &S| {
        let parent = spec.parent();
        parent.and_then(|parent| lookup::organization_of(view, parent.name.as_str()))
    };
    let belongings = Belongings::new(view, tree.family(name), above);
    let mut problem = belongings.foreign_roles()?;
    let organization = of(&new.spec).filter(|_| S::KIND.kind != OrganizationSpec::KIND.kind);
    if let Some(organization) = organization
        && of(&old.spec).as_ref() != Some(&organization)
    {
        problem = belongings.foreign_addresses(&organization)?.or(problem);
    }
    if let Some(problem) = problem {
        return Err(misplaced::<S>(&change.key, problem));
    }
    if let Some(above) = above {
        tree.announce(above, name);
    }
    Ok(())
}

fn misplaced<S: Container>(key: &Key, message: String) -> ApiError {
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: message.clone(),
        field: S::PARENT_FIELD.to_owned(),
    };
    let message =
        format!("{} {:?} is invalid: {}: {message}", S::KIND.kind, key.name(), S::PARENT_FIELD);
    ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause])
}

pub(super) fn expect_free_name(view: &View, key: &Key) -> Result<(), ApiError> {
    let name = key.name();
    if name == "default" || name.starts_with("isocast-") || name.starts_with("kube-") {
        let message = "the name is reserved: default, isocast-… and kube-… are not for containers";
        return Err(ApiError::forbidden(key, message));
    }
    for other in container::places(name) {
        let Some(taken) = view.get(&other).filter(|_| other != *key) else { continue };
        // Not what has the name: that may be another tenant's.
        let going = if container::is_leaving(taken) { "object is being deleted: " } else { "" };
        let message = format!(
            "{going}{} {name:?} already exists: the names of organizations, folders and projects \
             are one space, because each owns the namespace of its name",
            key.resource(),
        );
        return Err(ApiError::about(Reason::AlreadyExists, key, message));
    }
    Ok(())
}

pub(super) fn expect_parent<S: Container>(
    view: &View,
    key: &Key,
    spec: &S,
) -> Result<(), ApiError> {
    let refuse = |message: String| Err(misplaced::<S>(key, message));
    let mut above = spec.parent();
    let mut depth = 0;
    while let Some(ContainerReference { kind, name }) = above {
        let name = name.as_str();
        let place = match kind {
            ParentKind::Folder => lookup::key::<FolderSpec>(name),
            ParentKind::Organization => lookup::key::<OrganizationSpec>(name),
        };
        let word = kind.as_str().to_lowercase();
        let Some(container) = view.get(&place) else {
            return refuse(format!("there is no {word} {name:?}"));
        };
        if place == *key {
            return refuse(format!("{word} {name:?} would be below itself"));
        }
        if container::is_leaving(container) {
            return refuse(format!("{word} {name:?} is being deleted"));
        }
        depth += 1;
        if depth > CONTAINERS_ABOVE_MAX {
            return refuse(format!("there may be at most {CONTAINERS_ABOVE_MAX} containers above"));
        }
        above = match kind {
            ParentKind::Folder => lookup::decode::<FolderSpec>(&container.value())?.spec.parent(),
            ParentKind::Organization => {
                lookup::decode::<OrganizationSpec>(&container.value())?.spec.parent()
            }
        };
    }
    Ok(())
}
