//! [`Nodes`]: what every agent said last.
//!
//! Owns the newest report of each node that has connected since the controller started. Writers
//! are the connections; the one reader that matters turns reports into status. Nothing here is
//! kept on disk: agents say it again.

use std::{collections::BTreeMap, sync::Arc};

use isocast_api::agent::{EntryError, Nack, NodeStatus};
use parking_lot::Mutex;
use quinn::Connection;
use tokio::{sync::watch, time::Instant};

use super::session::History;

/// The reports of all nodes.
#[derive(Debug)]
pub struct Nodes {
    reports: Mutex<BTreeMap<String, Entry>>,
    changed: watch::Sender<u64>,
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Uid of the node's object that the agent's certificate is of.
    pub uid: String,
    /// Whether the agent is connected.
    pub link: Link,
    /// How it stands with the newest configuration.
    pub progress: Progress,
    /// What the agent said of itself, and when it last did.
    pub statement: Option<(Arc<NodeStatus>, Instant)>,
}

/// Whether an agent is connected, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is.
    Connected(Instant),
    /// It is not.
    Disconnected(Instant),
}

/// How it stands with a node's newest configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The configuration of this revision is in force, and it is the newest.
    Applied {
        /// Of the store.
        revision: u64,
    },
    /// The same, but for some entries.
    AppliedInPart {
        /// Of the store.
        revision: u64,
        /// What the agent refused.
        refused: Arc<[EntryError]>,
    },
    /// The newest one is on its way.
    Offered {
        /// Since when.
        since: Instant,
    },
    /// The agent refused the newest one, and goes on with what it had.
    Refused {
        /// Revision of the one in force, if there is one.
        held: Option<u64>,
        /// What it said.
        nack: Arc<Nack>,
    },
}

/// Names one connection of a node among those it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenure(u64);

#[derive(Debug)]
struct Entry {
    report: Report,
    history: History,
    tenure: Tenure,
    superseded: watch::Sender<Tenure>,
    /// By which the node can be asked.
    connection: Option<Connection>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { reports: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Nodes {
    /// Every report there is.
    #[must_use]
    pub fn reports(&self) -> BTreeMap<String, Report> {
        let reports = self.reports.lock();
        reports.iter().map(|(node, entry)| (node.clone(), entry.report.clone())).collect()
    }

    /// One node's report.
    #[must_use]
    pub fn report(&self, node: &str) -> Option<Report> {
        self.reports.lock().get(node).map(|entry| entry.report.clone())
    }

    /// Wakes up when any report changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A connection begins, and takes the place of an earlier one. The receiver tells when it loses
    /// that place itself.
    pub(super) fn open(
        &self,
        node: &str,
        uid: &str,
        now: Instant,
    ) -> (Tenure, History, watch::Receiver<Tenure>) {
        let mut reports = self.reports.lock();
        let fresh = || Entry {
            report: Report {
                uid: uid.to_owned(),
                link: Link::Connected(now),
                progress: Progress::Offered { since: now },
                statement: None,
            },
            history: History::default(),
            tenure: Tenure(0),
            superseded: watch::Sender::new(Tenure(0)),
            connection: None,
        };
        let entry = reports.entry(node.to_owned()).or_insert_with(fresh);
        if entry.report.uid != uid {
            *entry = fresh(); // a new node under an old name
        }
        entry.tenure = Tenure(entry.tenure.0 + 1);
        entry.superseded.send_replace(entry.tenure);
        entry.report.link = Link::Connected(now);
        let opened = (entry.tenure, entry.history.clone(), entry.superseded.subscribe());
        drop(reports);
        self.announce();
        opened
    }

    /// The connection `tenure` of `node` has news. Those of an earlier connection count no more.
    pub(super) fn update(&self, node: &str, tenure: Tenure, change: impl FnOnce(&mut Report)) {
        if self.with_entry(node, tenure, |entry| change(&mut entry.report)) {
            self.announce();
        }
    }

    /// The connection `tenure` of `node` takes questions.
    pub(super) fn attach(&self, node: &str, tenure: Tenure, connection: Connection) {
        self.with_entry(node, tenure, |entry| entry.connection = Some(connection));
    }

    /// The connection by which a node can be asked, while there is one.
    pub(super) fn connection(&self, node: &str, uid: &str) -> Option<Connection> {
        let reports = self.reports.lock();
        reports.get(node).filter(|entry| entry.report.uid == uid)?.connection.clone()
    }

    /// The connection `tenure` of `node` is over.
    pub(super) fn close(&self, node: &str, tenure: Tenure, history: History, now: Instant) {
        let ended = self.with_entry(node, tenure, |entry| {
            entry.report.link = Link::Disconnected(now);
            entry.history = history;
            entry.connection = None;
        });
        if ended {
            self.announce();
        }
    }

    /// Forgets nodes that no longer exist; `exists` is asked with name and uid, for a node that
    /// was made anew under an old name is another one.
    pub fn retain(&self, mut exists: impl FnMut(&str, &str) -> bool) {
        let mut reports = self.reports.lock();
        let before = reports.len();
        reports.retain(|node, entry| exists(node, &entry.report.uid));
        let forgotten = reports.len() < before;
        drop(reports);
        if forgotten {
            self.announce();
        }
    }

    fn with_entry(&self, node: &str, tenure: Tenure, change: impl FnOnce(&mut Entry)) -> bool {
        let mut reports = self.reports.lock();
        let entry = reports.get_mut(node).filter(|entry| entry.tenure == tenure);
        let is_current = entry.is_some();
        if let Some(entry) = entry {
            change(entry);
        }
        is_current
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_connection_says_counts_no_more() {
        let nodes = Nodes::default();
        let now = Instant::now();
        let (first, _, mut superseded) = nodes.open("a", "uid", now);
        superseded.mark_unchanged();
        let (second, ..) = nodes.open("a", "uid", now);
        assert!(superseded.has_changed().unwrap());

        nodes.update("a", first, |report| report.progress = Progress::Applied { revision: 1 });
        nodes.close("a", first, History::default(), now);

        let report = nodes.report("a").unwrap();
        assert_eq!(report.link, Link::Connected(now));
        assert_eq!(report.progress, Progress::Offered { since: now });
        nodes.close("a", second, History::default(), now);
        assert_eq!(nodes.report("a").unwrap().link, Link::Disconnected(now));
    }

    #[test]
    fn a_new_node_under_an_old_name_starts_without_a_past() {
        let nodes = Nodes::default();
        let now = Instant::now();
        let (first, ..) = nodes.open("a", "uid-1", now);
        nodes.update("a", first, |report| report.progress = Progress::Applied { revision: 1 });

        let _second = nodes.open("a", "uid-2", now);

        assert_eq!(nodes.report("a").unwrap().progress, Progress::Offered { since: now });
    }
}
