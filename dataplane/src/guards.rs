//! Source lists and ceilings of a generation: planned beside its directory, written before the
//! flip, cleaned up after it.
//!
//! As with rings, what is in force is never written over: a list that differs takes a number that
//! nothing in force has. A list is known by its content, so services with equal lists share one.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use aya::{
    Ebpf,
    maps::{
        Array, MapData,
        lpm_trie::{Key, LpmTrie},
    },
};
use isocast_dataplane_common::{
    directory::{Space, Value},
    limits::SERVICE_POOL,
    policy::{ALLOWED, DENIED, Policy, SourceKey},
};

use self::plan::Numbers;
pub(crate) use self::plan::{Planned, is_guarded};
use crate::{
    bpf::{PolicyValue, SourceKeyValue},
    ceilings::{BucketMaps, CeilingKeeper, LEVELS, RATES, SERVICE_REFUSED},
    directory::Entries,
    errors::OpenError,
    header::address_words,
    maps::{MapFailure, failed, take},
    plan::TablesError,
    policy::SourceRule,
    tables::EdgeTables,
};

pub(crate) const POLICIES: &str = "POLICIES";
pub(crate) const SOURCES: &str = "SOURCES";
/// Names of the maps that are pinned beside the tables.
pub(crate) const MAP_NAMES: [&str; 5] = [POLICIES, SOURCES, RATES, LEVELS, SERVICE_REFUSED];

#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const SERVICES: u32 = SERVICE_POOL as u32;

/// The guards in the kernel.
pub(crate) struct Guards {
    policies: Array<MapData, PolicyValue>,
    sources: LpmTrie<MapData, SourceKeyValue, u32>,
    ceilings: CeilingKeeper,
    numbers: Numbers,
    /// What the two halves hold.
    present: [Vec<Policy>; 2],
    /// Numbers of lists that may still be in the kernel and are not in force.
    garbage: BTreeSet<u32>,
}

impl Guards {
    /// Takes the maps out of a loaded object, and learns what a predecessor put in force.
    pub(crate) fn open(ebpf: &mut Ebpf, half: u32, directory: &Entries) -> Result<Self, OpenError> {
        let policies: Array<_, PolicyValue> = take(ebpf, POLICIES)?;
        let read = |half: u32| -> Result<Vec<Policy>, MapFailure> {
            let places = half * SERVICES..(half + 1) * SERVICES;
            let values = places.map(|place| policies.get(&place, 0).map(|PolicyValue(it)| it));
            values.collect::<Result<_, _>>().map_err(failed(POLICIES))
        };
        let present = [read(0)?, read(1)?];
        let buckets = BucketMaps {
            rates: take(ebpf, RATES)?,
            levels: take(ebpf, LEVELS)?,
            refused: take(ebpf, SERVICE_REFUSED)?,
        };
        let ceilings = CeilingKeeper::start(buckets).map_err(OpenError::Ceilings)?;
        let sources = take(ebpf, SOURCES)?;
        let [even, odd] = &present;
        let in_force = if half == 0 { even } else { odd };
        let (numbers, garbage) = recover(&sources, in_force, directory)?;
        Ok(Self { policies, sources, ceilings, numbers, present, garbage })
    }

    pub(crate) fn plan(
        &self,
        edge: &EdgeTables,
        services: &BTreeMap<Arc<str>, u16>,
    ) -> Result<Planned, TablesError> {
        plan::plan(edge, services, &self.numbers, &self.garbage)
    }

    /// Writes what nothing in force refers to; nobody may read the former generation any more.
    pub(crate) fn write(&mut self, half: u32, planned: &Planned) -> Result<(), MapFailure> {
        for (rules, &number) in &planned.numbers.lists {
            if !self.numbers.lists.contains_key(rules) {
                // Garbage until the flip: a list that is written half must not stay.
                self.garbage.insert(number);
                self.write_list(number, rules)?;
            }
        }
        self.ceilings.add(&planned.buckets)?;
        let [even, odd] = &mut self.present;
        let present = if half == 0 { even } else { odd };
        for (place, (number, present)) in (half * SERVICES..).zip((0..).zip(present)) {
            let wanted = planned.policies.get(&number).copied().unwrap_or_default();
            if *present != wanted {
                self.policies.set(place, PolicyValue(wanted), 0).map_err(failed(POLICIES))?;
                *present = wanted;
            }
        }
        Ok(())
    }

    /// After the flip.
    pub(crate) fn flipped(&mut self, planned: Planned) -> Result<(), MapFailure> {
        let former = std::mem::replace(&mut self.numbers, planned.numbers);
        self.garbage.extend(former.lists.into_values());
        for number in self.numbers.lists.values() {
            self.garbage.remove(number);
        }
        self.ceilings.replace(&planned.buckets)
    }

    /// Whether lists wait to be removed until nobody reads them.
    pub(crate) fn has_garbage(&self) -> bool {
        !self.garbage.is_empty()
    }

    /// Removes lists that are not in force; nobody may read the former generation any more.
    pub(crate) fn collect_garbage(&mut self) -> Result<(), MapFailure> {
        if self.garbage.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> =
            self.sources.keys().collect::<Result<_, _>>().map_err(failed(SOURCES))?;
        for key in keys {
            if self.garbage.contains(&(key.data().0.list >> 1)) {
                self.sources.remove(&key).map_err(failed(SOURCES))?;
            }
        }
        self.garbage.clear();
        Ok(())
    }

    /// What is asked of a service's packets in one half of the tables.
    pub(crate) fn policy(&self, half: u32, service: u16) -> Policy {
        let [even, odd] = &self.present;
        let policies = if half == 0 { even } else { odd };
        policies.get(usize::from(service)).copied().unwrap_or_default()
    }

    /// The rule of a list in force that decides about a source; none: no rule covers it.
    pub(crate) fn rule(&self, list: u32, source: IpAddr) -> Option<SourceRule> {
        let (rules, _) = self.numbers.lists.iter().find(|(_, number)| **number == list)?;
        let covering = rules.iter().filter(|rule| rule.prefix.contains(&source));
        covering.max_by_key(|rule| rule.prefix.prefix_len()).copied()
    }

    pub(crate) fn ceilings(&self) -> &CeilingKeeper {
        &self.ceilings
    }

    fn write_list(&mut self, number: u32, rules: &[SourceRule]) -> Result<(), MapFailure> {
        for rule in rules {
            let (bits, key) = key(number, rule);
            let verdict = if rule.allowed { ALLOWED } else { DENIED };
            let key = Key::new(bits, SourceKeyValue(key));
            self.sources.insert(&key, verdict, 0).map_err(failed(SOURCES))?;
        }
        Ok(())
    }
}

fn key(list: u32, rule: &SourceRule) -> (u32, SourceKey) {
    let address = rule.prefix.network();
    let words = address_words(address);
    let key = match address {
        IpAddr::V4(_) => SourceKey::new::<false>(list, &words),
        IpAddr::V6(_) => SourceKey::new::<true>(list, &words),
    };
    (SourceKey::LIST_BITS + u32::from(rule.prefix.prefix_len()), key)
}

/// Learns from the maps which lists are in force, and which are left over.
fn recover(
    sources: &LpmTrie<MapData, SourceKeyValue, u32>,
    in_force: &[Policy],
    directory: &Entries,
) -> Result<(Numbers, BTreeSet<u32>), MapFailure> {
    let mut contents: BTreeMap<u32, BTreeSet<SourceRule>> = BTreeMap::new();
    for key in sources.keys() {
        let key = key.map_err(failed(SOURCES))?;
        let verdict = sources.get(&key, 0).map_err(failed(SOURCES))?;
        let SourceKeyValue(at) = key.data();
        let rules = contents.entry(at.list >> 1).or_default();
        rules.extend(rule(key.prefix_len(), &at, verdict));
    }
    let mut numbers = Numbers::default();
    for (key, value) in directory {
        let &Value { service, tenant, .. } = value;
        if !key.is_in(Space::Listener) || tenant == Value::TUNNEL || tenant & Value::GUARDED == 0 {
            continue;
        }
        let Some(policy) = in_force.get(usize::from(service)) else { continue };
        if policy.flags & Policy::LISTED != 0 {
            // A list may be empty: everyone else is let in, or nobody.
            let rules = contents.remove(&policy.list).unwrap_or_default();
            if !numbers.lists.values().any(|number| *number == policy.list) {
                numbers.lists.insert(rules.into_iter().collect(), policy.list);
            }
        }
        if policy.flags & Policy::TENANT_LIMITED != 0 {
            numbers.tenants.insert(tenant & Value::TENANT, policy.tenant_bucket);
        }
    }
    Ok((numbers, contents.into_keys().collect()))
}

fn rule(bits: u32, key: &SourceKey, verdict: u32) -> Option<SourceRule> {
    let len = u8::try_from(bits.checked_sub(SourceKey::LIST_BITS)?).ok()?;
    let [first, ..] = key.address;
    let address = if key.list & 1 == 0 {
        IpAddr::V4(u32::from_be(first).into())
    } else {
        let [a, b, c, d] = key.address.map(|word| u128::from(u32::from_be(word)));
        IpAddr::V6((a << 96 | b << 64 | c << 32 | d).into())
    };
    let prefix = ipnet::IpNet::new(address, len).ok()?;
    Some(SourceRule { prefix, allowed: verdict == ALLOWED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_back_as_they_were_written() {
        for text in ["0.0.0.0/0", "10.1.0.0/16", "::/0", "2001:db8::/33", "203.0.113.7/32"] {
            for allowed in [true, false] {
                let written = SourceRule { prefix: text.parse().expect(text), allowed };
                let (bits, key) = key(5, &written);
                let verdict = if allowed { ALLOWED } else { DENIED };
                assert_eq!(rule(bits, &key, verdict), Some(written));
            }
        }
    }
}
