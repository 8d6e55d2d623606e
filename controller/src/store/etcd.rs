//! [`EtcdBackend`]: the [`Backend`] that several controllers share, one etcd cluster.
//!
//! The tables are ranges of keys below a prefix. A commit is one etcd transaction that compares the
//! head's row with what its writer read, so revisions are the log's own and no two writers interleave.
//! That the log has grown is heard by a watch of the head; what was written is read from the log, whose
//! chain no lost, repeated or late event can break, and is looked for every second besides.
//! Writers that lose a race say so beside the head, and those that win give way to them, see [`turns`].
//! etcd's own history is not used, only one revision at a time: the cluster may compact it.

mod files;
mod link;
mod snapshot;
mod turns;

use std::{
    collections::BTreeMap,
    fmt,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::{
    Client, Compare, CompareOp, Error, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use parking_lot::{Condvar, Mutex};

pub use self::{files::EtcdFiles, link::EtcdOptions};
use self::{
    link::{Answer, Link},
    snapshot::State,
    turns::Turns,
};
use super::{
    Backend, BackendError, Snapshot,
    backend::{Capacity, Commit, HEAD, Row, Table, Wake},
};
use crate::limits;

/// Of etcd's 128 operations in a transaction, three are the head's and the turns'.
const ROWS_MAX: usize = 125;
/// Of etcd's 1.5 MiB in a request.
const BYTES_MAX: usize = 1_400 << 10;

/// Keeps the log in etcd.
pub struct EtcdBackend {
    link: Link,
    keys: Keys,
    progress: Arc<Progress>,
    turns: Mutex<Turns>,
}

/// Where the tables are among etcd's keys.
#[derive(Clone, Debug)]
struct Keys {
    prefix: Arc<str>,
    /// What this process says beside the head when it has lost a race.
    mine: Arc<str>,
}

/// How far this process and the others have come, in etcd's revisions.
#[derive(Debug, Default)]
struct Progress {
    heads: Mutex<Heads>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Heads {
    /// That this process has read or written.
    known: i64,
    /// That it has heard of.
    heard: i64,
    /// It is time to look, whatever was heard.
    is_due: bool,
}

impl EtcdBackend {
    /// Connects.
    ///
    /// # Errors
    /// When etcd cannot be reached.
    pub fn connect(options: EtcdOptions) -> Result<Self, BackendError> {
        let prefix = Arc::from(options.prefix.as_str());
        let mine = format!("{:016x}", rand::random::<u64>()).into();
        let backend = Self {
            link: Link::connect(options)?,
            keys: Keys { prefix, mine },
            progress: Arc::default(),
            turns: Mutex::default(),
        };
        drop(backend.snapshot()?);
        Ok(backend)
    }

    /// The client, and what keys begin with: for what is kept beside the log.
    pub(super) fn client(&self) -> (Client, Arc<str>) {
        (self.link.client(), Arc::clone(&self.keys.prefix))
    }

    /// What is kept at `name` beside the log, and its version.
    pub(super) fn beside(&self, name: &str) -> Result<(Option<Vec<u8>>, i64), BackendError> {
        let key = self.keys.beside(name);
        let Answer { answer, .. } = self.link.ask(move |mut kv| {
            let key = key.clone();
            async move { kv.get(key, None).await }
        })?;
        let found = answer.kvs().first();
        Ok((found.map(|it| it.value().to_vec()), found.map_or(0, KeyValue::mod_revision)))
    }

    /// Puts something at `name` beside the log, unless its version is another one; gives the new one.
    pub(super) fn put_beside(
        &self,
        name: &str,
        value: Vec<u8>,
        over: i64,
    ) -> Result<i64, BackendError> {
        let key = self.keys.beside(name);
        let is_same = Compare::mod_revision(key.clone(), CompareOp::Equal, over);
        let txn = Txn::new().when([is_same]).and_then([TxnOp::put(key, value, None)]);
        let Answer { answer, .. } = self.transact(txn)?;
        if answer.succeeded() { Ok(revision_of(&answer)) } else { Err(BackendError::Moved) }
    }

    fn transact(&self, txn: Txn) -> Result<Answer<TxnResponse>, BackendError> {
        self.link.ask(move |mut kv| {
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        })
    }

    /// Puts and removes `rows` if `condition` holds, and says who waits; how else, `loses` says.
    fn write(
        &self,
        condition: Compare,
        head: Option<&[u8]>,
        rows: &[Row],
        loses: Vec<TxnOp>,
    ) -> Result<(), BackendError> {
        // A transaction may touch a key once.
        let last: BTreeMap<Vec<u8>, Option<&Vec<u8>>> = rows
            .iter()
            .map(|(table, key, row)| (self.keys.of(*table, key), row.as_ref()))
            .collect();
        let mut operations: Vec<TxnOp> = last
            .into_iter()
            .map(|(key, row)| match row {
                Some(row) => TxnOp::put(key, row.clone(), None),
                None => TxnOp::delete(key, None),
            })
            .collect();
        if let Some(head) = head {
            operations.push(TxnOp::put(self.keys.head(), head, None));
            operations.push(TxnOp::delete(self.keys.waits(&self.keys.mine), None));
            let who = GetOptions::new().with_prefix().with_keys_only();
            operations.push(TxnOp::get(self.keys.waits(""), Some(who)));
        }
        let txn = Txn::new().when([condition]).and_then(operations).or_else(loses);
        let Answer { answer, is_repeated } = self.transact(txn)?;
        if !answer.succeeded() {
            // The first attempt may be who moved it.
            let unknown = || BackendError::Storage { source: "etcd's answer was lost".into() };
            return Err(if is_repeated { unknown() } else { BackendError::Moved });
        }
        self.progress.knows(revision_of(&answer));
        self.turns.lock().won(answer.op_responses().iter().filter_map(waiting).flatten());
        Ok(())
    }
}

impl Backend for EtcdBackend {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, BackendError> {
        let state = State::of(&self.link, &self.keys)?;
        self.progress.knows(state.head_revision());
        Ok(Box::new(state))
    }

    fn commit(&self, commit: &Commit) -> Result<(), BackendError> {
        let at = self.keys.head();
        let condition = match &commit.expected {
            Some(expected) => Compare::value(at, CompareOp::Equal, expected.clone()),
            None => Compare::create_revision(at, CompareOp::Equal, 0),
        };
        let waits = TxnOp::put(self.keys.waits(&self.keys.mine), Vec::new(), None);
        self.write(condition, Some(&commit.head), &commit.rows, vec![waits])
    }

    fn fill(&self, rows: &[Row]) -> Result<(), BackendError> {
        let is_new = Compare::create_revision(self.keys.head(), CompareOp::Equal, 0);
        self.write(is_new, None, rows, Vec::new())
    }

    fn capacity(&self) -> Capacity {
        Capacity { rows: ROWS_MAX, bytes: BYTES_MAX }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn has_news(&self) -> bool {
        let heads = &mut *self.progress.heads.lock();
        std::mem::take(&mut heads.is_due) || heads.heard > heads.known
    }

    fn give_way(&self) {
        let Some(window) = self.turns.lock().owes() else { return };
        let has_moved = self.progress.wait(window);
        self.turns.lock().gave_way(has_moved);
    }

    fn follow(&self, wake: Wake) {
        let (client, head) = (self.link.client(), self.keys.head());
        let progress = Arc::clone(&self.progress);
        self.link.spawn(async move {
            let mut failures = 0_u32;
            loop {
                let began = Instant::now();
                match watch(client.clone(), head.clone(), &progress, &wake).await {
                    Ok(()) => return,
                    Err(error) => {
                        let has_held = began.elapsed() > limits::ETCD_LOOK;
                        failures = if has_held { 0 } else { failures.saturating_add(1) };
                        if failures <= 1 {
                            let error = &error as &dyn std::error::Error;
                            tracing::warn!(error, "cannot follow etcd; trying again");
                        }
                    }
                }
                progress.heads.lock().is_due = true;
                if wake() == ControlFlow::Break(()) {
                    return;
                }
                let is_over_soon = failures <= 1;
                let pause = if is_over_soon { limits::ETCD_PAUSE } else { limits::ETCD_LOOK };
                tokio::time::sleep(pause).await;
            }
        });
    }
}

/// Hears of every new head, until nobody listens any more.
async fn watch(
    client: Client,
    head: Vec<u8>,
    progress: &Progress,
    wake: &Wake,
) -> Result<(), Error> {
    let mut stream = client.watch_client().watch(head, None).await?;
    let mut looks = tokio::time::interval(limits::ETCD_LOOK);
    loop {
        tokio::select! {
            message = stream.message() => {
                let Some(message) = message? else {
                    return Err(Error::WatchError("the stream ended".into()));
                };
                if message.canceled() {
                    return Err(Error::WatchError(message.cancel_reason().into()));
                }
                let heads = message.events().iter().filter_map(|event| event.kv());
                if !progress.hears(heads.map(KeyValue::mod_revision).max().unwrap_or(0)) {
                    continue;
                }
            }
            _ = looks.tick() => progress.heads.lock().is_due = true,
        }
        if wake() == ControlFlow::Break(()) {
            return Ok(());
        }
    }
}

/// Who waits, if that is what was asked.
fn waiting(response: &TxnOpResponse) -> Option<Vec<(Vec<u8>, i64)>> {
    let TxnOpResponse::Get(found) = response else { return None };
    Some(found.kvs().iter().map(|it| (it.key().to_vec(), it.mod_revision())).collect())
}

fn revision_of(answer: &TxnResponse) -> i64 {
    answer.header().map_or(0, etcd_client::ResponseHeader::revision)
}

impl Keys {
    fn of(&self, table: Table, key: &[u8]) -> Vec<u8> {
        let letter = match table {
            Table::Meta => "/m/",
            Table::Objects => "/o/",
            Table::Log => "/l/",
            Table::Kept => "/k/",
            Table::Records => "/r/",
            Table::Index => "/i/",
        };
        [self.prefix.as_bytes(), letter.as_bytes(), key].concat()
    }

    fn head(&self) -> Vec<u8> {
        self.of(Table::Meta, HEAD)
    }

    fn waits(&self, who: &str) -> Vec<u8> {
        format!("{}/w/{who}", self.prefix).into_bytes()
    }

    fn beside(&self, name: &str) -> Vec<u8> {
        format!("{}/f/{name}", self.prefix).into_bytes()
    }
}

impl Progress {
    fn knows(&self, head: i64) {
        let heads = &mut *self.heads.lock();
        heads.known = heads.known.max(head);
    }

    /// Whether that is news.
    fn hears(&self, head: i64) -> bool {
        let heads = &mut *self.heads.lock();
        heads.heard = heads.heard.max(head);
        let is_news = heads.heard > heads.known;
        if is_news {
            self.moved.notify_all();
        }
        is_news
    }

    /// Waits until there is news, but not for longer than `most`; whether there is.
    fn wait(&self, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        let mut heads = self.heads.lock();
        while heads.heard <= heads.known {
            if self.moved.wait_until(&mut heads, deadline).timed_out() {
                break;
            }
        }
        heads.heard > heads.known
    }
}

impl fmt::Debug for EtcdBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdBackend").field("keys", &self.keys).finish_non_exhaustive()
    }
}
