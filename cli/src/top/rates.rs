//! From two readings of each node's counters to rates over all nodes.
//!
//! A node's rates are over the time between its own two readings, by its own clock; only then are
//! nodes added up. A counter that went back began anew, and what it shows was counted since.

use std::collections::BTreeMap;

use isocast_api::agent::local::dataplane::CountersView;
use serde::Serialize;

/// Per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rate {
    pub(crate) packets_per_s: f64,
    pub(crate) bits_per_s: f64,
}

/// Something that packets are counted for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    /// namespace/name, or the uid of what has no name any more.
    pub(crate) name: String,
    /// Isolation domain; services alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<u32>,
    #[serde(flatten)]
    pub(crate) rate: Rate,
    /// Dropped packets a second, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) drops_per_s: BTreeMap<String, f64>,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rates {
    /// Nodes that are in it.
    pub(crate) nodes: usize,
    pub(crate) services: Vec<Line>,
    pub(crate) backends: Vec<Line>,
    pub(crate) tenants: Vec<Line>,
    /// Packets a second of every outcome that drops.
    pub(crate) drops_per_s: BTreeMap<String, f64>,
    /// Packets a second of every other outcome.
    pub(crate) outcomes_per_s: BTreeMap<String, f64>,
}

/// One node's two readings.
pub(crate) struct Pair<'a> {
    pub(crate) before: &'a CountersView,
    pub(crate) after: &'a CountersView,
}

impl Rates {
    pub(crate) fn of<'a>(pairs: impl IntoIterator<Item = Pair<'a>>) -> Self {
        let mut rates = Self::default();
        let (mut services, mut backends, mut tenants) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for pair in pairs {
            let Some(per) = pair.per_second() else { continue };
            rates.nodes += 1;
            pair.services(&per, &mut services, &mut tenants);
            pair.backends(&per, &mut backends);
            pair.outcomes(&per, &mut rates);
        }
        rates.services = services.into_values().collect();
        rates.backends = backends.into_values().collect();
        rates.tenants = tenants.into_values().collect();
        rates
    }
}

/// Turns two counts into a rate.
type PerSecond = Box<dyn Fn(u64, u64) -> f64>;

impl Pair<'_> {
    /// None between two readings of the same moment, or of two lives of a host.
    fn per_second(&self) -> Option<PerSecond> {
        const NANOSECONDS: f64 = 1e9;
        let elapsed = self.after.at_ns.checked_sub(self.before.at_ns).filter(|it| *it > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "rates are rounded anyway")]
        let rate = move |before: u64, after: u64| {
            let increase = after.checked_sub(before).unwrap_or(after);
            increase as f64 * NANOSECONDS / elapsed as f64
        };
        Some(Box::new(rate))
    }

    fn services(
        &self,
        per: &PerSecond,
        services: &mut BTreeMap<String, Line>,
        tenants: &mut BTreeMap<u32, Line>,
    ) {
        let before: BTreeMap<_, _> =
            self.before.services.iter().map(|it| (it.service.uid.as_str(), it)).collect();
        for now in &self.after.services {
            let then = before.get(now.service.uid.as_str());
            let rate = Rate {
                packets_per_s: per(then.map_or(0, |it| it.packets), now.packets),
                bits_per_s: per(then.map_or(0, |it| it.bytes), now.bytes) * 8.0,
            };
            let service = &now.service;
            let tenant = tenants.entry(service.tenant).or_default();
            tenant.name = service.tenant.to_string();
            let line = services.entry(service.uid.clone()).or_default();
            line.name = called(&[&service.namespace, &service.name], &service.uid);
            line.tenant = Some(service.tenant);
            for line in [line, tenant] {
                line.rate.add(rate);
                for (reason, drops) in &now.drops {
                    let before = then.and_then(|it| it.drops.get(reason)).copied();
                    let rate = per(before.unwrap_or_default(), *drops);
                    *line.drops_per_s.entry(reason.clone()).or_default() += rate;
                }
            }
        }
    }

    fn backends(&self, per: &PerSecond, backends: &mut BTreeMap<String, Line>) {
        let before: BTreeMap<_, _> =
            self.before.backends.iter().map(|it| (it.uid.as_str(), it)).collect();
        for now in &self.after.backends {
            let then = before.get(now.uid.as_str());
            let line = backends.entry(now.uid.clone()).or_default();
            line.name = called(&[&now.namespace, &now.pool, &now.name], &now.uid);
            line.rate.add(Rate {
                packets_per_s: per(then.map_or(0, |it| it.packets), now.packets),
                bits_per_s: per(then.map_or(0, |it| it.bytes), now.bytes) * 8.0,
            });
        }
    }

    fn outcomes(&self, per: &PerSecond, rates: &mut Rates) {
        let before: BTreeMap<_, _> =
            self.before.outcomes.iter().map(|it| (it.outcome.as_str(), it.packets)).collect();
        for now in &self.after.outcomes {
            let then = before.get(now.outcome.as_str()).copied().unwrap_or_default();
            let list = if now.drop { &mut rates.drops_per_s } else { &mut rates.outcomes_per_s };
            *list.entry(now.outcome.clone()).or_default() += per(then, now.packets);
        }
    }
}

impl Rate {
    fn add(&mut self, other: Self) {
        self.packets_per_s += other.packets_per_s;
        self.bits_per_s += other.bits_per_s;
    }
}

impl Line {
    pub(crate) fn drops(&self) -> f64 {
        // The sum of nothing is -0.0, which people would see.
        self.drops_per_s.values().fold(0.0, |sum, rate| sum + rate)
    }
}

fn called(parts: &[&str], uid: &str) -> String {
    if parts.iter().any(|part| part.is_empty()) { uid.to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use isocast_api::agent::local::dataplane::{OutcomeCount, ServiceCount, ServiceRef};

    use super::*;

    fn reading(at_s: u64, packets: u64, drops: u64) -> CountersView {
        let service =
            ServiceRef { namespace: "web".into(), name: "www".into(), uid: "u".into(), tenant: 5 };
        let services = vec![ServiceCount {
            service,
            packets,
            bytes: packets * 100,
            drops: [("no_backend".to_owned(), drops)].into(),
        }];
        let outcome = OutcomeCount { outcome: "no_backend".into(), drop: true, packets: drops };
        let at_ns = at_s * 1_000_000_000;
        CountersView { at_ns, services, outcomes: vec![outcome], ..CountersView::default() }
    }

    #[test]
    fn each_node_is_measured_by_its_own_clock_and_then_added() {
        let one = (reading(1000, 0, 0), reading(1002, 200, 20));
        let other = (reading(7, 50, 0), reading(8, 60, 0));

        let pairs = [&one, &other].map(|(before, after)| Pair { before, after });
        let rates = Rates::of(pairs);

        assert_eq!(rates.nodes, 2);
        assert_eq!(rates.services[0].name, "web/www");
        let rate = Rate { packets_per_s: 110.0, bits_per_s: 88_000.0 };
        assert_eq!((rates.services[0].rate, rates.tenants[0].rate), (rate, rate));
        assert_eq!(rates.drops_per_s.get("no_backend"), Some(&10.0));
        assert_eq!(rates.tenants[0].drops(), 10.0);
    }

    #[test]
    fn a_counter_that_went_back_began_anew_and_no_time_is_no_rate() {
        let (before, after) = (reading(1, 1000, 0), reading(2, 10, 0));
        let rates = Rates::of([Pair { before: &before, after: &after }]);
        assert_eq!(rates.services[0].rate.packets_per_s, 10.0);

        assert_eq!(Rates::of([Pair { before: &after, after: &after }]).nodes, 0);
        assert_eq!(Rates::of([Pair { before: &after, after: &before }]).nodes, 0);
    }
}
