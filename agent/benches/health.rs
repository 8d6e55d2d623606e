//! From a prober's verdict to the UPDATE that a router's socket took.
//!
//! A real agent and a router on the other end of a wire; every service fails and recovers in its
//! turn, and the agent's own histogram says how long the router was left in the dark.
//!
//! `cargo bench -p isocast-agent --bench health`; needs root.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[expect(dead_code, reason = "the tests of the interlocks use more of it")]
#[path = "../tests/safety/bench.rs"]
mod bench;
#[expect(dead_code, reason = "the tests of the interlocks use more of it")]
#[path = "../tests/safety/world.rs"]
mod world;

use bench::{Bench, Told};
use world::full_of;

/// Enough for a 99th percentile of some three hundred changes.
const SERVICES: u8 = 100;
/// Routes when all services are healthy.
const ALL: usize = SERVICES as usize + 1;
/// A third one within a minute would be kept back: it flaps.
const ROUNDS: usize = 2;
/// Bounds of the agent's buckets, in seconds as it writes them, and in milliseconds.
const BOUNDS: [(&str, &str); 10] = [
    ("0.0005", "0.5"),
    ("0.001", "1"),
    ("0.002", "2"),
    ("0.005", "5"),
    ("0.01", "10"),
    ("0.02", "20"),
    ("0.05", "50"),
    ("0.1", "100"),
    ("0.5", "500"),
    ("1.0", "1000"),
];

fn main() {
    // One more, to warm up with: what is measured while sessions come up is no change of health.
    let services = SERVICES + 1;
    Bench::run(Told::ByFile, services, full_of(services), |bench| {
        bench.eventually("the router has every route", |bench| bench.routes() == ALL);
        let began = read(bench).0;
        fail_and_recover(bench, SERVICES);
        bench.eventually("a change is on record", |bench| read(bench).0 > began);
        let before = read(bench);
        for _ in 0..ROUNDS {
            (0..SERVICES).for_each(|number| fail_and_recover(bench, number));
        }
        let after = read(bench);
        let count = after.0 - before.0;
        println!("{count} changes of health");
        for ((_, ms), (after, before)) in BOUNDS.iter().zip(after.1.iter().zip(&before.1)) {
            println!("told within {ms:>4} ms: {:6.2} %", (after - before) / count * 100.0);
        }
    });
}

fn fail_and_recover(bench: &mut Bench, number: u8) {
    bench.fail(number);
    bench.eventually("the route is gone", |bench| bench.routes() == ALL - 1);
    bench.recover(number);
    bench.eventually("the route is back", |bench| bench.routes() == ALL);
}

/// How many were measured, and how many of them within each bound.
fn read(bench: &Bench) -> (f64, Vec<f64>) {
    let metric = |name: &str| bench.metric(name).unwrap();
    let within = |(bound, _): &(&str, &str)| {
        metric(&format!("isocast_health_to_update_seconds_bucket{{le=\"{bound}\""))
    };
    (metric("isocast_health_to_update_seconds_count"), BOUNDS.iter().map(within).collect())
}
