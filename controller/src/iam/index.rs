//! [`Index`]: everything that decides who may do what, ready to be asked.
//!
//! Moves on object by object, and is the same whatever the order: what an object adds is exactly
//! what its removal takes away. Nothing here is refused (that is the guard's part); what does not
//! make sense has no effect, or denies.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use isocast_api::{
    iam::{self, AccountState, GroupMembership, PolicyBinding, Role, ServiceAccount, Token, User},
    object::{Object, Spec},
    resourcemanager,
};
use serde_json::Value;

use super::{
    condition::Condition,
    grants::Grant,
    guard::parent_of,
    permission::Catalog,
    principals::{Account, Memberships, Principals, SubjectRef},
    roles::{PlacedName, PlacedRef, Roles},
    slots::Slots,
    tokens::{HASH_BYTES, KnownToken},
    tree::Tree,
};
use crate::store::Key;

/// Who may do what.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) tree: Tree,
    pub(super) principals: Principals,
    pub(super) roles: Roles,
    pub(super) bindings: Slots<PlacedName, ()>,
    conditions: HashMap<Arc<str>, Arc<Condition>, RandomState>,
    tokens: HashMap<[u8; HASH_BYTES], Arc<KnownToken>, RandomState>,
    /// Counts what may have changed anybody's rights.
    pub(super) generation: u64,
    /// The revision that it is of; what changes, changes then.
    pub(super) revision: u64,
    /// The revision that it began with: what changed before is not known.
    pub(super) opened: u64,
}

impl Index {
    /// An object changed from `old` to `new`; none: it does not exist.
    pub(super) fn apply(&mut self, key: &Key, old: Option<&Value>, new: Option<&Value>) {
        let resource = key.resource();
        match resource.group() {
            // A lien, say, is no container.
            resourcemanager::GROUP if key.container().is_none() => {
                self.container(resource.plural(), key.name(), old, new);
            }
            iam::GROUP => {
                let says_the_same = |old: &Value, new: &Value| old.get("spec") == new.get("spec");
                let is_account = matches!(resource.plural(), "users" | "serviceaccounts");
                if !is_account
                    && let (Some(old), Some(new)) = (old, new)
                    && says_the_same(old, new)
                {
                    return;
                }
                self.generation += 1;
                match resource.plural() {
                    "groups" => self.group(key, old.is_some(), new.is_some()),
                    "groupmemberships" => self.replace(old, new, Self::join, Self::leave),
                    "policybindings" => self.replace(old, new, Self::bind, Self::unbind),
                    "roles" => self.replace(old, new, Self::define, Self::undefine),
                    "serviceaccounts" => self.replace(
                        old,
                        new,
                        |index, it: &ServiceAccount| {
                            let (state, tokens) = (it.spec.state, &it.status.tokens);
                            index.enter(service_account(it), &it.metadata.uid, state, tokens);
                        },
                        |index, it| index.leave_for_good(service_account(it), &it.status.tokens),
                    ),
                    "users" => self.replace(
                        old,
                        new,
                        |index, it: &User| {
                            let (state, tokens) = (it.spec.state, &it.status.tokens);
                            index.enter(
                                SubjectRef::User(it.name()),
                                &it.metadata.uid,
                                state,
                                tokens,
                            );
                        },
                        |index, it| {
                            index.leave_for_good(SubjectRef::User(it.name()), &it.status.tokens);
                        },
                    ),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The token with this hash.
    pub(super) fn token(&self, hash: &[u8; HASH_BYTES]) -> Option<&Arc<KnownToken>> {
        self.tokens.get(hash)
    }

    /// Takes away what the old object added, and adds what the new one does.
    fn replace<S: Spec>(
        &mut self,
        old: Option<&Value>,
        new: Option<&Value>,
        add: impl Fn(&mut Self, &Object<S>),
        remove: impl Fn(&mut Self, &Object<S>),
    ) {
        let decode = |value: &Value| match Object::<S>::decode(value) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::error!(%error, "an object does not count for anybody's rights");
                None
            }
        };
        let (old, new) = (old.and_then(decode), new.and_then(decode));
        if let Some(old) = &old {
            remove(self, old);
        }
        if let Some(new) = &new {
            add(self, new);
        }
    }

    /// Something that happened to a container before this began: since then it is where it is.
    pub(super) fn recall(&mut self, key: &Key, at: u64, old: Option<&Value>, new: Option<&Value>) {
        let resource = key.resource();
        let above = |value: Option<&Value>| {
            value.and_then(|value| parent_of(resource, value)).map(str::to_owned)
        };
        if key.container().is_none() && above(old) != above(new) {
            self.tree.note(key.name(), at);
        }
    }

    fn container(&mut self, plural: &str, name: &str, old: Option<&Value>, new: Option<&Value>) {
        let (plural, pointer) = match plural {
            "organizations" => ("organizations", "/spec/parent"),
            "folders" => ("folders", "/spec/parent/name"),
            "projects" => ("projects", "/spec/parent/name"),
            _ => return,
        };
        let parent =
            |value: &Value| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let (above_old, above_new) = (old.map(parent), new.map(parent));
        if above_old == above_new {
            return;
        }
        let at = self.revision;
        match (&above_old, &above_new) {
            (None, Some(above)) => {
                // Roles may have been waiting for it.
                let is_awaited = self.tree.find(name).is_some();
                self.tree.insert(plural, name, above.as_deref(), at);
                if is_awaited {
                    self.roles.moved(&self.tree, at);
                }
            }
            (Some(_), Some(above)) => {
                self.tree.move_to(plural, name, above.as_deref(), at);
                self.generation += 1;
                self.roles.moved(&self.tree, at);
            }
            (Some(_), None) => {
                self.tree.remove(name, at);
                self.generation += 1;
                if self.tree.is_spoken_of(name) {
                    self.roles.moved(&self.tree, at);
                }
            }
            (None, None) => {}
        }
    }

    fn group(&mut self, key: &Key, was: bool, is: bool) {
        let subject = SubjectRef::Group(key.container().unwrap_or_default(), key.name());
        let number = self.principals.acquire(subject);
        if let Some(group) = self.principals.get_mut(number) {
            group.set_group(is);
            group.change(self.revision);
        }
        // One reference for as long as the object exists.
        if was {
            self.principals.release(number);
        }
        if !is {
            self.principals.release(number);
        }
    }

    fn join(&mut self, it: &GroupMembership) {
        let (group, member) = self.ends(it, Principals::acquire);
        if let Some(principal) = self.principals.get_mut(member) {
            principal.groups.push(group);
            principal.change(self.revision);
        }
        if let Some(principal) = self.principals.get_mut(group) {
            principal.subgroups.push(member);
        }
    }

    fn leave(&mut self, it: &GroupMembership) {
        let find = |principals: &mut Principals, subject: SubjectRef<'_>| {
            principals.find(subject).unwrap_or(u32::MAX)
        };
        let (group, member) = self.ends(it, find);
        let forget = |list: &mut Memberships, number| {
            if let Some(place) = list.iter().position(|it| *it == number) {
                list.swap_remove(place);
            }
        };
        if let Some(principal) = self.principals.get_mut(member) {
            forget(&mut principal.groups, group);
            principal.change(self.revision);
        }
        if let Some(principal) = self.principals.get_mut(group) {
            forget(&mut principal.subgroups, member);
        }
        self.principals.release(member);
        self.principals.release(group);
    }

    fn ends(
        &mut self,
        it: &GroupMembership,
        number: impl Fn(&mut Principals, SubjectRef<'_>) -> u32,
    ) -> (u32, u32) {
        let group = SubjectRef::Group(it.namespace(), it.spec.group.as_str());
        let member = SubjectRef::of(&it.spec.member, it.namespace());
        (number(&mut self.principals, group), number(&mut self.principals, member))
    }

    fn define(&mut self, it: &Role) {
        let number = self.roles.acquire(PlacedRef(it.namespace(), it.name()));
        let container = self.tree.acquire(it.namespace());
        let own = Catalog::get().expand(&it.spec.included_permissions);
        let inherits = it.spec.inherited_roles.iter();
        let inherits =
            inherits.map(|role| self.roles.acquire(placed(role, it.namespace()))).collect();
        self.roles.set(number, container, own, inherits, (&self.tree, self.revision));
    }

    fn undefine(&mut self, it: &Role) {
        let Some(number) = self.roles.find(PlacedRef(it.namespace(), it.name())) else { return };
        for inherited in self.roles.clear(number, (&self.tree, self.revision)) {
            self.roles.release(inherited);
        }
        self.roles.release(number);
        if let Some(container) = self.tree.find(it.namespace()) {
            self.tree.release(container);
        }
    }

    fn bind(&mut self, it: &PolicyBinding) {
        let namespace = it.namespace();
        let container = self.tree.acquire(namespace);
        let grant = Grant {
            binding: self.bindings.acquire(&PlacedRef(namespace, it.name()), || {
                PlacedName(namespace.into(), it.name().into())
            }),
            role: self.roles.acquire(placed(&it.spec.role, namespace)),
            effect: it.spec.effect,
            expires: it.spec.expires_at.map_or(i64::MAX, |at| at.timestamp().as_second()),
            condition: it.spec.condition.as_ref().map(|it| self.condition(&it.expression)),
        };
        for subject in &it.spec.subjects {
            let number = self.principals.acquire(SubjectRef::of(subject, namespace));
            if let Some(principal) = self.principals.get_mut(number) {
                principal.grants.push(container, grant.clone());
                principal.change(self.revision);
            }
        }
    }

    fn unbind(&mut self, it: &PolicyBinding) {
        let namespace = it.namespace();
        let name = PlacedRef(namespace, it.name());
        let (Some(container), Some(binding), Some(role)) = (
            self.tree.find(namespace),
            self.bindings.find(&name),
            self.roles.find(placed(&it.spec.role, namespace)),
        ) else {
            return;
        };
        for subject in &it.spec.subjects {
            let Some(number) = self.principals.find(SubjectRef::of(subject, namespace)) else {
                continue;
            };
            if let Some(principal) = self.principals.get_mut(number) {
                principal.grants.remove(container, binding);
                principal.change(self.revision);
            }
            self.principals.release(number);
        }
        if let Some(condition) = &it.spec.condition {
            let unused = self.conditions.get(condition.expression.as_str());
            if unused.is_some_and(|condition| Arc::strong_count(condition) == 1) {
                self.conditions.remove(condition.expression.as_str());
            }
        }
        self.bindings.release(binding);
        self.roles.release(role);
        self.tree.release(container);
    }

    /// The compiled condition, one for all bindings that say the same.
    fn condition(&mut self, source: &str) -> Arc<Condition> {
        if let Some(known) = self.conditions.get(source) {
            return Arc::clone(known);
        }
        let compiled = Condition::compile(source).unwrap_or_else(|error| {
            tracing::error!(source, error, "a stored condition does not compile");
            Condition::broken(source)
        });
        let compiled = Arc::new(compiled);
        self.conditions.insert(Arc::clone(compiled.source()), Arc::clone(&compiled));
        compiled
    }

    fn enter(&mut self, subject: SubjectRef<'_>, uid: &str, state: AccountState, tokens: &[Token]) {
        let number = self.principals.acquire(subject);
        let uid: Arc<str> = uid.into();
        let account = Account { uid: Arc::clone(&uid), active: state == AccountState::Active };
        if let Some(principal) = self.principals.get_mut(number) {
            principal.set_account(Some(account));
        }
        let Some(name) = self.principals.name(number).cloned() else { return };
        for token in tokens {
            if let Some((hash, known)) = KnownToken::of(token, &name, number, &uid) {
                self.tokens.insert(hash, Arc::new(known));
            }
        }
    }

    fn leave_for_good(&mut self, subject: SubjectRef<'_>, tokens: &[Token]) {
        for token in tokens {
            if let Some(hash) = KnownToken::hash_of(token) {
                self.tokens.remove(&hash);
            }
        }
        let Some(number) = self.principals.find(subject) else { return };
        if let Some(principal) = self.principals.get_mut(number) {
            principal.set_account(None);
        }
        self.principals.release(number);
    }
}

fn service_account(it: &ServiceAccount) -> SubjectRef<'_> {
    SubjectRef::ServiceAccount(it.namespace(), it.name())
}

/// Where a role is that an object in `namespace` refers to.
pub(super) fn placed<'a>(role: &'a iam::RoleReference, namespace: &'a str) -> PlacedRef<'a> {
    let namespace = role.namespace.as_ref().map_or(namespace, |name| name.as_str());
    PlacedRef(namespace, role.name.as_str())
}
