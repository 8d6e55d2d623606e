//! [`Principals`]: users, service accounts and groups, who belongs to which, and what each was given.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use hashbrown::Equivalent;
use isocast_api::iam::{self, AUTHENTICATED, SERVICE_ACCOUNTS, SubjectKind};
use smallvec::SmallVec;

use super::{grants::Grants, slots::Slots, tokens::Bearer};

/// Who somebody is, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SubjectName {
    /// A group, by namespace and name.
    Group(Arc<str>, Arc<str>),
    /// A service account, by namespace and name.
    ServiceAccount(Arc<str>, Arc<str>),
    /// A group that nobody makes.
    System(Arc<str>),
    /// A user.
    User(Arc<str>),
}

/// The same, borrowed. Hashes alike: the variants are in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SubjectRef<'a> {
    Group(&'a str, &'a str),
    ServiceAccount(&'a str, &'a str),
    System(&'a str),
    User(&'a str),
}

/// A user or service account that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Of the object: one of the same name that comes later is another account.
    pub(crate) uid: Arc<str>,
    /// Whether it can be used.
    pub(crate) active: bool,
}

/// Everybody who is spoken of.
#[derive(Debug)]
pub(super) struct Principals {
    slots: Slots<SubjectName, Principal>,
    authenticated: u32,
    service_accounts: u32,
}

/// One of them. What a decision reads of somebody is here, in two cache lines next to each other:
/// decisions are as fast as memory.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Principal {
    standing: Standing,
    /// What decisions seldom ask for.
    rest: Box<Rest>,
    /// Groups it belongs to, one entry for each membership.
    pub(super) groups: Memberships,
    /// What it was given or denied.
    pub(super) grants: Grants,
}

/// What somebody is, as a decision asks: nobody who counts, a group that exists, or the account whose
/// uid lies at this address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing(usize);

#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Of users and service accounts that exist.
    account: Option<Account>,
    /// Groups that belong to it, one entry for each membership.
    pub(super) subgroups: Memberships,
    /// Revision of the last change of what it was given, or belongs to.
    changed: u64,
}

/// Numbers of groups or members; a few have room in a principal itself.
pub(super) type Memberships = SmallVec<[u32; 4]>;

/// Somebody and every group they belong to, directly or not: numbers, and how each was reached.
#[derive(Clone, Debug)]
pub(super) struct Closure {
    /// The first ones. Most have no others.
    few: [(u32, u8); CLOSURE_FEW],
    more: Vec<(u32, u8)>,
    length: usize,
}

const CLOSURE_FEW: usize = 16;

/// Groups within groups.
pub(super) const GROUP_DEPTH_MAX: usize = 5;
/// Somebody and their groups; who is in more is allowed nothing.
pub(super) const PRINCIPALS_MAX: usize = 128;

impl Default for Principals {
    fn default() -> Self {
        let mut slots: Slots<SubjectName, Principal> = Slots::default();
        let mut system = |name: &str| {
            let number =
                slots.acquire(&SubjectRef::System(name), || SubjectName::System(Arc::from(name)));
            if let Some(principal) = slots.get_mut(number) {
                principal.set_group(true);
            }
            number
        };
        let (authenticated, service_accounts) = (system(AUTHENTICATED), system(SERVICE_ACCOUNTS));
        Self { slots, authenticated, service_accounts }
    }
}

impl Principals {
    pub(super) fn acquire(&mut self, subject: SubjectRef<'_>) -> u32 {
        self.slots.acquire(&subject, || subject.to_name())
    }

    pub(super) fn release(&mut self, number: u32) {
        self.slots.release(number);
    }

    pub(super) fn find(&self, subject: SubjectRef<'_>) -> Option<u32> {
        self.slots.find(&subject)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Principal> {
        self.slots.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Principal> {
        self.slots.get_mut(number)
    }

    pub(super) fn name(&self, number: u32) -> Option<&SubjectName> {
        self.slots.key(number)
    }

    /// The number of the account that the bearer is, if it exists and can be used.
    pub(super) fn usable(&self, who: &Bearer) -> Option<u32> {
        // The very same text, not an equal one: it is the account that the bearer was made from.
        let is_it = |principal: &Principal| principal.standing == Standing::account(&who.uid);
        if self.get(who.number).is_some_and(is_it) {
            return Some(who.number);
        }
        let number = self.find(who.subject.borrowed())?;
        let account = self.get(number)?.account()?;
        (account.active && account.uid == who.uid).then_some(number)
    }

    /// Everybody that the account acts as; none when it is in too many groups.
    pub(super) fn closure_of_account(&self, subject: SubjectRef<'_>) -> Option<Closure> {
        self.closure_of_numbered(self.find(subject)?, subject)
    }

    /// The same, of an account whose number is known.
    pub(super) fn closure_of_numbered(&self, own: u32, subject: SubjectRef<'_>) -> Option<Closure> {
        let mut closure = Closure::empty();
        closure.push(own, 0)?;
        closure.push(self.authenticated, 0)?;
        if matches!(subject, SubjectRef::ServiceAccount(..)) {
            closure.push(self.service_accounts, 0)?;
        }
        self.complete(closure)
    }

    /// The group and every group it belongs to.
    pub(super) fn closure_of(&self, number: u32) -> Option<Closure> {
        let mut closure = Closure::empty();
        closure.push(number, 0)?;
        self.complete(closure)
    }

    fn complete(&self, mut closure: Closure) -> Option<Closure> {
        let mut next = 0;
        while let Some((number, _)) = closure.get(next) {
            let via = u8::try_from(next).ok()?;
            for &group in self.get(number).map_or(&[][..], |principal| &principal.groups[..]) {
                if self.get(group).is_some_and(Principal::is_group) && !closure.contains(group) {
                    closure.push(group, via)?;
                }
            }
            next += 1;
        }
        Some(closure)
    }

    /// Levels of groups from `number` upwards (`above`) or downwards; stops counting beyond the
    /// limit.
    pub(super) fn levels(&self, number: u32, above: bool) -> usize {
        let mut level = vec![number];
        let mut seen = level.clone();
        let mut levels = 0;
        while levels <= GROUP_DEPTH_MAX {
            let mut next = Vec::new();
            for principal in level.iter().filter_map(|number| self.get(*number)) {
                let others = if above { &principal.groups } else { &principal.subgroups };
                for other in others {
                    if !seen.contains(other) && seen.len() < LEVELS_SEEN_MAX {
                        seen.push(*other);
                        next.push(*other);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            level = next;
            levels += 1;
        }
        levels
    }
}

impl Standing {
    const NOBODY: Self = Self(0);
    /// No text lies there.
    const GROUP: Self = Self(1);

    /// Of whoever keeps this very text: none lies at its address while anybody has it.
    fn account(uid: &Arc<str>) -> Self {
        Self(Arc::as_ptr(uid).cast::<u8>().addr())
    }
}

impl Principal {
    /// Whether a group exists; members of one that does not are members of nothing.
    pub(super) fn is_group(&self) -> bool {
        self.standing == Standing::GROUP
    }

    pub(super) fn set_group(&mut self, exists: bool) {
        self.standing = if exists { Standing::GROUP } else { Standing::NOBODY };
    }

    pub(super) fn account(&self) -> Option<&Account> {
        self.rest.account.as_ref()
    }

    /// Its account comes to be, changes, or goes.
    pub(super) fn set_account(&mut self, account: Option<Account>) {
        let usable = account.as_ref().filter(|account| account.active);
        self.standing = usable.map_or(Standing::NOBODY, |it| Standing::account(&it.uid));
        self.rest.account = account;
    }

    /// What it was given, or belongs to, is another from a revision on.
    pub(super) fn change(&mut self, at: u64) {
        self.rest.changed = at;
    }

    pub(super) fn has_changed_since(&self, revision: u64) -> bool {
        self.rest.changed > revision
    }
}

impl Deref for Principal {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        &self.rest
    }
}

impl DerefMut for Principal {
    fn deref_mut(&mut self) -> &mut Rest {
        &mut self.rest
    }
}

/// Groups that are looked at to find out how deep a nesting is.
const LEVELS_SEEN_MAX: usize = 4096;

impl Closure {
    fn empty() -> Self {
        Self { few: [(0, 0); CLOSURE_FEW], more: Vec::new(), length: 0 }
    }

    fn push(&mut self, number: u32, via: u8) -> Option<()> {
        match self.few.get_mut(self.length) {
            Some(place) => *place = (number, via),
            None if self.length < PRINCIPALS_MAX => self.more.push((number, via)),
            None => return None,
        }
        self.length += 1;
        Some(())
    }

    fn get(&self, place: usize) -> Option<(u32, u8)> {
        match self.few.get(place) {
            Some(member) => (place < self.length).then_some(*member),
            None => self.more.get(place - CLOSURE_FEW).copied(),
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.numbers().any(|it| it == number)
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.few.iter().take(self.length).chain(&self.more).map(|(number, _)| *number)
    }

    /// The way from somebody to `number`: the groups in between, `number` last; empty for the
    /// account itself.
    pub(super) fn way_to(&self, number: u32) -> Vec<u32> {
        let mut way = Vec::new();
        let mut place = self.numbers().position(|it| it == number);
        while let Some(at) = place.filter(|at| *at > 0 && way.len() < PRINCIPALS_MAX) {
            let Some((number, via)) = self.get(at) else { break };
            way.push(number);
            place = Some(usize::from(via));
        }
        way.reverse();
        way
    }
}

// === impl SubjectName ===

impl SubjectName {
    pub(super) fn borrowed(&self) -> SubjectRef<'_> {
        match self {
            Self::Group(namespace, name) => SubjectRef::Group(namespace, name),
            Self::ServiceAccount(namespace, name) => SubjectRef::ServiceAccount(namespace, name),
            Self::System(name) => SubjectRef::System(name),
            Self::User(name) => SubjectRef::User(name),
        }
    }

    /// The name in Kubernetes' reviews and logs: `alice`, `system:serviceaccount:web:ci`.
    pub(crate) fn username(&self) -> String {
        match self {
            Self::Group(namespace, name) => format!("{namespace}/{name}"),
            Self::ServiceAccount(namespace, name) => {
                format!("{}{namespace}:{name}", super::SERVICE_ACCOUNT_PREFIX)
            }
            Self::System(name) | Self::User(name) => name.to_string(),
        }
    }

    /// Reads [`Self::username`] of a user or service account back.
    pub(crate) fn of_username(text: &str) -> Self {
        let account = text.strip_prefix(super::SERVICE_ACCOUNT_PREFIX);
        match account.and_then(|rest| rest.split_once(':')) {
            Some((namespace, name)) => Self::ServiceAccount(namespace.into(), name.into()),
            None => Self::User(text.into()),
        }
    }

    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Group(..) | Self::System(_) => SubjectKind::Group.as_str(),
            Self::ServiceAccount(..) => SubjectKind::ServiceAccount.as_str(),
            Self::User(_) => SubjectKind::User.as_str(),
        }
    }
}

impl<'a> SubjectRef<'a> {
    /// The subject of an object in `namespace`.
    pub(super) fn of(subject: &'a iam::Subject, namespace: &'a str) -> Self {
        let namespace = subject.namespace.as_ref().map_or(namespace, |name| name.as_str());
        match subject.kind {
            SubjectKind::Group if subject.is_system_group() => Self::System(&subject.name),
            SubjectKind::Group => Self::Group(namespace, &subject.name),
            SubjectKind::ServiceAccount => Self::ServiceAccount(namespace, &subject.name),
            SubjectKind::User => Self::User(&subject.name),
        }
    }

    fn to_name(self) -> SubjectName {
        match self {
            Self::Group(namespace, name) => SubjectName::Group(namespace.into(), name.into()),
            Self::ServiceAccount(namespace, name) => {
                SubjectName::ServiceAccount(namespace.into(), name.into())
            }
            Self::System(name) => SubjectName::System(name.into()),
            Self::User(name) => SubjectName::User(name.into()),
        }
    }
}

impl Equivalent<SubjectName> for SubjectRef<'_> {
    fn equivalent(&self, key: &SubjectName) -> bool {
        *self == key.borrowed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_decision_reads_of_somebody_is_two_cache_lines() {
        assert_eq!(size_of::<Option<Principal>>(), 2 * 64);
    }

    #[test]
    fn an_account_is_told_by_the_text_of_its_uid_and_only_while_it_can_be_used() {
        let mut principals = Principals::default();
        let subject = SubjectName::User("alice".into());
        let number = principals.acquire(subject.borrowed());
        let uid: Arc<str> = "uid".into();
        let set = |principals: &mut Principals, uid: &Arc<str>, active| {
            let account = Account { uid: Arc::clone(uid), active };
            principals.get_mut(number).unwrap().set_account(Some(account));
        };
        set(&mut principals, &uid, true);
        let hinted = Bearer::numbered(subject.clone(), number, Arc::clone(&uid));
        let by_name = Bearer::of_account(subject.clone(), "uid");
        let other = Bearer::numbered(subject, number, "other".into());

        let usable =
            |principals: &Principals| [&hinted, &by_name, &other].map(|who| principals.usable(who));
        assert_eq!(usable(&principals), [Some(number), Some(number), None]);
        set(&mut principals, &"uid".into(), true);
        assert_eq!(usable(&principals), [Some(number), Some(number), None], "a new text");
        set(&mut principals, &uid, false);
        assert_eq!(usable(&principals), [None; 3], "suspended");
        principals.get_mut(number).unwrap().set_account(None);
        assert_eq!(usable(&principals), [None; 3], "gone");
    }
}
