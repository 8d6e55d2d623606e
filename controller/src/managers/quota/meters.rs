//! [`Meters`]: what is counted, by registrations, and how much of it an object takes.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use isocast_api::{
    object::Object,
    quota::{
        ANY, ClaimingResource, ConsumerKind, RegistrationType, RequestVerb, ResourceRegistration,
        ResourceRegistrationSpec,
    },
    registry::{self, KindDescriptor},
    text::Time,
};
use serde_json::Value;

use crate::{
    managers::lookup,
    store::{Resource, View},
};

/// Something that is counted, by a number that no other thing ever has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TypeId(u32);

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Meters {
    types: BTreeMap<TypeId, Type>,
    /// By the name of the registration.
    ids: HashMap<Arc<str>, TypeId, RandomState>,
    /// By the kind of the objects that take of it.
    of_kinds: HashMap<Resource, Vec<(TypeId, Measure)>, RandomState>,
    /// By the kind that requests are about.
    of_requests: HashMap<Resource, Vec<(TypeId, Verbs)>, RandomState>,
    next: u32,
}

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Type {
    /// Name of its registration, and so of its buckets.
    pub(super) registration: Arc<str>,
    pub(super) uid: Arc<str>,
    pub(super) created: Option<Time>,
    pub(super) resource_type: Arc<str>,
    pub(super) consumer: ConsumerKind,
    pub(super) default_limit: Option<u64>,
    /// What the parts of a container may be granted of what it may have; none: anything.
    pub(super) overcommit_percent: Option<u32>,
    pub(super) counting: RegistrationType,
    claiming: Vec<(Resource, Measure)>,
    requests: Vec<(Resource, Verbs)>,
}

/// Which requests count.
type Verbs = Arc<[RequestVerb]>;

/// How much an object takes.
#[derive(Clone, Debug, PartialEq)]
enum Measure {
    One,
    /// What stands at a JSON pointer: a number, or the length of a list.
    At(Arc<str>),
    /// One, if anything stands at a JSON pointer.
    Use(Arc<str>),
}

impl Meters {
    /// What is counted in a state.
    pub(super) fn of_registrations(view: &View) -> Self {
        let mut meters = Self::default();
        for object in view.range(&lookup::all::<ResourceRegistrationSpec>()) {
            match Object::decode(&object.value()) {
                Ok(registration) => {
                    meters.register(&registration);
                }
                Err(error) => tracing::error!(%error, "a registration counts nothing"),
            }
        }
        meters
    }

    /// What is known by the name of its registration.
    pub(super) fn named(&self, registration: &str) -> Option<(TypeId, &Type)> {
        let id = *self.ids.get(registration)?;
        Some((id, self.types.get(&id)?))
    }

    pub(super) fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(&id)
    }

    /// Everything that is counted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        self.types.iter().map(|(id, one)| (*id, one))
    }

    /// Whether there is a name in grants for it.
    pub(super) fn knows(&self, resource_type: &str) -> bool {
        self.types.values().any(|one| *one.resource_type == *resource_type)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// How much of what an object takes.
    pub(super) fn of<'a>(
        &'a self,
        resource: &Resource,
        value: &'a Value,
    ) -> impl Iterator<Item = (TypeId, u64)> + 'a {
        let meters = self.of_kinds.get(resource).into_iter().flatten();
        meters.filter_map(|(id, measure)| match (measure, measure.of(value)) {
            // Who does not use a feature has nothing to do with it.
            (Measure::Use(_), 0) => None,
            (_, amount) => Some((*id, amount)),
        })
    }

    /// The kinds that take of anything.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &Resource> {
        self.of_kinds.keys()
    }

    /// Whether objects of a kind take of anything.
    pub(super) fn counts(&self, resource: &Resource) -> bool {
        self.of_kinds.contains_key(resource)
    }

    /// The kinds that take of a thing.
    pub(super) fn kinds_of(&self, id: TypeId) -> impl Iterator<Item = &Resource> {
        self.types.get(&id).into_iter().flat_map(|one| one.claiming.iter().map(|(kind, _)| kind))
    }

    /// What a request takes one of, however often its registration speaks of it.
    pub(super) fn of_request(
        &self,
        resource: &Resource,
        verb: RequestVerb,
    ) -> impl Iterator<Item = TypeId> {
        let meters = self.of_requests.get(resource).into_iter().flatten();
        let meant = meters.filter(move |(_, verbs)| verbs.contains(&verb)).map(|(id, _)| *id);
        let mut last = None;
        meant.filter(move |id| last.replace(*id) != Some(*id))
    }

    /// Whether any requests count.
    pub(super) fn counts_requests(&self) -> bool {
        !self.of_requests.is_empty()
    }

    /// A registration comes to be or changes. Whether everything of it is to be counted, by its
    /// number.
    pub(super) fn register(&mut self, registration: &ResourceRegistration) -> Option<TypeId> {
        let new = Type::of(registration);
        let known = self.ids.get(registration.name()).copied();
        if let Some(id) = known
            && let Some(one) = self.types.get_mut(&id)
            && (&one.claiming, &one.requests) == (&new.claiming, &new.requests)
            && one.uid == new.uid
        {
            *one = new;
            return None;
        }
        self.remove(registration.name());
        let id = TypeId(self.next);
        self.next = self.next.saturating_add(1);
        self.ids.insert(Arc::clone(&new.registration), id);
        for (resource, measure) in &new.claiming {
            let meters = self.of_kinds.entry(resource.clone()).or_default();
            meters.push((id, measure.clone()));
        }
        for (resource, verbs) in &new.requests {
            let meters = self.of_requests.entry(resource.clone()).or_default();
            meters.push((id, Arc::clone(verbs)));
        }
        self.types.insert(id, new);
        Some(id)
    }

    /// A registration goes.
    pub(super) fn remove(&mut self, registration: &str) -> Option<TypeId> {
        let id = self.ids.remove(registration)?;
        self.types.remove(&id);
        self.of_kinds.retain(|_, meters| {
            meters.retain(|(other, _)| *other != id);
            !meters.is_empty()
        });
        self.of_requests.retain(|_, meters| {
            meters.retain(|(other, _)| *other != id);
            !meters.is_empty()
        });
        Some(id)
    }
}

impl Type {
    fn of(registration: &ResourceRegistration) -> Self {
        let spec = &registration.spec;
        let (mut claiming, mut requests) = (Vec::new(), Vec::new());
        for it in &spec.claiming_resources {
            match spec.r#type {
                RegistrationType::Rate => requests.extend(requests_of(it)),
                counting => claiming.extend(measured(counting, it)),
            }
        }
        Self {
            registration: registration.name().into(),
            uid: registration.metadata.uid.as_str().into(),
            created: registration.metadata.creation_timestamp,
            resource_type: spec.resource_type.as_str().into(),
            consumer: spec.consumer_type.kind,
            default_limit: spec.default_limit,
            overcommit_percent: spec.overcommit_percent,
            counting: spec.r#type,
            claiming,
            requests,
        }
    }

    /// It is on or off, and not counted out.
    pub(super) fn is_feature(&self) -> bool {
        self.counting == RegistrationType::Feature
    }
}

/// The kind that takes of something, and how much an object of it does.
fn measured(counting: RegistrationType, of: &ClaimingResource) -> Option<(Resource, Measure)> {
    let kind = kind_of(&of.api_group, &of.kind)?;
    let measure = match (counting, &of.amount_field) {
        (RegistrationType::Allocation, Some(field)) => Measure::At(field.to_pointer().into()),
        (RegistrationType::Feature, Some(field)) => Measure::Use(field.to_pointer().into()),
        _ => Measure::One,
    };
    Some((Resource::new(kind.plural, kind.group), measure))
}

/// The requests that count, by the kind they are about.
pub(super) fn requests_of(of: &ClaimingResource) -> impl Iterator<Item = (Resource, Verbs)> {
    let verbs = if of.verbs.is_empty() { RequestVerb::WRITES } else { &of.verbs };
    let verbs: Verbs = verbs.into();
    let means = |word: &str, name| [ANY, name].contains(&word);
    let kinds = registry::kinds().iter();
    let meant = kinds.filter(move |it| means(&of.api_group, it.group) && means(&of.kind, it.kind));
    meant.map(move |it| (Resource::new(it.plural, it.group), Arc::clone(&verbs)))
}

impl Measure {
    fn of(&self, value: &Value) -> u64 {
        match self {
            Self::One => 1,
            Self::At(pointer) => match value.pointer(pointer) {
                Some(Value::Array(items)) => items.len() as u64,
                Some(number) => number.as_u64().unwrap_or_default(),
                None => 0,
            },
            Self::Use(pointer) => u64::from(value.pointer(pointer).is_some_and(is_used)),
        }
    }
}

/// Whether a field says anything.
fn is_used(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The declared kind that a registration speaks of.
pub(super) fn kind_of(group: &str, kind: &str) -> Option<&'static KindDescriptor> {
    registry::kinds().iter().find(|declared| declared.group == group && declared.kind == kind)
}
