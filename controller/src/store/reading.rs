//! [`Reading`]: the log and the objects at one moment, checked as they are read.
//!
//! Whatever is given out hashes to what its writer said: a row alone by its own link, rows in a
//! sequence by their chain up to the head, the objects all together by the head's digest. What does
//! not is an error, never data.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    thread,
};

use super::{
    Backend, BackendError, ChangeSet, Key, Keyring, Object, Revision, Snapshot,
    backend::{HEAD, Table},
    codec::{self, Link, Links},
    head::{Digest, Head},
};

/// Rows asked for at once.
const ROWS_AT_ONCE: usize = 100;
/// So many times that many are read before they are decoded.
const READ_AHEAD: usize = 4;

/// Takes a row of the log, and says whether to go on.
pub(super) type Show<'a> =
    dyn FnMut(Revision, Links, &[u8]) -> Result<ControlFlow<()>, BackendError> + 'a;

/// One moment of the log.
pub(super) struct Reading<'a> {
    snapshot: Box<dyn Snapshot + 'a>,
    keyring: Option<&'a Keyring>,
    pub(super) head: Head,
    /// The head as it is stored; none where nothing is.
    pub(super) stored_head: Option<Vec<u8>>,
}

/// What is decoded at once.
type Chunk = Vec<(Place, Vec<u8>)>;

/// Where an object belongs among all of them, and where its row is.
struct Place {
    at: usize,
    key: Key,
    revision: Revision,
}

impl<'a> Reading<'a> {
    pub(super) fn of(backend: &'a (dyn Backend + 'a)) -> Result<Self, BackendError> {
        let snapshot = backend.snapshot()?;
        let stored_head = snapshot.get(Table::Meta, HEAD)?;
        let head = match &stored_head {
            Some(row) => Head::decode(row)?,
            None => Head::EMPTY,
        };
        if stored_head.is_none() {
            for table in [Table::Log, Table::Objects] {
                snapshot.scan(table, &[], &mut |_, _| {
                    Err(BackendError::corrupt("it has rows, and no head"))
                })?;
            }
        }
        Ok(Self { snapshot, keyring: backend.keyring(), head, stored_head })
    }

    pub(super) fn snapshot(&self) -> &dyn Snapshot {
        &*self.snapshot
    }

    /// Every live object, in order of keys.
    pub(super) fn objects(&self) -> Result<Vec<Object>, BackendError> {
        let mut digest = Digest::default();
        let mut rows: Vec<(Key, Revision)> = Vec::new();
        self.snapshot.scan(Table::Objects, &[], &mut |key, revision| {
            let text = std::str::from_utf8(key).ok();
            let (text, revision) = text.zip(revision_of(revision)).ok_or_else(unreadable)?;
            digest.add(text, revision);
            rows.push((Key::from_row(text).ok_or_else(unreadable)?, revision));
            Ok(ControlFlow::Continue(()))
        })?;
        if digest != self.head.digest {
            return Err(BackendError::corrupt("objects are missing, or are not the newest ones"));
        }
        // Rows that were written one after the other lie on the same pages.
        let mut places: Vec<Place> = rows.into_iter().enumerate().map(Place::of).collect();
        places.sort_unstable_by_key(|place| place.revision);
        let mut objects = self.objects_at(places)?;
        objects.sort_unstable_by_key(|(place, _)| *place);
        Ok(objects.into_iter().map(|(_, object)| object).collect())
    }

    /// The objects of these places. While some are decoded, the rows of the next are read.
    fn objects_at(&self, places: Vec<Place>) -> Result<Vec<(usize, Object)>, BackendError> {
        let (keyring, mut objects) = (self.keyring, Vec::with_capacity(places.len()));
        let (sender, chunks) = mpsc::sync_channel::<Chunk>(READ_AHEAD);
        thread::scope(|scope| {
            let decode = || {
                for (Place { at, key, revision }, row) in chunks.into_iter().flatten() {
                    let object = object_in(keyring, revision, &row, key)?;
                    object.document.pack(object.key.resource());
                    objects.push((at, object));
                }
                Ok(objects)
            };
            let decoder = thread::Builder::new().name("decoder".into());
            let decoding = decoder.spawn_scoped(scope, decode).map_err(BackendError::of_io)?;
            let read = self.read_rows(places, sender);
            let decoded = decoding.join().unwrap_or_else(|_panic| Err(unreadable()));
            read.and(decoded)
        })
    }

    /// Sends the rows of these places, until nobody takes them any more.
    fn read_rows(&self, places: Vec<Place>, to: SyncSender<Chunk>) -> Result<(), BackendError> {
        let mut places = places.into_iter();
        loop {
            let places: Vec<Place> = places.by_ref().take(ROWS_AT_ONCE).collect();
            if places.is_empty() {
                return Ok(());
            }
            let keys: Vec<_> = places.iter().map(|place| revision_key(place.revision)).collect();
            let found = self.snapshot.get_many(Table::Log, &keys)?;
            let rows = places.into_iter().zip(found).map(|(place, row)| match row {
                Some(row) => Ok((place, row)),
                None => Err(missing(place.revision)),
            });
            if to.send(rows.collect::<Result<_, _>>()?).is_err() {
                return Ok(());
            }
        }
    }

    /// The object that the row of `revision` holds at `key`.
    pub(super) fn object(&self, key: &Key, revision: Revision) -> Result<Object, BackendError> {
        object_in(self.keyring, revision, &self.row(revision)?, key.clone())
    }

    /// The row of `revision`, which must be there.
    pub(super) fn row(&self, revision: Revision) -> Result<Vec<u8>, BackendError> {
        self.row_if_kept(revision)?.ok_or_else(|| missing(revision))
    }

    /// The same, if it is still there.
    pub(super) fn row_if_kept(&self, revision: Revision) -> Result<Option<Vec<u8>>, BackendError> {
        self.snapshot.get(Table::Log, &revision_key(revision))
    }

    /// What the row of `revision` says, its values opened.
    pub(super) fn decode(&self, revision: Revision, row: &[u8]) -> Result<ChangeSet, BackendError> {
        let mut set = codec::decode(revision, row)?;
        if let Some(keyring) = self.keyring {
            keyring.open_set(&mut set)?;
        }
        Ok(set)
    }

    /// At most `limit` change-sets from `from` on, in order.
    pub(super) fn read(
        &self,
        from: Revision,
        limit: usize,
    ) -> Result<Vec<(Revision, ChangeSet)>, BackendError> {
        let mut sets = Vec::new();
        if limit > 0 {
            self.each(from, &mut |revision, _, row| {
                sets.push((revision, self.decode(revision, row)?));
                let is_full = sets.len() == limit;
                Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        Ok(sets)
    }

    /// Shows the rows from `from` to the head, each chained to the one before.
    pub(super) fn each(&self, from: Revision, show: &mut Show<'_>) -> Result<(), BackendError> {
        let extent = self.head.extent;
        if from < extent.floor {
            return Err(BackendError::Truncated { floor: extent.floor });
        }
        let mut next = from;
        let mut before: Option<Link> = None;
        let mut is_over = next > extent.head;
        if is_over {
            return Ok(());
        }
        self.snapshot.scan(Table::Log, &revision_key(from), &mut |revision, row| {
            if revision != revision_key(next) {
                return Err(missing(next));
            }
            let links = codec::links(next, row)?;
            let is_last = next == extent.head;
            let follows = before.is_none_or(|before| before == links.previous);
            if !follows || (is_last && links.own != self.head.link) {
                return Err(codec::corrupt(next));
            }
            let go_on = show(next, links, row)?;
            before = Some(links.own);
            next = next.next();
            is_over = is_last || go_on.is_break();
            Ok(if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if is_over { Ok(()) } else { Err(missing(next)) }
    }
}

impl Place {
    fn of((at, (key, revision)): (usize, (Key, Revision))) -> Self {
        Self { at, key, revision }
    }
}

fn object_in(
    keyring: Option<&Keyring>,
    revision: Revision,
    row: &[u8],
    key: Key,
) -> Result<Object, BackendError> {
    let mut document = Arc::new(codec::document(revision, row, &key)?);
    if let Some(keyring) = keyring {
        keyring.open_change(&key, &mut document)?;
    }
    Ok(Object { key, revision, document })
}

pub(super) fn revision_key(revision: Revision) -> [u8; 8] {
    revision.0.to_be_bytes()
}

pub(super) fn revision_of(bytes: &[u8]) -> Option<Revision> {
    Some(Revision(u64::from_be_bytes(bytes.try_into().ok()?)))
}

fn missing(revision: Revision) -> BackendError {
    BackendError::corrupt(format_args!("the log's row of revision {revision} is missing"))
}

fn unreadable() -> BackendError {
    BackendError::corrupt("a row of an object does not read")
}
