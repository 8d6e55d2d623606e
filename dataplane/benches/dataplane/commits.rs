//! What it takes to put tables in force that differ in one ring, or in all.
//!
//! Commits follow each other as closely as steering lets them: a grace period lies between.

use std::{
    thread,
    time::{Duration, Instant},
};

use isocast_dataplane::{
    Dataplane, Tables,
    fixture::{self, ring},
};

use crate::{
    Failure, Pins,
    report::{Commit, median},
};

const SERVICES: usize = 1000;
const BACKENDS: usize = 16;
const TRIES: usize = 11;
/// At most twenty commits a second.
const PACE: Duration = Duration::from_millis(50);

pub(crate) fn measure(pins: &Pins) -> Result<Vec<Commit>, Failure> {
    let tables = fixture::services(SERVICES, BACKENDS);
    let mut dataplane = fixture::edge(&pins.dir("commits"), SERVICES, BACKENDS)?.dataplane;

    // One backend leaves one service; one backend leaves all of them.
    let without = |n: &usize| ring(&format!("service-{n}"), BACKENDS, |backend| backend != 3);
    let mut one = tables.clone();
    if let Some(ring) = one.edge.rings.get_mut(500) {
        *ring = without(&500);
    }
    let mut all = tables.clone();
    all.edge.rings = (0..SERVICES).map(|n| without(&n)).collect();

    Ok(vec![
        Commit {
            name: "commit_one".to_owned(),
            ms: time(&mut dataplane, [&tables, &one])?,
            gate_ms: 15.0,
        },
        Commit {
            name: "commit_1000".to_owned(),
            ms: time(&mut dataplane, [&tables, &all])?,
            gate_ms: 500.0,
        },
    ])
}

/// The median of commits to and fro.
fn time(dataplane: &mut Dataplane, tables: [&Tables; 2]) -> Result<f64, Failure> {
    let [first, second] = tables;
    dataplane.apply(first)?;
    let mut times = Vec::new();
    for tables in [second, first].into_iter().cycle().take(TRIES) {
        #[expect(clippy::disallowed_methods, reason = "the pace of commits is part of the case")]
        thread::sleep(PACE);
        let before = Instant::now();
        dataplane.apply(tables)?;
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&times))
}
