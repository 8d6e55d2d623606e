//! [`Index`]: everything that decides whether something fits, ready to be asked.
//!
//! A pure function of the objects at one revision, whatever the way there: [`Index::of`] works it
//! out from a state, [`Index::follow`] moves it on, and both must give the same.

use std::{collections::BTreeSet, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use isocast_api::{
    meta::{ConditionStatus, find_condition},
    object::{Object, Spec},
    quota::{
        ConsumerKind, ResourceGrant, ResourceGrantSpec, ResourceRegistration,
        ResourceRegistrationSpec,
    },
};
use serde_json::Value;

use super::{
    Place, Request, bucket,
    ledger::{Account, Changes, Ledger},
    meters::{Meters, Type, TypeId},
    prover::Totals,
    rates::Ask,
    tree::{self, Find, Tree},
};
use crate::{
    admission::ProposedChange,
    managers::lookup,
    store::{Key, Range, Revision, View},
};

/// Condition of a grant: whether it counts.
pub(super) const ACTIVE: &str = "Active";

/// What is counted, where, how much of it there is, and how much there may be.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) tree: Tree,
    pub(super) meters: Meters,
    pub(super) ledger: Ledger,
    /// By container.
    grants: HashMap<Arc<str>, Vec<Granted>, RandomState>,
    /// Buckets that may look otherwise than they did: container and registration.
    stale: HashSet<(Arc<str>, Arc<str>), RandomState>,
    /// Grants that count and will not for ever: when, in seconds since 1970, and where they are.
    endings: BTreeSet<(i64, Arc<str>, Arc<str>)>,
    /// The newest change that is part of it.
    pub(super) revision: Revision,
}

/// A grant's part that is about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) name: Arc<str>,
    resource_type: Arc<str>,
    pub(super) amount: u64,
    /// When it ends, in seconds since 1970.
    ends_s: i64,
    /// It is said to have ended.
    is_over: bool,
}

/// What a container may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit<'a> {
    pub(super) amount: u64,
    /// Of which it is the sum; none of them: the default.
    pub(super) grants: &'a [Granted],
    pub(super) resource_type: &'a str,
    now_s: i64,
}

/// Something does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) container: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) registration: Arc<str>,
    pub(super) resource_type: Arc<str>,
    pub(super) limit: u64,
    pub(super) allocated: u64,
    pub(super) requested: u64,
    pub(super) is_feature: bool,
    /// There were grants, which have ended.
    pub(super) has_ended: bool,
}

impl Granted {
    fn counts(&self, now_s: i64) -> bool {
        !self.is_over && self.ends_s > now_s
    }
}

impl Limit<'_> {
    /// The grants that it is the sum of.
    pub(super) fn contributing(&self) -> impl Iterator<Item = &Granted> {
        self.all().filter(|grant| grant.counts(self.now_s))
    }

    /// Whether grants of it have ended.
    fn has_ended(&self) -> bool {
        self.all().any(|grant| !grant.counts(self.now_s))
    }

    fn all(&self) -> impl Iterator<Item = &Granted> {
        self.grants.iter().filter(|grant| *grant.resource_type == *self.resource_type)
    }
}

impl Index {
    /// The index of a state.
    pub(super) fn of(view: &View) -> Self {
        let mut index = Self { revision: view.revision(), ..Self::default() };
        for resource in tree::containers() {
            for object in view.range(&Range::Resource(resource)) {
                index.tree.apply(&object.key, Some(&object.glance()));
            }
        }
        for object in view.range(&lookup::all::<ResourceGrantSpec>()) {
            index.grant(&object.key, Some(&object.value()));
        }
        for object in view.range(&lookup::all::<ResourceRegistrationSpec>()) {
            index.register(&object.key, Some(&object.value()), view);
        }
        index
    }

    /// Lets a change through if there is room for what it adds, or if it `must` be let through.
    ///
    /// # Errors
    /// What it has no room for, nearest container first.
    pub(super) fn judge(
        &mut self,
        view: &View,
        change: &ProposedChange,
        must: bool,
    ) -> Result<(), Vec<Shortage>> {
        if self.meters.is_empty() {
            return Ok(());
        }
        self.ledger.forget_after(view.revision());
        let find = |key: &Key| change.pending(view, key);
        let mut changes = Changes::default();
        for (key, new) in change.writes() {
            let old = view.get(key).map(crate::store::Object::value);
            self.weigh(key, old.as_deref(), new, &find, &mut changes);
        }
        if changes.is_empty() {
            return Ok(());
        }
        let now_s = change.now.as_second();
        let shortages = if must { Vec::new() } else { self.shortages(&changes, now_s) };
        if !shortages.is_empty() {
            return Err(shortages);
        }
        self.ledger.expect(view.revision().next(), changes);
        Ok(())
    }

    /// What a request takes one of, nearest container first.
    pub(super) fn asks(&self, request: &Request<'_>, now_s: i64) -> Vec<Ask> {
        let place = match request.place {
            Place::In(container) => container,
            Place::Above(container) => self.tree.above(container),
        };
        let mut asks = Vec::new();
        for container in self.tree.chain(place, &|_| None) {
            for id in self.meters.of_request(request.about.resource(), request.verb) {
                let limit = self.meters.get(id).and_then(|it| self.limit_at(&container, it, now_s));
                let Some(limit) = limit else { continue };
                let counter = (Arc::clone(&container), id);
                asks.push(Ask { counter, per_second: limit.amount });
            }
        }
        asks
    }

    /// What is said of a request that comes too fast.
    pub(super) fn too_fast(&self, ask: &Ask) -> Option<Shortage> {
        let (container, id) = &ask.counter;
        let one = self.meters.get(*id)?;
        let limit = Limit { amount: ask.per_second, ..self.limit(container, one)? };
        Some(self.shortage(container, one, &limit, (0, 1)))
    }

    /// A change is durable. `view` is the state after its batch.
    pub(super) fn follow(
        &mut self,
        revision: Revision,
        key: &Key,
        old: Option<&Value>,
        new: Option<&Value>,
        view: &View,
    ) {
        self.revision = revision;
        self.ledger.settle(revision);
        let resource = key.resource();
        if resource.is_of::<ResourceRegistrationSpec>() {
            return self.register(key, new, view);
        }
        if resource.is_of::<ResourceGrantSpec>() {
            return self.grant(key, new);
        }
        let mut changes = Changes::default();
        self.weigh(key, old, new, &|_| None, &mut changes);
        self.ledger.apply(&changes);
        if tree::kind_of(resource).is_some() {
            self.tree.apply(key, new);
            if old.is_none() || new.is_none() {
                self.all_stale_in(&Arc::from(key.name()));
            }
        }
    }

    /// What the state of buckets is, of those that may look otherwise than they did.
    pub(super) fn derive(&mut self) -> Vec<(Key, Option<Value>)> {
        for (container, id) in self.ledger.take_touched() {
            if let Some(one) = self.meters.get(id) {
                self.stale.insert((container, Arc::clone(&one.registration)));
            }
        }
        let stale = std::mem::take(&mut self.stale);
        let derived = stale.into_iter().map(|(container, registration)| {
            let key = bucket::key(&container, &registration);
            let value = self.bucket(&container, &registration);
            (key, value)
        });
        derived.collect()
    }

    /// What is counted.
    pub(super) fn totals(&self) -> Totals {
        let durable = self.ledger.iter().filter(|(_, it)| (it.allocated, it.claims) != (0, 0));
        let named = durable.filter_map(|(container, account)| {
            let registration = Arc::clone(&self.meters.get(account.id)?.registration);
            Some(((Arc::clone(container), registration), (account.allocated, account.claims)))
        });
        named.collect()
    }

    /// What a container may have of something, as it is said; none: it has no limit of its own.
    pub(super) fn limit<'a>(&'a self, container: &str, one: &'a Type) -> Option<Limit<'a>> {
        self.limit_at(container, one, i64::MIN)
    }

    /// The same at a time, which may be ahead of what is said: grants end by the clock.
    fn limit_at<'a>(&'a self, container: &str, one: &'a Type, now_s: i64) -> Option<Limit<'a>> {
        let resource_type = &*one.resource_type;
        let grants = self.grants.get(container).map(Vec::as_slice).unwrap_or_default();
        let mut limit = Limit { amount: 0, grants, resource_type, now_s };
        let sum = |sum: u64, grant: &Granted| sum.saturating_add(grant.amount);
        let granted = limit.contributing().map(Some).fold(None, |granted: Option<u64>, grant| {
            grant.map(|grant| sum(granted.unwrap_or_default(), grant))
        });
        let is_consumer = self.tree.get(container).is_some_and(|it| it.kind == one.consumer);
        let default = one.default_limit.filter(|_| is_consumer);
        limit.amount = match granted.or(default) {
            Some(0) => 0,
            // However many.
            Some(_) if one.is_feature() => u64::MAX,
            Some(amount) => amount,
            None if one.is_feature() && is_consumer => 0,
            // What was granted for a time is not without a limit after it.
            None if !one.is_feature() && limit.has_ended() => 0,
            None => return None,
        };
        Some(limit)
    }

    /// Grants that have ended by a time, and are not said to have.
    pub(super) fn ended(&self, now_s: i64) -> Vec<Key> {
        let ended = self.endings.iter().take_while(|(ends_s, _, _)| *ends_s <= now_s);
        let resource = lookup::resource::<ResourceGrantSpec>();
        ended.map(|(_, place, name)| Key::new(resource.clone(), Some(place), name)).collect()
    }

    /// What the parts of a container were granted of something, together.
    pub(super) fn granted_to_parts(&self, container: &str, resource_type: &str) -> u64 {
        let parts = self.tree.parts(container);
        parts.fold(0, |sum, part| sum.saturating_add(self.granted(part, resource_type)))
    }

    /// What a container was granted of something.
    pub(super) fn granted(&self, container: &str, resource_type: &str) -> u64 {
        let grants = self.grants.get(container).into_iter().flatten();
        let amounts = grants.filter(|it| *it.resource_type == *resource_type && !it.is_over);
        amounts.fold(0, |sum, grant| sum.saturating_add(grant.amount))
    }

    /// Grants in a container, each counted once.
    pub(super) fn grants_in(&self, container: &str) -> impl Iterator<Item = &Arc<str>> {
        let mut last: Option<&Arc<str>> = None;
        let grants = self.grants.get(container).into_iter().flatten();
        grants.map(|grant| &grant.name).filter(move |name| last.replace(name) != Some(name))
    }

    /// A container that still has a grant of something, if there is one.
    pub(super) fn granted_in(&self, resource_type: &str) -> Option<&Arc<str>> {
        let has = |grants: &[Granted]| grants.iter().any(|it| *it.resource_type == *resource_type);
        self.grants.iter().find(|(_, grants)| has(grants)).map(|(container, _)| container)
    }

    fn bucket(&self, container: &str, registration: &str) -> Option<Value> {
        let (id, one) = self.meters.named(registration)?;
        let limit = self.limit(container, one)?;
        let account = self.ledger.account(container, id);
        Some(bucket::of(container, self.tree.get(container), one, &limit, &account))
    }

    /// What a change of one object does to the accounts.
    fn weigh(
        &self,
        key: &Key,
        old: Option<&Value>,
        new: Option<&Value>,
        find: &Find<'_>,
        changes: &mut Changes,
    ) {
        for (value, sign) in [(old, -1_i64), (new, 1)] {
            let Some(value) = value else { continue };
            let mut chain = None;
            for (id, amount) in self.meters.of(key.resource(), value) {
                let chain =
                    chain.get_or_insert_with(|| self.tree.chain(tree::place_of(key, value), find));
                let amount = i128::from(amount) * i128::from(sign);
                changes.add(chain, id, amount, sign);
            }
        }
        // What a container holds goes where it goes.
        let (Some(old), Some(new), Some(_)) = (old, new, tree::kind_of(key.resource())) else {
            return;
        };
        let (from, to) = (tree::place_of(key, old), tree::place_of(key, new));
        if from == to {
            return;
        }
        let (from, to) = (self.tree.chain(from, find), self.tree.chain(to, find));
        for account in self.ledger.accounts(key.name()) {
            let Account { id, claims, .. } = *account;
            changes.add(&from, id, -account.held(), claims.saturating_neg());
            changes.add(&to, id, account.held(), claims);
        }
    }

    fn shortages(&self, changes: &Changes, now_s: i64) -> Vec<Shortage> {
        let gains = changes.iter().filter(|entry| entry.amount > 0);
        let shortages = gains.filter_map(|entry| {
            let one = self.meters.get(entry.id)?;
            let limit = self.limit_at(&entry.container, one, now_s)?;
            let held = self.ledger.account(&entry.container, entry.id).held();
            if held + entry.amount <= i128::from(limit.amount) {
                return None;
            }
            Some(self.shortage(&entry.container, one, &limit, (held, entry.amount)))
        });
        shortages.collect()
    }

    fn shortage(
        &self,
        container: &Arc<str>,
        one: &Type,
        limit: &Limit<'_>,
        (held, requested): (i128, i128),
    ) -> Shortage {
        Shortage {
            container: Arc::clone(container),
            kind: self.tree.get(container).map_or("platform", |container| match container.kind {
                ConsumerKind::Folder => "folder",
                ConsumerKind::Organization => "organization",
                ConsumerKind::Project => "project",
            }),
            registration: Arc::clone(&one.registration),
            resource_type: Arc::clone(&one.resource_type),
            limit: limit.amount,
            allocated: amount(held),
            requested: amount(requested),
            is_feature: one.is_feature(),
            has_ended: limit.has_ended(),
        }
    }

    // === registrations ===

    fn register(&mut self, key: &Key, new: Option<&Value>, view: &View) {
        let was = self.meters.named(key.name()).map(|(id, _)| id);
        match new.and_then(decode::<ResourceRegistrationSpec>) {
            None => drop(self.meters.remove(key.name())),
            Some(registration) => {
                let registration: ResourceRegistration = registration;
                if let Some(id) = self.meters.register(&registration) {
                    self.count(id, view);
                }
            }
        }
        if let Some(was) = was
            && self.meters.get(was).is_none()
        {
            self.ledger.drop_type(was);
        }
        let registration: Arc<str> = key.name().into();
        let containers = self.tree.names().map(Arc::clone);
        self.stale.extend(containers.map(|container| (container, Arc::clone(&registration))));
    }

    /// Counts everything there is of one thing.
    fn count(&mut self, id: TypeId, view: &View) {
        let kinds: Vec<_> = self.meters.kinds_of(id).cloned().collect();
        for kind in kinds {
            for object in view.range(&Range::Resource(kind.clone())) {
                let value = object.glance();
                let place = tree::place_of(&object.key, &value);
                let chain = self.tree.chain(place, &|_| None);
                let mut changes = Changes::default();
                let taken = self.meters.of(&kind, &value).filter(|(other, _)| *other == id);
                for (id, amount) in taken {
                    changes.add(&chain, id, i128::from(amount), 1);
                }
                self.ledger.apply(&changes);
            }
        }
    }

    // === grants ===

    fn grant(&mut self, key: &Key, new: Option<&Value>) {
        let container: Arc<str> = key.container().unwrap_or_default().into();
        let grants = self.grants.entry(Arc::clone(&container)).or_default();
        for gone in grants.extract_if(.., |grant| *grant.name == *key.name()) {
            self.endings.remove(&(gone.ends_s, Arc::clone(&container), gone.name));
        }
        if let Some(grant) = new.and_then(decode::<ResourceGrantSpec>) {
            let grant: ResourceGrant = grant;
            let name: Arc<str> = key.name().into();
            // In order of names, whatever order they come in.
            let place = grants.partition_point(|other| *other.name < *name);
            let ends_s = grant.spec.expires_at.map_or(i64::MAX, |at| at.timestamp().as_second());
            let active = find_condition(&grant.status.conditions, ACTIVE);
            let is_over = active.is_some_and(|it| it.status == ConditionStatus::False);
            let parts = grant.spec.allowances.iter().map(|allowance| Granted {
                name: Arc::clone(&name),
                resource_type: allowance.resource_type.as_str().into(),
                amount: allowance.total(),
                ends_s,
                is_over,
            });
            grants.splice(place..place, parts);
            if ends_s < i64::MAX && !is_over {
                self.endings.insert((ends_s, Arc::clone(&container), name));
            }
        }
        if grants.is_empty() {
            self.grants.remove(&container);
        }
        self.all_stale_in(&container);
    }

    fn all_stale_in(&mut self, container: &Arc<str>) {
        let registrations = self.meters.iter().map(|(_, one)| Arc::clone(&one.registration));
        self.stale.extend(registrations.map(|registration| (Arc::clone(container), registration)));
    }
}

/// An amount as clients see it.
pub(super) fn amount(sum: i128) -> u64 {
    u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
}

fn decode<S: Spec>(value: &Value) -> Option<Object<S>> {
    Object::decode(value)
        .inspect_err(|error| tracing::error!(%error, "an object does not count for any quota"))
        .ok()
}
