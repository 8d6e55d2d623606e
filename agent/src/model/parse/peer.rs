//! From a peer's entry to a [`Peer`].

use std::{
    num::{NonZeroU8, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use isocast_api::agent::{self as wire, AddressFamily};
use isocast_bgp::policy::{Policy, builtin_export, builtin_import};

use super::{Refusal, address, filled, optional, parsed};
use crate::model::{Bfd, Connection, Families, MaxPrefixes, Peer, PeerRole, Reach, Remote};

/// Lowest hold time that is not "never" (RFC 4271 §4.2).
const HOLD_TIME_S_MIN: u32 = 3;

pub(super) fn peer(wire: &wire::BgpPeer) -> Result<Peer, Refusal> {
    let families = Families {
        ipv4: wire.families().any(|family| family == AddressFamily::Ipv4Unicast),
        ipv6: wire.families().any(|family| family == AddressFamily::Ipv6Unicast),
    };
    if !families.ipv4 && !families.ipv6 {
        return Err("families: at least one".into());
    }
    if wire.hold_time_s < HOLD_TIME_S_MIN {
        return Err(format!("hold_time_s: at least {HOLD_TIME_S_MIN}, not {}", wire.hold_time_s));
    }
    let restart = wire.graceful_restart_s;
    let remote = remote(wire)?;
    let connection = connection(wire.connection());
    Ok(Peer {
        uid: filled(&wire.uid, "uid")?.into(),
        name: wire.name.clone(),
        remote,
        connection,
        peer_asn: wire.peer_asn,
        local_address: optional(&wire.local_address, "local_address")?,
        next_hop_ipv4: optional(&wire.next_hop_ipv4, "next_hop_ipv4")?,
        next_hop_ipv6: optional(&wire.next_hop_ipv6, "next_hop_ipv6")?,
        families,
        hold_time: Duration::from_secs(wire.hold_time_s.into()),
        graceful_restart: (restart > 0).then(|| Duration::from_secs(restart.into())),
        bfd: wire.bfd.as_ref().map(bfd).transpose()?,
        role: role(wire.role()),
        reach: reach(wire)?,
        // Nobody can call a prefix.
        passive: wire.passive || matches!(remote, Remote::Prefix(_)),
        password_file: password_file(&wire.password_file)?,
        max_prefixes: MaxPrefixes {
            inbound: NonZeroU32::new(wire.max_prefixes_inbound),
            outbound: NonZeroU32::new(wire.max_prefixes_outbound),
        },
        extended_next_hop: wire.extended_next_hop,
        enforce_first_as: wire.enforce_first_as,
        import: policy(wire.import_policy.as_ref(), "import_policy")?
            .unwrap_or_else(|| builtin_import(connection)),
        export: policy(wire.export_policy.as_ref(), "export_policy")?
            .unwrap_or_else(|| builtin_export(connection)),
    })
}

fn policy(wire: Option<&wire::BgpPolicy>, field: &str) -> Result<Option<Policy>, Refusal> {
    let Some(wire) = wire else { return Ok(None) };
    let terms: Vec<_> = serde_json::from_str(&wire.terms)
        .map_err(|error| format!("{field}: {:?}: {error}", wire.name))?;
    let policy = Policy::compile(&wire.name, &terms);
    policy.map(Some).map_err(|error| format!("{field}: {:?}: {error}", wire.name))
}

fn remote(wire: &wire::BgpPeer) -> Result<Remote, Refusal> {
    match (wire.address.as_str(), wire.prefix.as_str()) {
        (text, "") => address(text, "address").map(Remote::Address),
        ("", text) => parsed(text, "prefix").map(Remote::Prefix),
        _ => Err("prefix: not beside address".into()),
    }
}

fn bfd(wire: &wire::Bfd) -> Result<Bfd, Refusal> {
    let multiplier = u8::try_from(wire.multiplier).ok().and_then(NonZeroU8::new);
    let multiplier =
        multiplier.ok_or_else(|| format!("bfd.multiplier: {} is not in 1–255", wire.multiplier))?;
    if wire.interval_ms == 0 {
        return Err("bfd.interval_ms: must be positive".into());
    }
    let interval = Duration::from_millis(wire.interval_ms.into());
    Ok(Bfd { interval, multiplier, multihop: wire.multihop })
}

fn reach(wire: &wire::BgpPeer) -> Result<Reach, Refusal> {
    let hops = u8::try_from(wire.multihop)
        .map_err(|_too_many| format!("multihop: {} is not in 0–255", wire.multihop))?;
    match (NonZeroU8::new(hops), wire.ttl_security) {
        (None, false) => Ok(Reach::Link),
        (None, true) => Ok(Reach::LinkProven),
        (Some(hops), false) => Ok(Reach::Hops(hops)),
        (Some(_), true) => Err("ttl_security: not beside multihop".into()),
    }
}

fn password_file(text: &str) -> Result<Option<PathBuf>, Refusal> {
    match text {
        "" => Ok(None),
        path if path.starts_with('/') => Ok(Some(path.into())),
        path => Err(format!("password_file: {path:?} is not an absolute path")),
    }
}

const fn connection(wire: wire::Connection) -> Connection {
    match wire {
        wire::Connection::Unspecified | wire::Connection::Fabric => Connection::Fabric,
        wire::Connection::Ixp => Connection::Ixp,
        wire::Connection::Pni => Connection::Pni,
        wire::Connection::RouteServer => Connection::RouteServer,
        wire::Connection::Transit => Connection::Transit,
    }
}

const fn role(wire: wire::PeerRole) -> Option<PeerRole> {
    match wire {
        wire::PeerRole::Unspecified => None,
        wire::PeerRole::Customer => Some(PeerRole::Customer),
        wire::PeerRole::Peer => Some(PeerRole::Peer),
        wire::PeerRole::Provider => Some(PeerRole::Provider),
        wire::PeerRole::RouteServer => Some(PeerRole::RouteServer),
        wire::PeerRole::RouteServerClient => Some(PeerRole::RouteServerClient),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> wire::BgpPeer {
        wire::BgpPeer {
            uid: "u".into(),
            address: "10.0.0.254".into(),
            peer_asn: 65001,
            families: vec![AddressFamily::Ipv4Unicast.into()],
            hold_time_s: 9,
            ..wire::BgpPeer::default()
        }
    }

    #[test]
    fn what_an_older_controller_leaves_out_is_as_before() {
        let peer = peer(&entry()).unwrap();

        assert_eq!(peer.remote, Remote::Address("10.0.0.254".parse().unwrap()));
        assert_eq!((peer.bfd, peer.role, peer.reach), (None, None, Reach::Link));
        assert_eq!((peer.passive, peer.password_file.is_some()), (false, false));
        assert_eq!(peer.max_prefixes, MaxPrefixes::default());
        assert_eq!(peer.connection, Connection::Fabric);
    }

    #[test]
    fn a_peer_has_the_policies_it_names_and_else_those_of_its_kind() {
        let policy = wire::BgpPolicy {
            name: "to-transit".into(),
            terms: r#"[{"name":"all","then":"Accept"}]"#.into(),
            ..wire::BgpPolicy::default()
        };
        let wire = wire::BgpPeer {
            connection: wire::Connection::Transit.into(),
            export_policy: Some(policy),
            ..entry()
        };

        let peer = peer(&wire).unwrap();

        assert_eq!(peer.import, builtin_import(Connection::Transit));
        assert_eq!(peer.export.name(), "to-transit");
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_refused_with_its_peer() {
        for terms in ["", r#"[{"name":"a","if":{}}]"#, r#"[{"name":""}]"#] {
            let policy = wire::BgpPolicy {
                name: "to-transit".into(),
                terms: terms.into(),
                ..wire::BgpPolicy::default()
            };
            let wire = wire::BgpPeer { export_policy: Some(policy), ..entry() };

            let refusal = peer(&wire).unwrap_err();

            assert!(refusal.starts_with("export_policy: \"to-transit\": "), "{refusal}");
        }
    }

    #[test]
    fn a_dynamic_peer_is_passive() {
        let wire =
            wire::BgpPeer { address: String::new(), prefix: "10.0.0.0/24".into(), ..entry() };

        let peer = peer(&wire).unwrap();

        assert_eq!(peer.remote, Remote::Prefix("10.0.0.0/24".parse().unwrap()));
        assert!(peer.passive);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let bfd = wire::Bfd { interval_ms: 50, multiplier: 3, multihop: false };
        let cases = [
            ("prefix", wire::BgpPeer { prefix: "10.0.0.0/24".into(), ..entry() }),
            ("address", wire::BgpPeer { address: String::new(), ..entry() }),
            ("ttl_security", wire::BgpPeer { ttl_security: true, multihop: 2, ..entry() }),
            ("multihop", wire::BgpPeer { multihop: 256, ..entry() }),
            ("password_file", wire::BgpPeer { password_file: "key".into(), ..entry() }),
            (
                "bfd.multiplier",
                wire::BgpPeer { bfd: Some(wire::Bfd { multiplier: 0, ..bfd }), ..entry() },
            ),
            (
                "bfd.interval_ms",
                wire::BgpPeer { bfd: Some(wire::Bfd { interval_ms: 0, ..bfd }), ..entry() },
            ),
            ("hold_time_s", wire::BgpPeer { hold_time_s: 2, ..entry() }),
            ("families", wire::BgpPeer { families: Vec::new(), ..entry() }),
        ];
        for (field, wire) in cases {
            let refusal = peer(&wire).unwrap_err();

            assert!(refusal.starts_with(&format!("{field}: ")), "{refusal}");
        }
    }
}
