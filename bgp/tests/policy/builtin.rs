//! What the policies let pass that hold where none is named.

use isocast_bgp::policy::{Connection, Source, Verdict, builtin_export, builtin_import};

use super::{context, judged, net, route};

const ALL: [Connection; 5] = [
    Connection::Fabric,
    Connection::Ixp,
    Connection::Pni,
    Connection::RouteServer,
    Connection::Transit,
];

/// The term that judges a route, and whether it passes.
fn import(
    connection: Connection,
    prefix: &str,
    path: &[u32],
    communities: &[&str],
) -> (bool, String) {
    let policy = builtin_import(connection);
    let context = context(connection, Source::Learned);
    let verdict = policy.evaluate(net(prefix), &route(path, communities), &context);
    let (passes, term) = judged(&verdict);
    (passes, term.to_owned())
}

#[test]
fn an_ordinary_route_is_taken_from_everybody() {
    for connection in ALL {
        for prefix in ["8.8.8.0/24", "1.0.0.0/8", "2606:4700::/32", "2a00::/48"] {
            let verdict = import(connection, prefix, &[3356, 15_169], &["3356:1"]);
            assert_eq!(verdict, (true, "rest".into()), "{prefix} from {connection:?}");
        }
    }
}

#[test]
fn our_own_space_and_what_no_host_has_are_taken_from_nobody() {
    for connection in ALL {
        for (prefix, term) in [
            ("127.0.0.0/24", "unusable"),
            ("224.0.0.0/24", "unusable"),
            ("0.0.0.0/8", "unusable"),
            ("fe80::/64", "unusable"),
            ("192.0.2.0/24", "own-space"),
            ("192.0.2.128/25", "own-space"),
            ("2001:db8:1::/48", "own-space"),
        ] {
            let verdict = import(connection, prefix, &[3356], &[]);
            assert_eq!(verdict, (false, term.into()), "{prefix} from {connection:?}");
        }
    }
}

#[test]
fn what_has_no_place_on_the_internet_is_taken_from_the_fabric_only() {
    let long = vec![3356; 65];
    let cases: [(&str, &[u32], &[&str], &str); 17] = [
        ("10.1.0.0/16", &[3356], &[], "special"),
        ("100.64.0.0/16", &[3356], &[], "special"),
        ("198.51.100.0/24", &[3356], &[], "special"),
        ("fc00::/32", &[3356], &[], "special"),
        ("4000::/16", &[3356], &[], "special"),
        ("2002::/16", &[3356], &[], "special"),
        ("0.0.0.0/0", &[3356], &[], "length"),
        ("::/0", &[3356], &[], "length"),
        ("8.0.0.0/7", &[3356], &[], "length"),
        ("8.8.8.8/32", &[3356], &[], "length"),
        ("8.8.8.0/25", &[3356], &[], "length"),
        ("2606:4700::/49", &[3356], &[], "length"),
        ("8.8.8.0/24", &[3356, 64_512], &[], "reserved-as"),
        ("8.8.8.0/24", &[23_456, 3356], &[], "reserved-as"),
        ("8.8.8.0/24", &[3356, 4_200_000_000], &[], "reserved-as"),
        ("8.8.8.0/24", &long, &[], "long-path"),
        ("8.8.8.0/24", &[3356], &["blackhole"], "blackhole"),
    ];
    for (prefix, path, communities, term) in cases {
        for connection in ALL {
            let verdict = import(connection, prefix, path, communities);
            let expected = if connection == Connection::Fabric {
                (true, "rest".into())
            } else {
                (false, term.into())
            };
            assert_eq!(verdict, expected, "{prefix} {path:?} from {connection:?}");
        }
    }
}

#[test]
fn a_route_to_a_router_that_goes_down_is_the_last_resort() {
    for connection in ALL {
        let policy = builtin_import(connection);
        let mut route = route(&[3356], &["graceful-shutdown"]);
        let context = context(connection, Source::Learned);
        let verdict = policy.evaluate(net("8.8.8.0/24"), &route, &context);
        let Verdict::Accept { edits, .. } = verdict else { unreachable!() };

        edits.apply(&mut route);

        assert_eq!(route.local_pref, Some(0));
    }
}

#[test]
fn nobody_is_told_anything_but_our_own_routes_in_our_own_space() {
    for connection in ALL {
        let policy = builtin_export(connection);
        let export = |prefix, source| {
            let (route, context) = (route(&[], &[]), context(connection, source));
            policy.evaluate(net(prefix), &route, &context).is_accept()
        };

        assert!(export("192.0.2.7/32", Source::Own));
        assert!(export("2001:db8::7/128", Source::Own));
        assert!(!export("192.0.2.7/32", Source::Learned));
        assert!(!export("192.0.3.7/32", Source::Own));
        assert!(!export("8.8.8.0/24", Source::Learned));
    }
}

#[test]
fn each_has_a_name_of_its_own() {
    let names = ALL.iter().flat_map(|it| [builtin_import(*it), builtin_export(*it)]);
    let names: std::collections::BTreeSet<_> = names.map(|it| it.name().to_owned()).collect();

    assert_eq!(names.len(), 10);
    assert!(names.contains("builtin-import-route-server"));
    assert!(!names.contains("reject-all"));
}
