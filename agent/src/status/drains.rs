//! How far each drain has come, and what it cannot take away.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use isocast_api::agent::DrainStatus;
use isocast_bgp::origination::{Drain, Stage, Standing};

use super::Facts;
use crate::model::{DrainOrder, NodeModel};

/// Every drain of the configuration in force.
pub(super) fn compose(facts: &Facts<'_>) -> Vec<DrainStatus> {
    let status = |order: &DrainOrder| {
        let drain = facts.plan.memory.drains.get(&order.uid)?;
        Some(of_order(facts.model, &facts.plan.standings, order, drain))
    };
    facts.model.drains.values().filter_map(status).collect()
}

fn of_order(
    model: &NodeModel,
    standings: &BTreeMap<IpNet, Standing>,
    order: &DrainOrder,
    drain: &Drain,
) -> DrainStatus {
    let concerned = model.services.values().filter(|service| order.concerns(model, service));
    let prefixes: BTreeSet<IpNet> =
        concerned.flat_map(|it| &it.addresses).map(|address| IpNet::from(*address)).collect();
    // While routers are only told that it is going, it is announced as it should be.
    let should_be_gone = drain.stage() > Stage::Signalled;
    let standings = prefixes.iter().filter_map(|it| Some((it, standings.get(it)?)));
    let held: Vec<_> =
        standings.filter(|(_, standing)| should_be_gone && standing.is_announced()).collect();
    let first = held.first().map(|(_, standing)| standing);
    DrainStatus {
        uid: order.uid.to_string(),
        stage: name(drain.stage()).to_owned(),
        since_ms: drain.since().0,
        held: held.iter().map(|(prefix, _)| prefix.to_string()).collect(),
        held_reason: first.map(|standing| standing.reason().to_owned()).unwrap_or_default(),
        held_message: first.map(|standing| standing.message().to_owned()).unwrap_or_default(),
    }
}

const fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Signalled => "Signalling",
        Stage::Withdrawn => "Withdrawing",
        Stage::Drained => "Drained",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isocast_bgp::origination::{Gate, Hold, Moment, Traffic, WhyNot};

    use super::*;
    use crate::model::{DrainTarget, testing};

    const WAIT: Duration = Duration::from_secs(10);

    /// What a drain of this node says so long after it began, of a prefix that stands so.
    fn after(seconds: u64, standing: Standing) -> DrainStatus {
        let model = testing::two_datacenters();
        let target = DrainTarget::Node(model.name.clone());
        let order = DrainOrder { uid: "drain".into(), target, wait: WAIT, confirmed: false };
        let now = Moment(0).after(Duration::from_secs(seconds));
        let drain = Drain::begin(Moment(0)).step(now, WAIT, Traffic::Busy, true);
        let prefix = "203.0.113.10/32".parse().unwrap();
        of_order(&model, &BTreeMap::from([(prefix, standing)]), &order, &drain)
    }

    #[test]
    fn what_is_announced_as_going_is_not_held() {
        let said = after(9, Standing::Announced { graceful_shutdown: true });

        assert_eq!((said.stage.as_str(), said.since_ms, said.held.len()), ("Signalling", 0, 0));
    }

    #[test]
    fn what_is_withdrawn_is_not_held() {
        let said = after(10, Standing::NotAnnounced(WhyNot::Closed(Gate::Drain)));

        assert_eq!((said.stage.as_str(), said.since_ms), ("Withdrawing", 10_000));
        assert_eq!(said.held, [""; 0]);
    }

    #[test]
    fn what_should_be_gone_and_is_announced_is_held_for_a_reason() {
        let hold = Hold::LastAnnouncer;
        let said = after(10, Standing::Held { hold, graceful_shutdown: true });

        assert_eq!(said.held, ["203.0.113.10/32"]);
        assert_eq!(
            (said.held_reason.as_str(), said.held_message.as_str()),
            (hold.reason(), hold.message())
        );
    }
}
