//! Keys and rings have nothing to do with each other.

use isocast_dataplane::FlowKey;

use super::*;

#[test]
fn keys_are_part_of_the_tables_and_change_nothing_else_of_them() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    let before = world.steer();

    let former = std::mem::replace(&mut world.model.keys.ring.flow, FlowKey([9; 16]));
    world.model.keys.ring.other_flows = vec![former];
    let after = world.steer();

    assert_eq!(after.tables.keys, world.model.keys.ring);
    assert_ne!(after.tables, before.tables, "they must be put in force");
    assert_eq!(after.tables.edge, before.tables.edge, "no ring moves");
    assert_eq!(after.tables.decap, before.tables.decap);
}
