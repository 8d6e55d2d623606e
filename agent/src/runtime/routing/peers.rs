//! From the model's peers to the driver's.

use std::{fs, io, num::NonZeroU32, path::PathBuf};

use thiserror::Error;

use crate::{
    bgp::{
        ConnectMode, ExportConfig, FamilySet, ImportConfig, LearntRoutes, Md5Key, Md5KeyError,
        OverLimit, PeerConfig, PrefixLimit, Role, Transport,
    },
    model::{MaxPrefixes, Peer, PeerRole, Reach, Remote},
};

/// Prefixes of a family taken from a peer whose limit nobody set. What is beyond is ignored: a
/// router that sends a full table to an edge is no reason to stop announcing to it.
const PREFIXES_DEFAULT: u32 = 10_000;

/// A peer that cannot be spoken with, because it could not be spoken with safely.
#[derive(Debug, Error)]
pub(super) enum PasswordError {
    #[error("peer {name}: password file {}", path.display())]
    File {
        name: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("peer {name}: password file {}", path.display())]
    Key {
        name: String,
        path: PathBuf,
        #[source]
        source: Md5KeyError,
    },
}

/// The driver's form of a peer. Reads its password file.
///
/// # Errors
/// A password that cannot be read: without it the session would be open to anybody.
pub(super) fn peer_config(peer: &Peer) -> Result<PeerConfig, PasswordError> {
    let multihop = match peer.reach {
        Reach::Hops(hops) => Some(hops),
        Reach::Link | Reach::LinkProven => None,
    };
    let transport = Transport {
        local_address: peer.local_address,
        multihop,
        ttl_security: peer.reach == Reach::LinkProven,
        md5: password(peer)?,
    };
    let MaxPrefixes { inbound, outbound } = peer.max_prefixes;
    let limit = match inbound {
        Some(max) => PrefixLimit { prefixes_max: max.get(), over: OverLimit::EndSession },
        None => PrefixLimit { prefixes_max: PREFIXES_DEFAULT, over: OverLimit::Ignore },
    };
    let passive = peer.passive || is_dynamic(peer);
    Ok(PeerConfig {
        name: peer.name.clone(),
        transport,
        next_hop_ipv4: peer.next_hop_ipv4,
        next_hop_ipv6: peer.next_hop_ipv6,
        families: FamilySet { ipv4: peer.families.ipv4, ipv6: peer.families.ipv6 },
        extended_next_hop: peer.extended_next_hop,
        hold_time: peer.hold_time,
        graceful_restart: peer.graceful_restart,
        connect: if passive { ConnectMode::Passive } else { ConnectMode::Active },
        connection: peer.connection,
        role: peer.role.map(Into::into),
        enforce_first_as: peer.enforce_first_as,
        import: ImportConfig { policy: peer.import.clone(), limit, blackhole: false },
        export: ExportConfig {
            policy: peer.export.clone(),
            learnt: LearntRoutes::Withhold,
            prefixes_max: outbound.map(NonZeroU32::get),
            next_hop: None,
        },
        bfd: peer.bfd,
        ..PeerConfig::new(peer.uid.clone(), peer.remote, peer.peer_asn)
    })
}

/// Whether such peers open their connections themselves.
pub(super) const fn is_dynamic(peer: &Peer) -> bool {
    matches!(peer.remote, Remote::Prefix(_))
}

/// The first line of the file: editors end it with a newline that nobody means.
fn password(peer: &Peer) -> Result<Option<Md5Key>, PasswordError> {
    let Some(path) = &peer.password_file else { return Ok(None) };
    let (name, path) = (peer.name.clone(), path.clone());
    match fs::read_to_string(&path) {
        Err(source) => Err(PasswordError::File { name, path, source }),
        Ok(text) => Md5Key::new(text.lines().next().unwrap_or_default().as_bytes())
            .map(Some)
            .map_err(|source| PasswordError::Key { name, path, source }),
    }
}

impl From<PeerRole> for Role {
    fn from(role: PeerRole) -> Self {
        match role {
            PeerRole::Customer => Self::Customer,
            PeerRole::Peer => Self::Peer,
            PeerRole::Provider => Self::Provider,
            PeerRole::RouteServer => Self::RouteServer,
            PeerRole::RouteServerClient => Self::RouteServerClient,
        }
    }
}
