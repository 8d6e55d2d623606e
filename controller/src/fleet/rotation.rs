//! [`Keys`]: the keys of the cluster, and how it moves from one to the next without losing a packet.
//!
//! | stage | is sent | is believed | new flows are placed by | others are asked by |
//! |---|---|---|---|---|
//! | settled | old | old | old | former ones |
//! | Distributing | old | old, new | old | **new**, former ones |
//! | Switching | **new** | old, new | **new** | **old**, former ones |
//! | Retiring, settled | new | **new** | new | old, former ones |
//!
//! A stage ends when every node has taken its keyring, so two nodes are never more than one stage
//! apart. Switching lasts a little longer, for packets on the way. In every stage a node understands
//! all that a node one stage before or after it sends, and an edge finds every flow that another one
//! places. Where the secret stays, flows are placed by the same key throughout.
//!
//! Sans-IO: takes what is ordered, what nodes hold and the time, and moves at most one stage. The
//! caller puts it on disk before any node hears of it, so a controller that is killed anywhere goes
//! on from there. Nothing of a rotation is undone once a node may send by the new key.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use isocast_api::{
    agent::Keyring,
    network::{KeyKind, KeyRotationPhase},
};
use isocast_bgp::origination::Moment;
use serde::{Deserialize, Serialize};

use super::secret::{ClusterKey, ClusterSecret, SECRET_BYTES};
use crate::cabinet::Sheet;

/// See the module.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Keys {
    current: ClusterKey,
    /// The latest first.
    formers: Vec<Former>,
    under_way: Option<Rotation>,
    /// The latest epoch that nodes may have heard of. None comes twice, not even after an order that
    /// was withdrawn: what a node says of a keyring must never be true of another one.
    offered: u64,
    /// Uids of orders that are carried out.
    done: BTreeSet<String>,
}

/// A secret that has placed flows which may live.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Former {
    secret: ClusterSecret,
    until: Moment,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Rotation {
    /// Uid of the order.
    order: String,
    stage: Stage,
    /// While there is one: the key that comes, or the one that went.
    other: ClusterKey,
    former_for: Duration,
    /// Since when every node has the keyring of this stage. Counted anew after a restart.
    #[serde(skip)]
    taken_since: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
enum Stage {
    Distributing,
    Switching,
    Retiring,
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub(super) uid: String,
    pub(super) what: KeyKind,
    pub(super) former_for: Duration,
    /// Nodes that are not waited for.
    pub(super) skipped: BTreeSet<String>,
    /// It was said to be carried out.
    pub(super) is_complete: bool,
}

/// How far the keys have come, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Of the key that nodes send by.
    pub(super) epoch: u64,
    /// Of the rotation under way.
    pub(super) phase: Option<KeyRotationPhase>,
    /// How many nodes have yet to take its keyring.
    pub(super) waiting_for: usize,
    /// Orders that have yet to begin.
    pub(super) pending: usize,
    /// Former secrets that flows are looked for by.
    pub(super) formers: usize,
}

/// What every node holds that has ever held a keyring: the id of the one in force, if it is known.
pub(super) type Held = BTreeMap<String, Option<String>>;

/// Most secrets that flows are looked for by, beside the one in force.
const OTHERS_MAX: usize = 2;
/// For packets on the way when the last node stopped to send by the former key, and for what a clock
/// or a queue adds to that.
pub(super) const SETTLING: Duration = Duration::from_secs(3);

// === impl Keys ===

impl Keys {
    /// The keys of a new cluster.
    pub(super) fn new(secret: [u8; SECRET_BYTES]) -> Self {
        Self {
            current: ClusterKey::new(secret),
            formers: Vec::new(),
            under_way: None,
            offered: 0,
            done: BTreeSet::new(),
        }
    }

    /// What was written last; nothing, if there is nothing.
    ///
    /// # Errors
    /// The file is there and cannot be used.
    pub(super) fn load(sheet: &mut Sheet) -> io::Result<Option<Self>> {
        let content = sheet.read()?;
        Ok(content.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// Puts it on disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn store(&self, sheet: &mut Sheet) -> io::Result<()> {
        sheet.write(&serde_json::to_vec(self)?)
    }

    /// The keyring of every node.
    pub(super) fn keyring(&self) -> Keyring {
        let sent = self.current.tag();
        let mut believed = vec![sent];
        let mut others: Vec<&ClusterSecret> =
            self.formers.iter().map(|former| &former.secret).collect();
        let rotation = self.under_way.as_ref().filter(|it| it.stage != Stage::Retiring);
        if let Some(Rotation { other, .. }) = rotation {
            believed.push(other.tag());
            if other.secret != self.current.secret {
                others.insert(0, &other.secret);
            }
        }
        let keyring = Keyring {
            id: String::new(),
            sent_tag: sent.to_vec(),
            believed_tags: believed.into_iter().map(Vec::from).collect(),
            flow_key: self.current.secret.flow_key(),
            other_flow_keys: others.into_iter().take(OTHERS_MAX).map(|it| it.flow_key()).collect(),
        };
        Keyring { id: id(&keyring), ..keyring }
    }

    /// Nodes that have yet to take the keyring, for the rotation under way.
    pub(super) fn waiting_for(&self, orders: &[Order], held: &Held) -> Vec<String> {
        let Some(rotation) = &self.under_way else { return Vec::new() };
        let order = orders.iter().find(|order| order.uid == rotation.order);
        let is_skipped = |node: &String| order.is_some_and(|order| order.skipped.contains(node));
        let id = self.keyring().id;
        let others = held.iter().filter(|(_, held)| held.as_ref() != Some(&id));
        others.map(|(node, _)| node.clone()).filter(|node| !is_skipped(node)).collect()
    }

    /// Whether there is anything that nodes may have to say to.
    pub(super) fn is_moving(&self) -> bool {
        self.under_way.is_some()
    }

    /// Uid of the order that is being carried out.
    pub(super) fn order_under_way(&self) -> Option<&str> {
        self.under_way.as_ref().map(|rotation| rotation.order.as_str())
    }

    /// How far all of it has come.
    pub(super) fn progress(&self, orders: &[Order], held: &Held) -> Progress {
        let phases = orders.iter().filter(|it| !it.is_complete).map(|it| self.phase(&it.uid));
        Progress {
            epoch: self.current.epoch(),
            phase: self.order_under_way().map(|order| self.phase(order)),
            waiting_for: self.waiting_for(orders, held).len(),
            pending: phases.filter(|phase| *phase == KeyRotationPhase::Pending).count(),
            formers: self.formers.len(),
        }
    }

    /// How far an order has come.
    pub(super) fn phase(&self, order: &str) -> KeyRotationPhase {
        match &self.under_way {
            Some(rotation) if rotation.order == order => match rotation.stage {
                Stage::Distributing => KeyRotationPhase::Distributing,
                Stage::Switching => KeyRotationPhase::Switching,
                Stage::Retiring => KeyRotationPhase::Retiring,
            },
            _ if self.done.contains(order) => KeyRotationPhase::Complete,
            _ => KeyRotationPhase::Pending,
        }
    }

    /// Moves on by one stage, if it is time. `orders` are in the order of their creation. Says when to
    /// look again, whatever else happens.
    pub(super) fn step(
        &mut self,
        orders: &[Order],
        held: &Held,
        now: Moment,
        fresh: impl FnOnce() -> [u8; SECRET_BYTES],
    ) -> Option<Moment> {
        self.done.retain(|uid| orders.iter().any(|it| it.uid == *uid && !it.is_complete));
        let is_wanted = |uid: &str| orders.iter().any(|order| order.uid == uid);
        // No node sends by the key that would have come.
        self.under_way.take_if(|it| it.stage == Stage::Distributing && !is_wanted(&it.order));
        if self.under_way.is_some() {
            return self.move_on(self.waiting_for(orders, held).is_empty(), now);
        }
        self.formers.retain(|former| now < former.until);
        let next = orders.iter().find(|it| !it.is_complete && !self.done.contains(&it.uid));
        if let Some(order) = next {
            let next = match order.what {
                KeyKind::EncapsulationKey => self.current.next(self.offered),
                KeyKind::ClusterSecret => ClusterKey::new(fresh()).unlike(self.current.tag()),
            };
            self.offered = self.offered.max(next.epoch());
            self.under_way = Some(Rotation {
                order: order.uid.clone(),
                stage: Stage::Distributing,
                other: next,
                former_for: order.former_for,
                taken_since: None,
            });
            // Where there is no node, nobody will say that it has taken anything.
            return Some(now);
        }
        self.formers.iter().map(|former| former.until).min()
    }

    /// The rotation under way, of whose keyring it is known whether every node has taken it.
    fn move_on(&mut self, is_taken: bool, now: Moment) -> Option<Moment> {
        let rotation = self.under_way.as_mut()?;
        if !is_taken {
            rotation.taken_since = None;
            return None;
        }
        let since = *rotation.taken_since.get_or_insert(now);
        match rotation.stage {
            Stage::Distributing => {
                std::mem::swap(&mut self.current, &mut rotation.other);
                rotation.stage = Stage::Switching;
            }
            Stage::Switching if now < since.after(SETTLING) => return Some(since.after(SETTLING)),
            Stage::Switching => {
                if rotation.other.secret != self.current.secret {
                    let secret = rotation.other.secret.clone();
                    let until = now.after(rotation.former_for);
                    self.formers.insert(0, Former { secret, until });
                    self.formers.truncate(OTHERS_MAX);
                }
                rotation.stage = Stage::Retiring;
            }
            Stage::Retiring => {
                self.done.insert(rotation.order.clone());
                self.under_way = None;
                return Some(now);
            }
        }
        rotation.taken_since = None;
        Some(now)
    }
}

/// Names what is in a keyring: equal ones have one name.
fn id(keyring: &Keyring) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("isocast v1 keyring id");
    let lists = [&keyring.believed_tags, &keyring.other_flow_keys];
    hasher.update(&keyring.sent_tag).update(&keyring.flow_key);
    for list in lists {
        // Of two kinds of keys each has one length, so counts tell all lists apart.
        hasher.update(&list.len().to_be_bytes());
        list.iter().for_each(|key| {
            hasher.update(key);
        });
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}
