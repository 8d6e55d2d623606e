//! [`Decision`]: the walk from somebody and a container to a yes or a no.
//!
//! Somebody is the account and every group it is in; the container stands for itself and all above
//! it. A binding of any of these to any of those counts. One that denies ends the matter.

use isocast_api::iam::Effect;
use jiff::Timestamp;

use super::{
    condition::Facts,
    grants::Grant,
    index::Index,
    permission::{Catalog, Permission, PermissionSet},
    principals::{Closure, SubjectName},
    roles::PlacedName,
    tokens::Bearer,
    tree::Chain,
};

/// What was decided, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A binding allows it.
    Allowed(Granted),
    /// A binding denies it, whatever else allows it.
    Denied(Granted),
    /// Nothing allows it.
    NotGranted,
    /// The token's scope leaves it out.
    OutOfScope,
    /// The account is suspended, gone, or another one of the same name.
    NoAccount,
    /// There is no such container.
    NoContainer,
    /// The account is in more groups than are looked at.
    TooManyGroups,
}

/// The binding that decided, in the index's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    binding: u32,
    role: u32,
    container: u32,
    principal: u32,
    expires: i64,
    conditional: bool,
}

/// The binding that decided, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deciding {
    /// Namespace and name of the binding; the namespace is the container it holds in.
    pub(crate) binding: (String, String),
    /// Namespace and name of the role.
    pub(crate) role: (String, String),
    /// The groups between the account and the binding's subject, which is the last.
    pub(crate) via: Vec<SubjectName>,
    /// From the container that was asked about up to the binding's.
    pub(crate) inherited: Vec<String>,
    /// Whether it has a condition.
    pub(crate) conditional: bool,
    /// When it expires, in seconds since 1970.
    pub(crate) expires: Option<i64>,
}

/// How far a right reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Nowhere,
    /// In some containers: each must be asked about.
    Somewhere,
    Everywhere,
}

/// What somebody has in a container, as sets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rights {
    pub(crate) allowed: PermissionSet,
    pub(crate) denied: PermissionSet,
    /// Some of it depends on conditions, and is not in the sets.
    pub(crate) conditional: bool,
}

impl Decision {
    pub(crate) fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl Rights {
    pub(crate) fn contains(&self, permission: Permission) -> bool {
        self.allowed.contains(permission) && !self.denied.contains(permission)
    }

    /// What of `wanted` is missing.
    pub(crate) fn missing(&self, wanted: &PermissionSet) -> Option<Permission> {
        wanted.iter().find(|permission| !self.contains(*permission))
    }
}

impl Index {
    /// Decides whether `who` has `permission` in the container called `facts.namespace`, or called
    /// otherwise for what has no namespace.
    pub(crate) fn decide(
        &self,
        who: &Bearer,
        permission: Permission,
        container: &str,
        facts: &Facts<'_>,
    ) -> Decision {
        let chain = self.tree.find(container).and_then(|id| self.tree.chain(id));
        match chain {
            Some(chain) => self.decide_on(who, permission, &chain, facts),
            None => Decision::NoContainer,
        }
    }

    /// The same, in a container that has these above it.
    pub(super) fn decide_on(
        &self,
        who: &Bearer,
        permission: Permission,
        chain: &Chain,
        facts: &Facts<'_>,
    ) -> Decision {
        let Some(number) = self.principals.usable(who) else { return Decision::NoAccount };
        if !self.is_in_scope(who, permission, chain) {
            return Decision::OutOfScope;
        }
        let subject = who.subject.borrowed();
        let Some(closure) = self.principals.closure_of_numbered(number, subject) else {
            return Decision::TooManyGroups;
        };
        self.walk(&closure, chain, permission, facts)
    }

    fn walk(
        &self,
        closure: &Closure,
        chain: &Chain,
        permission: Permission,
        facts: &Facts<'_>,
    ) -> Decision {
        let now = facts.now.as_second();
        let mut allowed = None;
        for number in closure.numbers() {
            let Some(principal) = self.principals.get(number) else { continue };
            let denied = principal.grants.along(chain, |container, grant| {
                if grant.effect == Effect::Allow && allowed.is_some() {
                    return None;
                }
                self.counting(grant, chain, now).filter(|role| role.contains(permission))?;
                let granted = Granted {
                    binding: grant.binding,
                    role: grant.role,
                    container,
                    principal: number,
                    expires: grant.expires,
                    conditional: grant.condition.is_some(),
                };
                let holds = grant.condition.as_ref().map(|it| it.evaluate(facts));
                match (grant.effect, holds) {
                    (Effect::Deny, Some(Ok(false))) => {}
                    // A condition that cannot be evaluated denies, and allows nothing.
                    (Effect::Deny, _) => return Some(granted),
                    (Effect::Allow, None | Some(Ok(true))) => allowed = Some(granted),
                    (Effect::Allow, Some(_)) => {}
                }
                None
            });
            if let Some(denied) = denied {
                return Decision::Denied(denied);
            }
        }
        allowed.map_or(Decision::NotGranted, Decision::Allowed)
    }

    /// Whether the account exists, is the same, and can be used.
    pub(crate) fn is_live(&self, who: &Bearer) -> bool {
        self.principals.usable(who).is_some()
    }

    /// Whether somebody's token reaches so far.
    fn is_in_scope(&self, who: &Bearer, permission: Permission, chain: &Chain) -> bool {
        who.permissions.contains(permission) && self.is_below(who.container.as_deref(), chain)
    }

    fn is_below(&self, container: Option<&str>, chain: &Chain) -> bool {
        container.is_none_or(|name| self.tree.find(name).is_some_and(|top| chain.contains(top)))
    }

    /// Whether the container called `name` is the one called `top` or below it.
    pub(crate) fn is_within(&self, name: &str, top: &str) -> bool {
        let chain = self.tree.find(name).and_then(|id| self.tree.chain(id));
        chain.is_some_and(|chain| self.is_below(Some(top), &chain))
    }

    /// The permissions that a binding is about, if it counts now: it is not over, and its role lives
    /// here or above. One that denies counts wherever its role lives.
    fn counting(&self, grant: &Grant, chain: &Chain, now: i64) -> Option<&PermissionSet> {
        let (permissions, home) = self.roles.get(grant.role)?;
        let reaches = grant.effect == Effect::Deny || chain.contains(home);
        (grant.expires > now && reaches).then_some(permissions)
    }

    fn role(&self, grant: &Grant) -> Option<&PermissionSet> {
        self.roles.get(grant.role).map(|(permissions, _)| permissions)
    }

    /// How far a right reaches, below the container called `top` if there is one.
    pub(crate) fn reach(
        &self,
        who: &Bearer,
        permission: Permission,
        top: Option<&str>,
        now: Timestamp,
    ) -> Reach {
        let nowhere = !self.is_live(who) || !who.permissions.contains(permission);
        let closure = self.principals.closure_of_account(who.subject.borrowed());
        let (false, Some(closure)) = (nowhere, closure) else { return Reach::Nowhere };
        let now = now.as_second();
        let (mut somewhere, mut everywhere, mut denied) = (false, false, false);
        for principal in closure.numbers().filter_map(|number| self.principals.get(number)) {
            for (container, grant) in principal.grants.iter() {
                if grant.expires <= now
                    || !self.role(grant).is_some_and(|it| it.contains(permission))
                {
                    continue;
                }
                match grant.effect {
                    Effect::Deny => denied = true,
                    Effect::Allow => {
                        everywhere |= container == self.tree.root() && grant.condition.is_none();
                        somewhere |= self.touches(container, top);
                    }
                }
            }
        }
        match (somewhere, everywhere && !denied && who.container.is_none()) {
            (_, true) => Reach::Everywhere,
            (true, false) => Reach::Somewhere,
            (false, false) => Reach::Nowhere,
        }
    }

    /// Whether what is bound in a container can concern something below `top`.
    fn touches(&self, container: u32, top: Option<&str>) -> bool {
        let Some(top) = top else { return true };
        let (Some(top), Some(chain)) = (self.tree.find(top), self.tree.chain(container)) else {
            return false;
        };
        chain.contains(top) || self.tree.chain(top).is_some_and(|chain| chain.contains(container))
    }

    /// Whether somebody may know that a container exists: they may read it, or were given something
    /// right there.
    pub(crate) fn knows(&self, who: &Bearer, name: &str, facts: &Facts<'_>) -> bool {
        let chain = self.tree.find(name).and_then(|id| self.tree.chain(id));
        chain.is_some_and(|chain| self.knows_on(who, &chain, facts))
    }

    /// The same, of a container that has these above it.
    pub(super) fn knows_on(&self, who: &Bearer, chain: &Chain, facts: &Facts<'_>) -> bool {
        let Some(id) = chain.iter().next() else { return false };
        if !self.is_live(who) || !self.is_below(who.container.as_deref(), chain) {
            return false;
        }
        let resource = format!("{}.resourcemanager.isocast.dev", self.tree.plural(id));
        let Some(closure) = self.principals.closure_of_account(who.subject.borrowed()) else {
            return false;
        };
        // What the account knows, it knows with any of its tokens.
        let readable = Catalog::get()
            .find(&resource, "", "get")
            .is_some_and(|get| self.walk(&closure, chain, get, facts).is_allowed());
        if readable {
            return true;
        }
        let now = facts.now.as_second();
        closure.numbers().filter_map(|number| self.principals.get(number)).any(|principal| {
            let allows = principal.grants.along(chain, |container, grant| {
                let is_here = container == id && grant.effect == Effect::Allow;
                (is_here && self.counting(grant, chain, now).is_some()).then_some(())
            });
            allows.is_some()
        })
    }

    /// What somebody has in a container for certain: without conditions, and at least until `until`.
    /// What anything might deny is not in it.
    pub(crate) fn rights(
        &self,
        who: &Bearer,
        container: &str,
        now: Timestamp,
        until: i64,
    ) -> Rights {
        let mut rights = Rights::default();
        let chain = self.tree.find(container).and_then(|id| self.tree.chain(id));
        let closure = self.principals.closure_of_account(who.subject.borrowed());
        let (Some(chain), Some(closure), true) = (chain, closure, self.is_live(who)) else {
            return rights;
        };
        if !self.is_below(who.container.as_deref(), &chain) {
            return rights;
        }
        let now = now.as_second();
        for principal in closure.numbers().filter_map(|number| self.principals.get(number)) {
            let _all: Option<()> = principal.grants.along(&chain, |_, grant| {
                let role = self.counting(grant, &chain, now)?;
                rights.conditional |= grant.condition.is_some();
                match grant.effect {
                    Effect::Deny => rights.denied.add(role),
                    Effect::Allow if grant.condition.is_none() && grant.expires >= until => {
                        rights.allowed.add(role);
                    }
                    Effect::Allow => {}
                }
                None
            });
        }
        let mut scoped = PermissionSet::default();
        for permission in rights.allowed.iter().filter(|it| who.permissions.contains(*it)) {
            scoped.insert(permission);
        }
        rights.allowed = scoped;
        rights
    }

    /// Says a decision in words.
    pub(crate) fn describe(
        &self,
        who: &Bearer,
        container: &str,
        granted: Granted,
    ) -> Option<Deciding> {
        let owned = |name: &PlacedName| (name.0.to_string(), name.1.to_string());
        let closure = self.principals.closure_of_account(who.subject.borrowed())?;
        let via = closure.way_to(granted.principal);
        let chain = self.tree.chain(self.tree.find(container)?)?;
        let place = chain.iter().position(|id| id == granted.container)?;
        Some(Deciding {
            binding: self.bindings.key(granted.binding).map(owned)?,
            role: self.roles.name(granted.role).map(owned)?,
            via: via.iter().filter_map(|number| self.principals.name(*number).cloned()).collect(),
            inherited: chain
                .iter()
                .take(place + 1)
                .map(|id| self.tree.name(id).to_owned())
                .collect(),
            conditional: granted.conditional,
            expires: (granted.expires != i64::MAX).then_some(granted.expires),
        })
    }
}
