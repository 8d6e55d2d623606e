//! The policies that hold where none is named: what MANRS asks of a network, by kind of neighbour.
//!
//! | import from | Fabric | IXP, PNI, RouteServer, Transit |
//! |---|---|---|
//! | prefixes no host on a network has | rejected | rejected |
//! | private, documentation, benchmark and other special prefixes (RFC 6890) | | rejected |
//! | our own space | rejected | rejected |
//! | longer than /24, /48; shorter than /8, /16; default routes | | rejected |
//! | reserved AS numbers or more than 64 hops in the path | | rejected |
//! | BLACKHOLE (RFC 7999): nobody has that right | | rejected |
//! | GRACEFUL_SHUTDOWN (RFC 8326) | LOCAL_PREF 0 | LOCAL_PREF 0 |
//! | what is left | accepted | accepted |
//!
//! Export, to all: our own routes inside our own space; nothing else.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Policy;
use super::community::CommunityPattern;
use super::term::{AsPathMatch, Connection, Match, PrefixRange, Set, Source, Term, Then};
use crate::wire::community::Community;

/// Longest believable path; real ones stay below 40 hops.
const PATH_HOPS_MAX: u16 = 64;

/// What no host on any network has: this network, loopback, link-local, multicast, reserved.
const UNUSABLE: [IpNet; 8] = [
    v4([0, 0, 0, 0], 8),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([224, 0, 0, 0], 3),
    v6([0, 0], 8),
    v6([0xfe80, 0], 10),
    v6([0xfec0, 0], 10),
    v6([0xff00, 0], 8),
];

/// What no host on the Internet has: private, shared, documentation, benchmark and protocol space
/// (RFC 6890, RFC 9637), and IPv6 that is not global unicast (2000::/3).
const SPECIAL: [IpNet; 22] = [
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v6([0, 0], 3),
    v6([0x4000, 0], 2),
    v6([0x8000, 0], 1),
    v6([0x2001, 0], 32),
    v6([0x2001, 0x2], 48),
    v6([0x2001, 0x10], 28),
    v6([0x2001, 0x20], 28),
    v6([0x2001, 0xdb8], 32),
    v6([0x2002, 0], 16),
    v6([0x3ffe, 0], 16),
    v6([0x3fff, 0], 20),
    v6([0x5f00, 0], 16),
];

/// The policy for routes from such a neighbour.
#[must_use]
pub fn builtin_import(connection: Connection) -> Policy {
    let own = Match { own_space: Some(true), ..Match::default() };
    let mut terms = vec![
        reject("unusable", prefixes(UNUSABLE.map(PrefixRange::or_longer))),
        reject("own-space", own),
    ];
    if connection != Connection::Fabric {
        terms.extend(internet());
    }
    terms.push(Term {
        name: "graceful-shutdown".into(),
        when: carries(Community::GRACEFUL_SHUTDOWN),
        // RFC 8326 §4: the last resort, as long as there is no other.
        set: Set { local_pref: Some(0), ..Set::default() },
        then: Then::Next,
    });
    terms.push(Term { name: "rest".into(), then: Then::Accept, ..Term::default() });
    named("import", connection, &terms)
}

/// The policy for routes to such a neighbour.
#[must_use]
pub fn builtin_export(connection: Connection) -> Policy {
    let when = Match { source: Some(Source::Own), own_space: Some(true), ..Match::default() };
    let own = Term { name: "own-routes".into(), when, then: Then::Accept, ..Term::default() };
    named("export", connection, &[own])
}

/// What is not taken from any network but our own.
fn internet() -> [Term; 5] {
    let range = |prefix, ge, le| PrefixRange { prefix, ge: Some(ge), le: Some(le) };
    let (all_v4, all_v6) = (v4([0, 0, 0, 0], 0), v6([0, 0], 0));
    let long_path =
        AsPathMatch { length_min: PATH_HOPS_MAX.checked_add(1), ..AsPathMatch::default() };
    let reserved = AsPathMatch { reserved: Some(true), ..AsPathMatch::default() };
    let on_path = |as_path| Match { as_path, ..Match::default() };
    [
        reject("special", prefixes(SPECIAL.map(PrefixRange::or_longer))),
        reject(
            "length",
            prefixes([
                range(all_v4, 0, 7),
                range(all_v4, 25, 32),
                range(all_v6, 0, 15),
                range(all_v6, 49, 128),
            ]),
        ),
        reject("reserved-as", on_path(reserved)),
        reject("long-path", on_path(long_path)),
        reject("blackhole", carries(Community::BLACKHOLE)),
    ]
}

fn named(direction: &str, connection: Connection, terms: &[Term]) -> Policy {
    let kind = match connection {
        Connection::Fabric => "fabric",
        Connection::Ixp => "ixp",
        Connection::Pni => "pni",
        Connection::RouteServer => "route-server",
        Connection::Transit => "transit",
    };
    let name = format!("builtin-{direction}-{kind}");
    // A term that could not be compiled would let nothing pass; the tests below see to it.
    Policy::compile(&name, terms).unwrap_or_else(|_invalid| Policy::reject_all())
}

fn reject(name: &str, when: Match) -> Term {
    Term { name: name.into(), when, then: Then::Reject, ..Term::default() }
}

fn prefixes(ranges: impl Into<Vec<PrefixRange>>) -> Match {
    Match { prefixes: ranges.into(), ..Match::default() }
}

fn carries(community: Community) -> Match {
    let pattern = CommunityPattern::Standard { mask: u32::MAX, value: community.0 };
    Match { communities: vec![pattern], ..Match::default() }
}

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), length))
}

const fn v6([a, b]: [u16; 2], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length))
}
