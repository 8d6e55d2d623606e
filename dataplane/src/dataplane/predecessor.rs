//! What a predecessor left in force, learnt from the maps.

use std::collections::{BTreeMap, BTreeSet};

use isocast_dataplane_common::{
    NO_CHAIN, RingPlace,
    directory::{Space, Value},
    tables::FIRST_TARGET,
};

use crate::{
    directory::Entries,
    header,
    maps::{MapFailure, Maps, Numbered, Targets},
    next_hops::Wanted,
    plan::{ChainOwner, Content, Ledger, TargetOwner},
    rings::Rings,
};

/// Learns from the maps what a predecessor put in force.
pub(super) fn ledger(
    maps: &Maps,
    targets: &Targets,
    rings: &Rings,
    in_force: &Entries,
) -> Result<Ledger, MapFailure> {
    let mut ledger = Ledger::default();
    for (number, name) in maps.read_names(Numbered::Service)? {
        ledger.services.insert(name.into(), number);
    }
    for (number, key) in maps.read_names(Numbered::Target)? {
        let target = targets.read(number)?;
        let (address, encap) =
            (header::address_of(&target.address), header::encap_of(target.flags));
        ledger.targets.insert(TargetOwner { key: key.into(), address, encap }, number);
    }
    for (key, value) in in_force {
        if key.is_in(Space::Listener) && value.tenant != Value::TUNNEL {
            let place = RingPlace::from_code(value.index);
            let Some(slots) = rings.read(place) else { continue };
            ledger.rings.insert(Content::of(slots.iter().copied()), place);
            let chains: BTreeSet<u16> = slots.iter().map(|slot| slot.chain).collect();
            for chain in chains.into_iter().filter(|chain| *chain != NO_CHAIN) {
                ledger.chains.insert(ChainOwner::of_kernel(&maps.read_chain(chain)?), chain);
            }
        }
    }
    Ok(ledger)
}

/// Adopted targets, to be kept resolved until the first tables come.
pub(super) fn targets(
    targets: &Targets,
    ledger: &Ledger,
) -> Result<BTreeMap<u16, Wanted>, MapFailure> {
    let adopted = ledger.targets.iter().filter(|(_, number)| **number >= FIRST_TARGET);
    adopted
        .map(|(owner, &number)| {
            let mut template = targets.read(number)?;
            header::set_next_hop(&mut template, None);
            Ok((number, Wanted { destination: owner.address, template: Some(template) }))
        })
        .collect()
}
