//! [`Search`]: which records are asked for, and a page of them.
//!
//! Records are looked at in the order of the log, so many at a time that no search holds others up;
//! a page says where the next one begins, also when it is empty. Parts of the log whose summary has
//! nothing of what is asked for are passed over.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{
    GROUP, Outcome, VERSION,
    difference::difference,
    terms::{Field, Term, Wanted},
};
use crate::{
    error::ApiError,
    iam::SERVICE_ACCOUNT_PREFIX,
    limits,
    store::{Change, Operation, Record, Revision, Version},
};

/// Which records. What is empty is not asked about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    pub(crate) actor: String,
    pub(crate) id: String,
    /// Plural, with its group or without.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) verb: String,
    pub(crate) outcome: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    /// In this container and below, since it exists; none: everywhere.
    pub(crate) container: Option<(String, Timestamp)>,
    /// After this revision.
    pub(crate) after: Revision,
    pub(crate) limit: usize,
}

/// Where records come from.
pub(crate) trait Records {
    /// The first record there is, and the last one.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn extent(&self) -> Result<(Revision, Revision), ApiError>;
    /// At most `limit` records from `from` on, in order.
    ///
    /// # Errors
    /// When the log cannot be read, or is not what was written.
    fn read(&self, from: Revision, limit: usize) -> Result<Vec<Record>, ApiError>;
    /// The first revision from `from` on whose part of the log may have something of what is wanted;
    /// one after the last if none has.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn skip(&self, from: Revision, wanted: &Wanted) -> Result<Revision, ApiError>;
    /// An object as the change-set of `revision` left it, if that is still known.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn before(&self, change: &Change) -> Result<Option<Value>, ApiError>;
}

impl Search {
    fn takes(&self, past: &Record) -> bool {
        let (audit, details) = (&past.audit, &past.audit.details);
        let is = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
        let at = Timestamp::from_millisecond(audit.time_ms).unwrap_or(Timestamp::MIN);
        let is_named = |resource: &str, namespace: &str, name: &str| {
            let plural = resource.split_once('.').map_or(resource, |(plural, _)| plural);
            (is(&self.resource, resource) || is(&self.resource, plural))
                && is(&self.namespace, namespace)
                && is(&self.name, name)
        };
        let mut changed = self.visible(past);
        let is_about = is_named(&details.resource, &details.namespace, &details.name)
            || changed.any(|Change { key, .. }| {
                is_named(key.resource().as_str(), key.container().unwrap_or_default(), key.name())
            });
        let by = details.impersonator.as_deref();
        let is_actor = self.actor.is_empty()
            || is_called(&audit.actor, &self.actor)
            || by.is_some_and(|by| is_called(by, &self.actor));
        let is_inside = self.container.as_ref().is_none_or(|(container, made)| {
            details.is_within(container) && at.as_second() >= made.as_second()
        });
        is_inside
            && is_about
            && is_actor
            && is(&self.verb, &audit.verb)
            && is(&self.uid, &details.uid)
            && is(&self.id, details.id.as_deref().unwrap_or_default())
            && is(&self.outcome, details.outcome.as_str())
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }

    /// What a record has that is asked for.
    fn wanted(&self) -> Wanted {
        let mut terms = Vec::new();
        let mut one = |field: Field, text: &str| {
            if !text.is_empty() {
                terms.push(vec![Term::new(field, text)]);
            }
        };
        one(Field::Id, &self.id);
        one(Field::Resource, &self.resource);
        one(Field::Namespace, &self.namespace);
        one(Field::Name, &self.name);
        one(Field::Uid, &self.uid);
        one(Field::Verb, &self.verb);
        one(Field::Outcome, &self.outcome);
        if let Some((container, _)) = &self.container {
            one(Field::Scope, container);
        }
        if !self.actor.is_empty() {
            let account = self.actor.strip_prefix(SERVICE_ACCOUNT_PREFIX);
            let account = account.map(|account| account.replacen(':', "/", 1));
            let names = account.as_deref().into_iter().chain([self.actor.as_str()]);
            terms.push(names.map(|name| Term::new(Field::Actor, name)).collect());
        }
        let made = self.container.as_ref().map(|(_, made)| *made);
        let made = made.and_then(|made| made.checked_sub(SignedDuration::from_secs(1)).ok());
        Wanted { terms, since: self.since.max(made), until: self.until }
    }

    /// The changes of a record that whoever asks may see: of a container's records, those in the
    /// namespace of what was written.
    fn visible<'a>(&'a self, past: &'a Record) -> impl Iterator<Item = &'a Change> {
        let details = &past.audit.details;
        past.changes.iter().filter(move |Change { key, .. }| {
            let is_it = key.resource().as_str() == details.resource && key.name() == details.name;
            let namespace = key.container().unwrap_or_default();
            let is_near = namespace == details.namespace;
            self.container.is_none() || (is_near && (is_it || !namespace.is_empty()))
        })
    }
}

/// Whether `user "alice" by token 7f3a` or `service account "web/ci"` is who is asked for by name.
fn is_called(actor: &str, name: &str) -> bool {
    let (kind, called) = called(actor);
    match name.strip_prefix(SERVICE_ACCOUNT_PREFIX) {
        Some(account) if kind == "service account" => account.replacen(':', "/", 1) == called,
        _ => name == called || name == actor,
    }
}

/// What somebody is, and what they are called; who is called nothing is what they are.
pub(super) fn called(actor: &str) -> (&str, &str) {
    let Some((kind, rest)) = actor.split_once(" \"") else { return (actor, actor) };
    (kind, rest.split_once('"').map_or(rest, |(called, _)| called))
}

/// A page of what is asked for, as it is served.
///
/// # Errors
/// When the log cannot be read, or is not what was written.
pub(crate) fn page(records: &impl Records, search: &Search) -> Result<Value, ApiError> {
    let (first, head) = records.extent()?;
    let mut next = search.after.next().max(first);
    if let Some(since) = search.since
        && search.after == Revision(0)
    {
        next = first_since(records, next, head, since)?;
    }
    let limit = search.limit.clamp(1, limits::AUDIT_ITEMS);
    let wanted = search.wanted();
    let mut items = Vec::new();
    let mut looked_at = 0;
    let mut is_over = next > head;
    while !is_over && items.len() < limit && looked_at < limits::AUDIT_SCAN {
        next = records.skip(next, &wanted)?;
        let part = records.read(next, SLICE)?;
        is_over = part.is_empty();
        for past in part {
            looked_at += 1;
            next = past.revision.next();
            let at = Timestamp::from_millisecond(past.audit.time_ms).unwrap_or(Timestamp::MIN);
            // Clocks may be set back; not by much.
            let late = search.until.and_then(|until| until.checked_add(CLOCK_ERROR).ok());
            is_over |= late.is_some_and(|late| at > late);
            if search.takes(&past) {
                items.push(item(records, search, &past)?);
            }
            if is_over || items.len() == limit {
                break;
            }
        }
        is_over |= next > head;
    }
    let mut metadata = serde_json::Map::new();
    metadata.insert("resourceVersion".to_owned(), json!(Version::from(head).to_string()));
    if !is_over {
        metadata.insert("continue".to_owned(), json!(next.0.saturating_sub(1).to_string()));
    }
    Ok(json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "AuditRecordList",
        "metadata": metadata,
        "items": items,
    }))
}

/// Records read at once.
const SLICE: usize = 512;

/// How far clocks are believed to have been set back at most.
const CLOCK_ERROR: SignedDuration = SignedDuration::from_mins(10);

/// The first revision that may be of `since` or later.
fn first_since(
    records: &impl Records,
    first: Revision,
    head: Revision,
    since: Timestamp,
) -> Result<Revision, ApiError> {
    let since = since.checked_sub(CLOCK_ERROR).unwrap_or(Timestamp::MIN).as_millisecond();
    let (mut low, mut high) = (first.0, head.0.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let past = records.read(Revision(middle), 1)?;
        match past.first() {
            Some(past) if past.audit.time_ms < since => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(Revision(low))
}

fn item(records: &impl Records, search: &Search, past: &Record) -> Result<Value, ApiError> {
    let mut changes = Vec::new();
    for change in search.visible(past) {
        let before = records.before(change)?;
        let is_known = change.previous == Revision(0) || before.is_some();
        let after = match change.operation {
            Operation::Put => Some(&*change.value()),
            Operation::Delete => None,
        };
        let resource = change.key.resource();
        let patch = is_known.then(|| difference(resource, before.as_ref(), after));
        changes.push(json!({
            "resource": resource.as_str(),
            "namespace": change.key.container(),
            "name": change.key.name(),
            "operation": change.operation,
            "previous": change.previous.to_string(),
            "patch": patch,
        }));
    }
    let audit = &past.audit;
    let mut item = serde_json::to_value(&audit.details)
        .map_err(|error| ApiError::internal(format!("cannot encode a record: {error}")))?;
    if let Some(fields) = item.as_object_mut() {
        let at = Timestamp::from_millisecond(audit.time_ms).unwrap_or(Timestamp::MIN);
        let time = at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        fields.insert("revision".to_owned(), json!(past.revision.to_string()));
        fields.insert("time".to_owned(), json!(time));
        fields.insert("actor".to_owned(), json!(audit.actor));
        fields.insert("verb".to_owned(), json!(audit.verb));
        fields.insert("agent".to_owned(), json!(audit.agent));
        if audit.details.outcome == Outcome::Changed {
            // Of what is kept longer than the log, only the record is.
            fields.insert("changes".to_owned(), json!(past.is_whole.then_some(changes)));
        }
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        audit::Details,
        store::{Audit, Key, Resource},
    };

    struct Log(Vec<Record>);

    impl Records for Log {
        fn extent(&self) -> Result<(Revision, Revision), ApiError> {
            Ok((Revision(1), Revision(self.0.len() as u64)))
        }

        fn read(&self, from: Revision, limit: usize) -> Result<Vec<Record>, ApiError> {
            let past = self.0.iter().filter(|past| past.revision >= from);
            Ok(past.take(limit).cloned().collect())
        }

        fn skip(&self, from: Revision, _: &Wanted) -> Result<Revision, ApiError> {
            Ok(from)
        }

        fn before(&self, change: &Change) -> Result<Option<Value>, ApiError> {
            let all = self.0.iter().filter(|past| past.revision == change.previous);
            let mut changes = all.flat_map(|past| &past.changes);
            Ok(changes.find(|it| it.key == change.key).map(|it| Value::clone(&it.value())))
        }
    }

    fn key(namespace: &str, name: &str) -> Key {
        Key::new(Resource::new("pools", "x"), Some(namespace), name)
    }

    /// Sizes of a pool in a namespace, by turns by alice and bob, a minute apart.
    fn log(sizes: u64, scope: &str) -> Log {
        let namespace = scope.rsplit('/').next().unwrap();
        let past = (1..=sizes).map(|revision| {
            let key = key(namespace, "www");
            let change = Change {
                key: key.clone(),
                operation: Operation::Put,
                previous: Revision(revision - 1),
                document: Arc::new(json!({"spec": {"size": revision}}).into()),
            };
            let details = Details { scope: scope.to_owned(), ..Details::of(None, &key) };
            let actor = if revision % 2 == 0 { "user \"alice\"" } else { "user \"bob\"" };
            let audit = Audit {
                actor: actor.to_owned(),
                verb: "update".to_owned(),
                agent: "test".to_owned(),
                time_ms: i64::try_from(revision).unwrap() * 60_000,
                details,
            };
            Record { revision: Revision(revision), audit, changes: vec![change], is_whole: true }
        });
        Log(past.collect())
    }

    fn revisions(page: &Value) -> Vec<&str> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["revision"].as_str().unwrap()).collect()
    }

    fn all() -> Search {
        Search { limit: 100, ..Search::default() }
    }

    #[test]
    fn records_are_found_by_who_what_and_when() {
        let log = log(6, "acme/shop");
        let found = |search: Search| {
            let page = page(&log, &search).unwrap();
            revisions(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let at = |minute: i64| Timestamp::from_second(minute * 60).ok();

        assert_eq!(found(Search { actor: "alice".into(), ..all() }), ["2", "4", "6"]);
        assert_eq!(found(Search { resource: "pools".into(), ..all() }).len(), 6);
        assert_eq!(
            found(Search { resource: "pools.x".into(), name: "www".into(), ..all() }).len(),
            6
        );
        assert_eq!(found(Search { name: "other".into(), ..all() }).len(), 0);
        assert_eq!(found(Search { verb: "delete".into(), ..all() }).len(), 0);
        assert_eq!(found(Search { outcome: "Changed".into(), ..all() }).len(), 6);
        assert_eq!(found(Search { since: at(3), until: at(5), ..all() }), ["3", "4"]);
    }

    #[test]
    fn somebody_is_found_by_the_name_that_reviews_have_for_them() {
        for (actor, name) in [
            ("user \"alice\"", "alice"),
            ("user \"alice\" by token 7f3a", "alice"),
            ("service account \"web/ci\" by token 7f3a", "system:serviceaccount:web:ci"),
            ("component \"fleet\"", "fleet"),
            ("unknown", "unknown"),
        ] {
            assert!(is_called(actor, name), "{actor}");
            assert!(!is_called(actor, "mallory"), "{actor}");
        }
    }

    #[test]
    fn a_container_has_its_own_records_and_those_below_since_it_exists() {
        let log = log(4, "acme/shop");
        let within = |name: &str, minute: i64| {
            let made = Timestamp::from_second(minute * 60).unwrap();
            let search = Search { container: Some((name.to_owned(), made)), ..all() };
            revisions(&page(&log, &search).unwrap()).len()
        };

        assert_eq!((within("acme", 0), within("shop", 0)), (4, 4));
        assert_eq!(within("globex", 0), 0);
        // A namesake of one that is gone.
        assert_eq!(within("acme", 3), 2);
    }

    #[test]
    fn a_page_says_where_the_next_one_begins() {
        let log = log(5, "acme");
        let first = page(&log, &Search { limit: 2, ..all() }).unwrap();
        assert_eq!(revisions(&first), ["1", "2"]);

        let after = first["metadata"]["continue"].as_str().unwrap().parse().map(Revision).unwrap();
        let rest = page(&log, &Search { after, ..all() }).unwrap();

        assert_eq!(revisions(&rest), ["3", "4", "5"]);
        assert_eq!(rest["metadata"].get("continue"), None);
    }

    #[test]
    fn a_record_says_what_changed() {
        let page = page(&log(2, "acme"), &all()).unwrap();

        let patch = &page["items"][1]["changes"][0]["patch"];
        assert_eq!(*patch, json!([{"op": "replace", "path": "/spec/size", "value": 2}]));
        assert_eq!(page["items"][1]["time"], "1970-01-01T00:02:00.000Z");
    }
}
