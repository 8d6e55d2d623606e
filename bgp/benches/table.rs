//! What the route table costs without sockets: decoding, a full table in and out, the same prefixes
//! from ten peers, a peer that is lost, one host route while another peer churns, and one among a
//! thousand peers.
//!
//! `cargo bench -p isocast-bgp --bench table`. Only the table and the sessions around it: for the
//! same through sockets, beside BIRD, there is `./dev bench bgp`. Times are those that the thread has
//! run, so that a busy machine tells the same.

#![allow(
    clippy::allow_attributes,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark, which tells its figures"
)]

#[path = "support/scripted.rs"]
mod scripted;
#[path = "support/stream.rs"]
mod stream;

use std::hint::black_box;
use std::time::Duration;

use isocast_bgp::types::PeerKind;
use isocast_bgp::wire::update::Codec;
use isocast_bgp::wire::view::UpdateView;
use scripted::{Scripted, cpu_time};

const MILLION: usize = 1_000_000;
const CHURNED: usize = 200_000;

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let benches: [(&str, fn()); 6] = [
        ("decode", decode),
        ("load", load),
        ("overlap", overlap),
        ("peer-down", peer_down),
        ("churn", churn),
        ("peers", peers),
    ];
    for (name, bench) in benches {
        if only.as_ref().is_none_or(|only| only == name) {
            bench();
        }
    }
}

fn next_hop(peer: u8) -> [u8; 4] {
    [198, 18, 1, peer]
}

/// A full table, message by message, as far as the table would want it.
fn decode() {
    let table = stream::stream(&stream::prefixes(MILLION), 65_001, next_hop(1), 1);
    let codec = Codec::new(PeerKind::External);
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = cpu_time();
        let mut block = Vec::with_capacity(4096);
        let mut prefixes = 0_usize;
        let mut rest = table.bytes.as_slice();
        while let Some(length) = rest.get(16..18) {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let view = UpdateView::read(&rest[19..length], &codec).unwrap();
            block.clear();
            view.write_block(
                view.next_hop.map(isocast_bgp::wire::next_hop::NextHop::V4).unwrap(),
                &mut block,
            );
            black_box(&block);
            let mut list = view.announced;
            while let [bits, tail @ ..] = list {
                list = &tail[usize::from(bits.div_ceil(8))..];
                prefixes += 1;
            }
            rest = &rest[length..];
        }
        assert_eq!(prefixes, MILLION);
        times.push(since(started));
    }
    times.sort();
    let rate = MILLION as f64 / times[2].as_secs_f64() / 1e6;
    println!(
        "decode      {} routes in {} UPDATEs, {} attribute sets: {rate:.1} M routes/s",
        MILLION, table.updates, table.attribute_sets
    );
}

/// One peer sends a full table, another takes it as it comes.
fn load() {
    for (name, count) in [("100k", 100_000), ("1M", MILLION)] {
        let table = stream::stream(&stream::prefixes(count), 65_001, next_hop(1), 1);
        let before = resident();
        let mut scripted = Scripted::new(1);
        let started = cpu_time();
        scripted.feed(1, &table.bytes);
        scripted.drain();
        let took = since(started);
        let bytes = (resident() - before) as f64 / count as f64;
        assert_eq!(scripted.told(), count as u32);
        println!(
            "load {name:>6} {:>7.1} ms, {bytes:.0} B/path, {} UPDATEs in, {} out",
            ms(took),
            table.updates,
            scripted.updates_out()
        );
    }
}

/// Ten peers send the same prefixes.
fn overlap() {
    let prefixes = stream::prefixes(100_000);
    let tables: Vec<_> = (1..=10)
        .map(|peer| {
            stream::stream(&prefixes, 65_000 + u32::from(peer), next_hop(peer), peer.into())
        })
        .collect();
    let before = resident();
    let mut scripted = Scripted::new(10);
    let started = cpu_time();
    let mut sent = [0_usize; 10];
    while (0..10).any(|peer| sent[peer] < tables[peer].bytes.len()) {
        for peer in 0..10 {
            let rest = &tables[peer].bytes[sent[peer]..];
            let part = &rest[..rest.len().min(scripted::CHUNK)];
            scripted.feed(peer as u32 + 1, part);
            sent[peer] += part.len();
        }
    }
    scripted.drain();
    let took = since(started);
    let bytes = (resident() - before) as f64 / 1e6;
    assert_eq!(scripted.told(), 100_000);
    println!("overlap     10 x 100k: {:>7.1} ms, {bytes:.0} B/path", ms(took));
}

/// The only source of 100,000 prefixes is lost: how long until the first and the last withdrawal.
fn peer_down() {
    for count in [1_000, 100_000, MILLION] {
        let table = stream::stream(&stream::prefixes(count), 65_001, next_hop(1), 1);
        let mut scripted = Scripted::new(1);
        scripted.feed(1, &table.bytes);
        scripted.drain();
        let started = cpu_time();
        scripted.lose(1);
        let first = scripted.transmit();
        let first_at = since(started);
        assert!(first > 0);
        scripted.drain();
        println!(
            "peer down   {count}: first {:.2} ms, all {:.1} ms, longest call {:.2} ms",
            ms(first_at),
            ms(since(started)),
            ms(scripted.longest)
        );
        assert_eq!(scripted.told(), 0);
    }
}

/// A host route comes and goes while another peer changes the attributes of 200,000 prefixes.
fn churn() {
    let prefixes = stream::prefixes(CHURNED);
    let tables = [1, 2].map(|seed| stream::stream(&prefixes, 65_002, next_hop(2), seed));
    let mut dice = stream::Dice(9);
    let attributes = stream::attributes(&mut dice, 65_001, next_hop(1));
    let mut announce = Vec::new();
    stream::update(&mut announce, &attributes, &[(0xc633_6401, 32)]);
    let mut withdraw = Vec::new();
    stream::message(&mut withdraw, 2, &[0, 5, 32, 198, 51, 100, 1, 0, 0]);
    let mut scripted = Scripted::new(2);
    scripted.feed(2, &tables[0].bytes);
    scripted.drain();
    scripted.longest = Duration::ZERO;

    let mut waits = Vec::new();
    let mut calls = Vec::new();
    let started = cpu_time();
    for table in tables.iter().cycle().skip(1).take(6) {
        for (at, part) in table.bytes.chunks(scripted::CHUNK).enumerate() {
            let call = cpu_time();
            scripted.receive(2, part);
            calls.push(since(call));
            let host = if at % 2 == 0 { &announce } else { &withdraw };
            let asked = cpu_time();
            scripted.receive(1, host);
            scripted.transmit();
            waits.push(since(asked));
        }
    }
    let took = since(started);
    scripted.drain();
    for (name, times) in [("host route", &mut waits), ("one chunk", &mut calls)] {
        times.sort();
        let at = |percent: usize| ms(times[(times.len() - 1) * percent / 100]);
        println!(
            "churn       {name}: p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
            at(50),
            at(99),
            at(100)
        );
    }
    println!(
        "churn       {:.0} k routes/s, longest call {:.2} ms",
        6.0 * CHURNED as f64 / took.as_secs_f64() / 1e3,
        ms(scripted.longest)
    );
}

/// A host route comes and goes while a thousand peers have nothing to say.
fn peers() {
    const EVENTS: usize = 20_000;
    let mut dice = stream::Dice(9);
    let attributes = stream::attributes(&mut dice, 65_001, next_hop(1));
    let mut announce = Vec::new();
    stream::update(&mut announce, &attributes, &[(0xc633_6401, 32)]);
    let mut withdraw = Vec::new();
    stream::message(&mut withdraw, 2, &[0, 5, 32, 198, 51, 100, 1, 0, 0]);
    for count in [1, 1_000] {
        let mut scripted = Scripted::new(count);
        scripted.drain();
        let started = cpu_time();
        for at in 0..EVENTS {
            scripted.receive(1, if at % 2 == 0 { &announce } else { &withdraw });
            black_box(scripted.ask());
            scripted.transmit();
            black_box(scripted.ask());
        }
        let each = ms(since(started)) * 1e3 / EVENTS as f64;
        println!("peers       {count}: {each:.2} µs for a host route, in and out");
    }
}

fn since(started: Duration) -> Duration {
    cpu_time().saturating_sub(started)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Resident bytes of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap() * 4096
}
