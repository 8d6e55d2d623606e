//! Which service has which list and which buckets, in which numbers.
//!
//! A pure function of the tables and of what is in force, as [`crate::plan`] is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use isocast_dataplane_common::{
    limits::SERVICE_POOL,
    policy::{BUCKETS, MAX_LIMITED_TENANTS, MAX_SOURCES, MAX_SOURCES_PER_SERVICE, Policy},
};

use crate::{
    ceilings::Bucket,
    plan::{TablesError, too_many},
    policy::{ServicePolicy, SourceList, SourceRule},
    tables::{EdgeTables, ServiceKey},
};

/// Who has which number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Lists by their rules, in order.
    pub(super) lists: BTreeMap<Arc<[SourceRule]>, u32>,
    /// Buckets of tenants.
    pub(super) tenants: BTreeMap<u32, u32>,
}

/// A generation's guards, ready to be written.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(super) numbers: Numbers,
    pub(super) policies: BTreeMap<u32, Policy>,
    pub(super) buckets: BTreeMap<u32, Bucket>,
}

/// Plans the guards of the generation that follows. `garbage` are numbers of lists that are in the
/// kernel and nowhere else.
pub(super) fn plan(
    edge: &EdgeTables,
    services: &BTreeMap<Arc<str>, u16>,
    in_force: &Numbers,
    garbage: &BTreeSet<u32>,
) -> Result<Planned, TablesError> {
    let mut by_service = BTreeMap::new();
    for (service, policy) in &edge.policies {
        if let Some(list) = &policy.sources {
            by_service.insert(service, in_order(service, list)?);
        }
    }
    let lists: BTreeSet<_> = by_service.values().cloned().collect();
    let rules = lists.iter().map(|list| list.len()).sum();
    if rules > MAX_SOURCES {
        return Err(too_many("source rules", rules, MAX_SOURCES));
    }
    if edge.tenants.len() > MAX_LIMITED_TENANTS {
        return Err(too_many("tenants with ceilings", edge.tenants.len(), MAX_LIMITED_TENANTS));
    }
    let numbers = Numbers {
        lists: number(lists, &in_force.lists, 0, garbage),
        tenants: number(
            edge.tenants.keys().copied().collect(),
            &in_force.tenants,
            FIRST_TENANT_BUCKET,
            &BTreeSet::new(),
        ),
    };
    let mut planned = Planned { numbers, policies: BTreeMap::new(), buckets: BTreeMap::new() };
    for (tenant, &ceilings) in &edge.tenants {
        if let Some(&bucket) = planned.numbers.tenants.get(tenant) {
            planned.buckets.insert(bucket, Bucket { ceilings, syn_cookies: false });
        }
    }
    for vip in &edge.vips {
        let Some(&service) = services.get(&vip.service.0) else { continue };
        let tenant_bucket = planned.numbers.tenants.get(&vip.tenant).copied();
        let list = by_service.get(&vip.service).and_then(|rules| planned.numbers.lists.get(rules));
        let list = list.copied().unwrap_or_default();
        planned.guard(service.into(), edge.policies.get(&vip.service), list, tenant_bucket);
    }
    Ok(planned)
}

impl Planned {
    /// `list` is the number of the policy's list, if it has one.
    fn guard(
        &mut self,
        number: u32,
        policy: Option<&ServicePolicy>,
        list: u32,
        tenant_bucket: Option<u32>,
    ) {
        let mut entry = Policy::default();
        if let Some(ServicePolicy { sources, ceilings, syn_cookies }) = policy {
            if let Some(sources) = sources {
                entry.flags |= Policy::LISTED;
                if sources.others_allowed {
                    entry.flags |= Policy::OTHERS_ALLOWED;
                }
                entry.list = list;
            }
            if !ceilings.is_none() {
                entry.flags |= Policy::LIMITED;
                if *syn_cookies {
                    entry.flags |= Policy::COOKIES;
                }
                let bucket = Bucket { ceilings: *ceilings, syn_cookies: *syn_cookies };
                self.buckets.insert(number, bucket);
            }
        }
        if let Some(bucket) = tenant_bucket {
            entry.flags |= Policy::TENANT_LIMITED;
            entry.tenant_bucket = bucket;
        }
        self.policies.insert(number, entry);
    }
}

/// Whether a service's packets need a second look.
pub(crate) fn is_guarded(edge: &EdgeTables, service: &ServiceKey, tenant: u32) -> bool {
    edge.policies.get(service).is_some_and(|policy| !policy.is_open())
        || edge.tenants.contains_key(&tenant)
}

/// The rules without what means nothing, in order.
fn in_order(service: &ServiceKey, list: &SourceList) -> Result<Arc<[SourceRule]>, TablesError> {
    if list.rules.len() > MAX_SOURCES_PER_SERVICE {
        return Err(too_many(
            "source rules of one service",
            list.rules.len(),
            MAX_SOURCES_PER_SERVICE,
        ));
    }
    let rules: BTreeMap<_, _> =
        list.rules.iter().map(|rule| (rule.prefix.trunc(), rule.allowed)).collect();
    if rules.len() < list.rules.len() {
        let what = format!("a source prefix of service {}", service.0);
        return Err(TablesError::Duplicate { what });
    }
    Ok(rules.into_iter().map(|(prefix, allowed)| SourceRule { prefix, allowed }).collect())
}

/// Who has a number keeps it; the others get numbers that nobody has.
fn number<K: Ord>(
    owners: BTreeSet<K>,
    in_force: &BTreeMap<K, u32>,
    first: u32,
    garbage: &BTreeSet<u32>,
) -> BTreeMap<K, u32> {
    let taken: BTreeSet<_> = in_force.values().chain(garbage).copied().collect();
    let mut free = (first..).filter(|number| !taken.contains(number));
    let mut numbers = BTreeMap::new();
    for owner in owners {
        // There are far more numbers than owners: see the limits.
        if let Some(number) = in_force.get(&owner).copied().or_else(|| free.next()) {
            numbers.insert(owner, number);
        }
    }
    numbers
}

#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const FIRST_TENANT_BUCKET: u32 = SERVICE_POOL as u32;
const _: () = assert!(SERVICE_POOL + 2 * MAX_LIMITED_TENANTS <= BUCKETS);

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        policy::Ceilings,
        tables::{Protocol, Vip},
    };

    fn rules(texts: &[&str]) -> Arc<[SourceRule]> {
        let rule = |text: &&str| SourceRule { prefix: text.parse().expect(text), allowed: true };
        texts.iter().map(rule).collect()
    }

    fn listed(texts: &[&str]) -> ServicePolicy {
        let sources = SourceList { rules: rules(texts), others_allowed: false };
        ServicePolicy { sources: Some(sources), ..ServicePolicy::default() }
    }

    fn edge(policies: &[(&str, ServicePolicy)]) -> EdgeTables {
        let mut edge = EdgeTables::default();
        for (name, policy) in policies {
            let service = ServiceKey((*name).into());
            edge.vips.push(Vip {
                address: "192.0.2.1".parse().expect("address"),
                protocol: Protocol::Tcp,
                port: 80,
                tenant: 7,
                ring: 0,
                service: service.clone(),
            });
            edge.policies.insert(service, policy.clone());
        }
        edge
    }

    fn services(names: &[&str]) -> BTreeMap<Arc<str>, u16> {
        (0..).zip(names).map(|(number, name)| ((*name).into(), number)).collect()
    }

    fn planned(edge: &EdgeTables, in_force: &Numbers) -> Planned {
        plan(edge, &services(&["a", "b"]), in_force, &BTreeSet::new()).expect("fits")
    }

    #[test]
    fn changed_list_takes_a_number_that_nothing_in_force_has() {
        let first = planned(&edge(&[("a", listed(&["10.0.0.0/8"]))]), &Numbers::default());
        let second =
            planned(&edge(&[("a", listed(&["10.0.0.0/8", "2001:db8::/32"]))]), &first.numbers);

        assert_ne!(first.policies[&0].list, second.policies[&0].list);
    }

    #[test]
    fn unchanged_list_keeps_its_number_and_equal_lists_share_one() {
        let list = listed(&["10.0.0.0/8", "192.168.0.0/16"]);
        let turned = listed(&["192.168.0.0/16", "10.0.0.0/8"]);
        let first = planned(&edge(&[("a", list.clone())]), &Numbers::default());
        let second = planned(&edge(&[("a", turned), ("b", list)]), &first.numbers);

        assert_eq!(second.policies[&0], first.policies[&0]);
        assert_eq!(second.policies[&1].list, first.policies[&0].list);
    }

    #[test]
    fn number_of_a_list_that_waits_to_be_removed_is_nobodys() {
        let edge = edge(&[("a", listed(&["10.0.0.0/8"]))]);
        let garbage = BTreeSet::from([0, 1]);
        let planned = plan(&edge, &services(&["a"]), &Numbers::default(), &garbage);

        assert_eq!(planned.expect("fits").policies[&0].list, 2);
    }

    #[test]
    fn one_rule_too_many_is_refused_for_a_service_and_for_the_node() {
        let many = |service: u32, count: usize| {
            let prefixes = (0..u32::try_from(count).expect("small")).map(|n| {
                let address = IpAddr::V4((service << 16 | n).into());
                SourceRule { prefix: ipnet::IpNet::from(address), allowed: true }
            });
            let sources = SourceList { rules: prefixes.collect(), others_allowed: false };
            ServicePolicy { sources: Some(sources), ..ServicePolicy::default() }
        };
        let plan = |edge: &EdgeTables| {
            plan(edge, &BTreeMap::new(), &Numbers::default(), &BTreeSet::new()).map(drop)
        };
        let too_many = |what, count, limit| Err(TablesError::TooMany { what, count, limit });

        let full = MAX_SOURCES_PER_SERVICE;
        assert_eq!(plan(&edge(&[("a", many(1, full))])), Ok(()));
        assert_eq!(
            plan(&edge(&[("a", many(1, full + 1))])),
            too_many("source rules of one service", full + 1, full)
        );
        let names: Vec<_> = (0..=MAX_SOURCES / full).map(|n| n.to_string()).collect();
        let all: Vec<_> =
            (0..).zip(&names).map(|(n, name)| (name.as_str(), many(n, full))).collect();
        let (_, fits) = all.split_last().expect("some");
        assert_eq!(plan(&edge(fits)), Ok(()));
        assert_eq!(plan(&edge(&all)), too_many("source rules", MAX_SOURCES + full, MAX_SOURCES));
    }

    #[test]
    fn prefix_that_is_given_twice_is_refused() {
        let edge = edge(&[("a", listed(&["10.0.0.0/8", "10.1.0.0/8"]))]);
        let planned = plan(&edge, &services(&["a"]), &Numbers::default(), &BTreeSet::new());

        assert!(matches!(planned, Err(TablesError::Duplicate { .. })));
    }

    #[test]
    fn tenant_keeps_its_bucket_and_all_its_services_are_guarded() {
        let mut edge = edge(&[("a", ServicePolicy::default()), ("b", ServicePolicy::default())]);
        assert!(!is_guarded(&edge, &ServiceKey("a".into()), 7));
        let ceilings = Ceilings { packets_per_second: Some(1), ..Ceilings::default() };
        edge.tenants.insert(7, ceilings);
        let first = planned(&edge, &Numbers::default());
        edge.tenants.insert(6, ceilings);
        let second = planned(&edge, &first.numbers);

        assert!(is_guarded(&edge, &ServiceKey("a".into()), 7));
        assert_eq!(first.policies[&0], first.policies[&1]);
        assert_eq!(second.policies[&0], first.policies[&0]);
        assert_eq!(second.numbers.tenants.len(), 2);
    }
}
