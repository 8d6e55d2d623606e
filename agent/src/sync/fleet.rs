//! [`FleetView`]: who else announces this node's services, as the controller says.
//!
//! Told by changes, the whole at the start of a connection. The last one told counts while the
//! controller is away.

use std::{collections::BTreeMap, sync::Arc};

use isocast_api::agent::{self as wire, ServiceView};
use isocast_bgp::origination::Elsewhere;

use crate::model::Uid;

/// By the service's uid; none before the controller said anything.
pub type FleetView = Option<Arc<BTreeMap<Uid, Elsewhere>>>;

/// The view after what the controller says now.
pub(super) fn merge(before: &FleetView, said: wire::FleetView) -> FleetView {
    let kept = before.as_ref().filter(|_| !said.complete);
    let mut view = kept.map(|view| BTreeMap::clone(view)).unwrap_or_default();
    for ServiceView { service, others, keeper } in said.services {
        view.insert(service.into(), Elsewhere::Known { others, keeper });
    }
    Some(Arc::new(view))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(complete: bool, services: &[(&str, u32)]) -> wire::FleetView {
        let service = |(service, others): &(&str, u32)| ServiceView {
            service: (*service).to_owned(),
            others: *others,
            keeper: false,
        };
        wire::FleetView { complete, services: services.iter().map(service).collect() }
    }

    #[test]
    fn changes_add_up_and_a_complete_view_starts_anew() {
        let first = merge(&None, said(true, &[("a", 1), ("b", 2)]));
        let second = merge(&first, said(false, &[("b", 0)]));
        let others = |others| Elsewhere::Known { others, keeper: false };

        assert_eq!(
            second.as_deref(),
            Some(&BTreeMap::from([("a".into(), others(1)), ("b".into(), others(0))]))
        );
        let third = merge(&second, said(true, &[("b", 3)]));
        assert_eq!(third.as_deref(), Some(&BTreeMap::from([("b".into(), others(3))])));
    }
}
