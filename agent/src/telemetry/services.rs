//! Metrics of services, and of the tenants whose they are.
//!
//! A tenant's counts only ever grow: what was counted for a service stays when the service goes.

use std::{collections::BTreeMap, fmt};

use isocast_dataplane::{Counter, Counters, Dataplane, Outcome, ServiceKey};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use super::{Names, Part};
use crate::runtime::KernelCounters;

type Drops = BTreeMap<ServiceKey, BTreeMap<Outcome, u64>>;

/// What was counted for each tenant since the agent started.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    totals: BTreeMap<u32, Counter>,
    drops: BTreeMap<(u32, Outcome), u64>,
    /// The last reading.
    seen: BTreeMap<ServiceKey, Counter>,
    seen_drops: BTreeMap<(ServiceKey, Outcome), u64>,
}

// === impl Tenants ===

impl Tenants {
    /// Takes a reading in. A counter that went back began anew.
    fn read(&mut self, tenants: &BTreeMap<ServiceKey, u32>, counters: &Counters, drops: &Drops) {
        let grown = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        for (service, now) in &counters.services {
            let Some(tenant) = tenants.get(service) else { continue };
            let then = self.seen.get(service).copied().unwrap_or_default();
            let total = self.totals.entry(*tenant).or_default();
            total.packets = total.packets.wrapping_add(grown(now.packets, then.packets));
            total.bytes = total.bytes.wrapping_add(grown(now.bytes, then.bytes));
        }
        self.seen = counters.services.clone();
        let flat = drops.iter().flat_map(|(service, reasons)| {
            reasons.iter().map(|(reason, now)| ((service.clone(), *reason), *now))
        });
        let flat: BTreeMap<_, _> = flat.collect();
        for ((service, reason), now) in &flat {
            let Some(tenant) = tenants.get(service) else { continue };
            let then = self.seen_drops.get(&(service.clone(), *reason)).copied();
            let total = self.drops.entry((*tenant, *reason)).or_default();
            *total = total.wrapping_add(grown(*now, then.unwrap_or_default()));
        }
        self.seen_drops = flat;
    }
}

/// What arrived for each service, and for each tenant.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    names: &Names<'_>,
    counters: &Counters,
    kernel: &KernelCounters,
    totals: &Mutex<Tenants>,
) -> fmt::Result {
    let look = |dataplane: &Dataplane| (dataplane.tenants(), dataplane.drops().unwrap_or_default());
    let (tenants, drops) = kernel.with(look).unwrap_or_default();
    let metrics: [(&str, &str, Part); 2] = [
        ("packets", "Packets", |counter| counter.packets),
        ("bytes", "Bytes of IP packets, before encapsulation,", |counter| counter.bytes),
    ];
    for (unit, what, value) in metrics {
        let (name, help) = (format!("service_{unit}"), format!("{what} to a service"));
        let mut family = encoder.encode_descriptor(&name, &help, None, MetricType::Counter)?;
        for (service, counter) in &counters.services {
            let labels = service_labels(names, service);
            ConstCounter::new(value(counter)).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Packets to a service that were dropped, by reason, since the program was loaded";
    let mut family =
        encoder.encode_descriptor("service_dropped_packets", help, None, MetricType::Counter)?;
    for (service, reasons) in &drops {
        let [namespace, name, uid] = service_labels(names, service);
        for (reason, packets) in reasons {
            let labels = [namespace, name, uid, ("reason", reason.as_str())];
            ConstCounter::new(*packets).encode(family.encode_family(&labels)?)?;
        }
    }
    guarded(encoder, names, counters)?;
    let totals = &mut *totals.lock();
    totals.read(&tenants, counters, &drops);
    for (unit, what, value) in metrics {
        let (name, help) = (format!("tenant_{unit}"), format!("{what} to a tenant's services"));
        let mut family = encoder.encode_descriptor(&name, &help, None, MetricType::Counter)?;
        for (tenant, counter) in &totals.totals {
            let labels = [("tenant", tenant.to_string())];
            ConstCounter::new(value(counter)).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Packets to a tenant's services that were dropped, by reason";
    let mut family =
        encoder.encode_descriptor("tenant_dropped_packets", help, None, MetricType::Counter)?;
    for ((tenant, reason), packets) in &totals.drops {
        let labels = [("tenant", tenant.to_string()), ("reason", reason.as_str().to_owned())];
        ConstCounter::new(*packets).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// What services kept out, and whom they had prove their address.
fn guarded(
    encoder: &mut DescriptorEncoder<'_>,
    names: &Names<'_>,
    counters: &Counters,
) -> fmt::Result {
    let help = "Packets that a service kept out, and new flows that it had prove their address";
    let mut family =
        encoder.encode_descriptor("service_guarded", help, None, MetricType::Counter)?;
    for (service, refused) in &counters.refused {
        let [namespace, name, uid] = service_labels(names, service);
        for (reason, packets) in [
            (Outcome::SourceNotAllowed.as_str(), refused.sources),
            (Outcome::OverPacketRate.as_str(), refused.packets),
            (Outcome::OverFlowRate.as_str(), refused.flows),
            (Outcome::OverTenantRate.as_str(), refused.tenant),
            ("challenged", refused.challenged),
        ] {
            let labels = [namespace, name, uid, ("reason", reason)];
            // A series for each service and reason would be too many; most never happen.
            if packets != 0 {
                ConstCounter::new(packets).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn service_labels<'a>(names: &Names<'a>, service: &'a ServiceKey) -> [(&'static str, &'a str); 3] {
    let uid = service.0.as_ref();
    let (namespace, name) = names.services.get(uid).copied().unwrap_or_default();
    [("namespace", namespace), ("service", name), ("service_uid", uid)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uid: &str) -> ServiceKey {
        ServiceKey(uid.into())
    }

    fn counters(services: &[(&str, u64)]) -> Counters {
        let count =
            |&(uid, packets): &(&str, u64)| (key(uid), Counter { packets, bytes: packets * 10 });
        Counters { services: services.iter().map(count).collect(), ..Counters::default() }
    }

    #[test]
    fn a_tenant_keeps_what_its_services_counted_and_restarts_are_not_lost() {
        let mut totals = Tenants::default();
        let tenants = [(key("a"), 5), (key("b"), 5), (key("c"), 6)].into();
        let drops = |n| [(key("a"), [(Outcome::NoBackend, n)].into())].into();

        totals.read(&tenants, &counters(&[("a", 10), ("b", 1), ("c", 7)]), &drops(4));
        // One began anew, one is gone, one goes on.
        totals.read(&tenants, &counters(&[("a", 3), ("c", 9)]), &drops(1));

        assert_eq!(totals.totals.get(&5), Some(&Counter { packets: 14, bytes: 140 }));
        assert_eq!(totals.totals.get(&6), Some(&Counter { packets: 9, bytes: 90 }));
        assert_eq!(totals.drops.get(&(5, Outcome::NoBackend)), Some(&5));
    }
}
