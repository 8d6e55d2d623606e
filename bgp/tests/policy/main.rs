//! Policies against a naive reading of the same terms, and what the built-in ones let pass.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod builtin;
mod limits;
mod naive;
mod path_patterns;
mod properties;
mod verdicts;

use std::sync::LazyLock;

use ipnet::IpNet;
use isocast_bgp::{
    guard::ExportGuard,
    policy::{Connection, Context, Match, Policy, Set, Source, Term, Then, Verdict},
    types::{Asn, PeerKind},
    wire::{as_path::AsPath, attribute::PathAttributes, community::Communities},
};

/// The space that the speaker under test may announce.
static OWN: LazyLock<ExportGuard> =
    LazyLock::new(|| ExportGuard::new(["192.0.2.0/24", "2001:db8::/32"].map(net)));

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn context(connection: Connection, source: Source) -> Context<'static> {
    Context {
        local_asn: Asn(65010),
        connection,
        peer_kind: PeerKind::External,
        source,
        next_hop: None,
        own_space: &OWN,
    }
}

fn route(path: &[u32], communities: &[&str]) -> PathAttributes {
    PathAttributes {
        as_path: AsPath(path.iter().copied().map(Asn).collect()),
        communities: Communities::parse(communities.iter().copied()).unwrap(),
        ..PathAttributes::default()
    }
}

fn term(name: &str, when: Match, set: Set, then: Then) -> Term {
    Term { name: name.into(), when, set, then }
}

fn policy(terms: &[Term]) -> Policy {
    Policy::compile("test", terms).unwrap()
}

/// Whether a route passes, and the term that said so.
fn judged<'a>(verdict: &'a Verdict<'_>) -> (bool, &'a str) {
    (verdict.is_accept(), verdict.term())
}
