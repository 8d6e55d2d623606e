//! [`Access`]: the index, shared between those who ask and the sequencer that moves it on.
//!
//! Follows each commit before its writer is answered, and asks again for every write in its place in
//! the order: a right that was withdrawn in between is withdrawn. What changes rights ends its batch,
//! so the next write is judged by it.

use std::{collections::HashSet, sync::Arc};

use isocast_api::{iam, resourcemanager};
use jiff::Timestamp;
use parking_lot::RwLock;

use super::{
    condition::Facts,
    decision::{Deciding, Decision, Reach, Rights},
    guard,
    index::Index,
    permission::{Catalog, Permission},
    principals::SubjectName,
    tokens::{self, Bearer},
};
use crate::{
    admission::{Admission, ProposedChange},
    authz::Identity,
    error::ApiError,
    managers::SYSTEM_NAMESPACE,
    store::{Event, Key, Resource, Revision, View},
};

/// Who may do what, as of the newest commit.
#[derive(Debug, Default)]
pub struct Access {
    index: RwLock<Index>,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) verb: &'a str,
    pub(crate) resource: &'a Resource,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
    /// None for what is cluster-scoped.
    pub(crate) namespace: Option<&'a str>,
    /// Empty for a collection.
    pub(crate) name: &'a str,
    /// Of a container that is made or asked about before it exists: the one above it.
    pub(crate) parent: Option<&'a str>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// They may know that it is there.
    Forbidden,
    /// They may not even know that the container exists; it is the one named.
    Unknown,
}

/// What is visible of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Where the permission holds.
    Permitted(Permission),
    /// Containers that one may know of.
    Known,
}

impl<'a> Asked<'a> {
    /// The container that decides: that of the namespace, a container itself, or the platform.
    pub(crate) fn place(&self) -> &'a str {
        match self.namespace {
            Some(namespace) => namespace,
            None if self.resource.group() == resourcemanager::GROUP => match self.parent {
                Some(parent) => parent,
                None if self.name.is_empty() => SYSTEM_NAMESPACE,
                None => self.name,
            },
            None => SYSTEM_NAMESPACE,
        }
    }

    fn permission(&self) -> Option<Permission> {
        Catalog::get().find(self.resource.as_str(), self.subresource, self.verb)
    }

    fn facts<'b>(&self, who: &'b Bearer, now: Timestamp) -> Facts<'b>
    where
        'a: 'b,
    {
        Facts {
            now,
            verb: self.verb,
            resource: self.resource.as_str(),
            subresource: self.subresource,
            namespace: self.place(),
            name: self.name,
            user: Some(&who.subject),
        }
    }
}

impl Access {
    /// Whether `who` may do what is asked.
    pub(crate) fn check(
        &self,
        who: &Bearer,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let index = self.index.read();
        if decide(&index, who, asked, now).is_allowed() {
            return Ok(());
        }
        let place = asked.place();
        let is_platform = place == SYSTEM_NAMESPACE && asked.namespace.is_none();
        if is_platform || index.knows(who, place, &asked.facts(who, now)) {
            Err(Refusal::Forbidden)
        } else {
            Err(Refusal::Unknown)
        }
    }

    /// Whether a user or service account may do `verb` to the object at `key`. Whose rights no binding
    /// gives has none here.
    pub fn allows(&self, identity: &Identity, verb: &str, key: &Key, now: Timestamp) -> bool {
        let Identity::Subject(who) = identity else { return false };
        let asked = Asked {
            verb,
            resource: key.resource(),
            subresource: "",
            namespace: key.container(),
            name: key.name(),
            parent: None,
        };
        decide(&self.index.read(), who, &asked, now).is_allowed()
    }

    /// What is decided, and by what.
    pub(crate) fn explain(
        &self,
        who: &Bearer,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> (Decision, Option<Deciding>) {
        let index = self.index.read();
        let decision = decide(&index, who, asked, now);
        let deciding = match decision {
            Decision::Allowed(granted) | Decision::Denied(granted) => {
                index.describe(who, asked.place(), granted)
            }
            _ => None,
        };
        (decision, deciding)
    }

    /// How far a right reaches, below the container `top` if there is one.
    pub(crate) fn reach(
        &self,
        who: &Bearer,
        permission: Permission,
        top: Option<&str>,
        now: Timestamp,
    ) -> Reach {
        self.index.read().reach(who, permission, top, now)
    }

    /// Whether `who` sees what is in a container, or the container; if it is about what happened at a
    /// revision, also of a container that is gone.
    pub(crate) fn sees(
        &self,
        who: &Bearer,
        scope: Scope,
        container: &str,
        at: Option<Revision>,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> bool {
        let index = self.index.read();
        let facts = Facts { namespace: container, ..asked.facts(who, now) };
        let Some(chain) = index.chain_at(container, at) else {
            // It was elsewhere then, and nobody knows where: that concerns who sees everything.
            let Scope::Permitted(permission) = scope else { return false };
            return index.reach(who, permission, None, now) == Reach::Everywhere;
        };
        match scope {
            Scope::Known => index.knows_on(who, &chain, &facts),
            Scope::Permitted(permission) => {
                index.decide_on(who, permission, &chain, &facts).is_allowed()
            }
        }
    }

    /// Whether what `who` sees of a resource below `top` may be another than at a revision; none for
    /// somebody whom no binding concerns. Else when it will be, in seconds since 1970, unless
    /// something changes before.
    pub(crate) fn changes_after(
        &self,
        who: Option<(&Bearer, Scope)>,
        top: Option<&str>,
        (revision, began): (Revision, Timestamp),
        now: Timestamp,
    ) -> Option<i64> {
        self.index.read().changes_after(who, top, (revision.0, began), now)
    }

    /// Whether there is a container of this kind and name.
    pub(crate) fn has_container(&self, plural: &str, name: &str) -> bool {
        let index = self.index.read();
        let is_it = |id: u32| index.tree.exists(id) && index.tree.plural(id) == plural;
        index.tree.find(name).is_some_and(is_it)
    }

    /// Whether `who` may know that a container exists.
    pub(crate) fn knows(&self, who: &Bearer, name: &str, now: Timestamp) -> bool {
        let resource = Resource::new("namespaces", "");
        let asked = Asked {
            verb: "get",
            resource: &resource,
            subresource: "",
            namespace: Some(name),
            name,
            parent: None,
        };
        self.index.read().knows(who, name, &asked.facts(who, now))
    }

    /// A container and those above it, the topmost first: `acme/eng/shop`; empty for the platform and
    /// for what does not exist.
    pub(crate) fn path(&self, container: &str) -> String {
        let index = self.index.read();
        let tree = &index.tree;
        let Some(chain) = tree.find(container).and_then(|id| tree.chain(id)) else {
            return String::new();
        };
        let below = chain.iter().rev().filter(|id| *id != tree.root());
        let names: Vec<&str> = below.map(|id| tree.name(id)).collect();
        names.join("/")
    }

    /// The organization that a container is in, or is, at the top of its tree.
    pub(crate) fn organization_of(&self, container: &str) -> Option<String> {
        let index = self.index.read();
        let chain = index.tree.chain(index.tree.find(container)?)?;
        let top = chain.iter().rev().find(|id| *id != index.tree.root())?;
        Some(index.tree.name(top).to_owned())
    }

    /// Whether a container is another or below it.
    pub(crate) fn is_within(&self, container: &str, top: &str) -> bool {
        self.index.read().is_within(container, top)
    }

    /// The same, at a revision.
    pub(crate) fn was_within(&self, container: &str, top: &str, at: Revision) -> bool {
        self.index.read().was_within(container, top, at)
    }

    /// Whether there is a container of that name.
    pub(crate) fn exists(&self, container: &str) -> bool {
        let index = self.index.read();
        index.tree.find(container).is_some_and(|id| index.tree.exists(id))
    }

    /// Whether a container that exists is where it was at a revision, and those above it are; none of
    /// them is among `newcomers`, of which the log knows that they came later.
    pub(crate) fn was_here(
        &self,
        container: &str,
        at: Revision,
        newcomers: &HashSet<Arc<str>>,
    ) -> bool {
        let index = self.index.read();
        let chain = index.chain_at(container, Some(at));
        chain.is_some_and(|chain| {
            chain.iter().all(|id| !newcomers.contains(index.tree.name(id)))
                && index.tree.find(container).is_some_and(|id| index.tree.exists(id))
        })
    }

    /// Everything that `who` has in a container now.
    pub(crate) fn rights(&self, who: &Bearer, container: &str, now: Timestamp) -> Rights {
        self.index.read().rights(who, container, now, i64::MIN)
    }

    /// Counts what may have changed anybody's rights.
    pub(crate) fn generation(&self) -> u64 {
        self.index.read().generation
    }

    /// Whether the account is the one it was, and can be used.
    pub(crate) fn is_live(&self, who: &Bearer) -> bool {
        self.index.read().is_live(who)
    }

    /// Whose token it is, if it is one that is accepted here and now.
    pub(crate) fn bearer_of(&self, token: &str, now: Timestamp) -> Option<Arc<Bearer>> {
        let index = self.index.read();
        let known = index.token(&tokens::hash(token)?)?;
        let good = known.accepted_here && known.expires > now && index.is_live(&known.bearer);
        good.then(|| Arc::clone(&known.bearer))
    }

    /// Whose token it is, and which of the audiences it is for, if it is for any of them.
    pub(crate) fn review_token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<(Arc<Bearer>, Vec<String>)> {
        let index = self.index.read();
        let known = index.token(&tokens::hash(token)?)?;
        let audiences = known.is_for(audiences);
        let good = !audiences.is_empty() && known.expires > now && index.is_live(&known.bearer);
        good.then(|| (Arc::clone(&known.bearer), audiences))
    }

    /// The user or service account (`system:serviceaccount:NAMESPACE:NAME`) of that name with all
    /// its rights, to ask what it may.
    pub fn identity(&self, username: &str) -> Option<Identity> {
        let subject = SubjectName::of_username(username);
        let index = self.index.read();
        let number = index.principals.find(subject.borrowed())?;
        let uid = Arc::clone(&index.principals.get(number)?.account()?.uid);
        Some(Identity::Subject(Arc::new(Bearer::numbered(subject, number, uid))))
    }

    /// The groups of an account, directly or not.
    pub(crate) fn groups(&self, who: &Bearer) -> Vec<String> {
        let index = self.index.read();
        let closure = index.principals.closure_of_account(who.subject.borrowed());
        let numbers = closure.iter().flat_map(|closure| closure.numbers().skip(1));
        numbers.filter_map(|it| index.principals.name(it)).map(SubjectName::username).collect()
    }

    /// Refuses to let `actor` act as `subject` when that would give it more than it holds.
    pub(crate) fn guard_impersonation(
        &self,
        actor: &Identity,
        subject: &SubjectName,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        guard::impersonation(&self.index.read(), actor, subject, now)
    }
}

/// Whether `who` may do what is asked, and why.
pub(super) fn decide(index: &Index, who: &Bearer, asked: &Asked<'_>, now: Timestamp) -> Decision {
    let Some(permission) = asked.permission() else { return Decision::NotGranted };
    index.decide(who, permission, asked.place(), &asked.facts(who, now))
}

/// Whether rights depend on objects of a resource.
fn concerns(resource: &Resource) -> bool {
    [iam::GROUP, resourcemanager::GROUP].contains(&resource.group())
}

impl Admission for Access {
    fn admit(&self, _view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        guard::admit(&self.index.read(), change)
    }

    fn open(&self, view: &View) {
        let mut index = self.index.write();
        *index = Index::default();
        index.opened = view.revision().0;
        for object in view.iter().filter(|object| concerns(object.key.resource())) {
            index.apply(&object.key, None, Some(&object.glance()));
        }
    }

    fn recall(&self, events: &[Event]) {
        let mut index = self.index.write();
        for event in events.iter().filter(|event| concerns(event.key.resource())) {
            let (old, new) = (event.old_value(), event.new_value());
            index.recall(&event.key, event.revision().0, old.as_deref(), new.as_deref());
        }
    }

    fn follow(&self, events: &[Event], _view: &View) {
        let mut news = events.iter().filter(|event| concerns(event.key.resource())).peekable();
        if news.peek().is_none() {
            return;
        }
        let mut index = self.index.write();
        for event in news {
            let (old, new) = (event.old_value(), event.new_value());
            index.revision = event.revision().0;
            index.apply(&event.key, old.as_deref(), new.as_deref());
        }
    }

    fn settles(&self, change: &ProposedChange) -> bool {
        match change.key.resource().group() {
            iam::GROUP => true,
            // A new container changes nobody's rights; one that moves or goes does.
            resourcemanager::GROUP => change.old.is_some(),
            _ => false,
        }
    }
}
