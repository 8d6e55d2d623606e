//! The speaker's configuration as the rest uses it: read, checked, and free of text.
//!
//! Nothing is guessed: whatever a session could not run with, or a reader could misread, is an
//! error that names its line.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use isocast_bgp::limits::ADVERTISEMENTS_MAX;
use isocast_bgp::policy::{Policy, PolicyError, Term, Then};
use thiserror::Error;

use super::announcements::{Announcement, Owner};
use super::file::{Announce, DefaultAction, File, Kernel, Peer, PeerAsn, RoutePolicy};
use crate::bgp::{
    self, Asn, ConnectMode, DYNAMIC_PEERS_DEFAULT, ExportConfig, IMPORT_PREFIXES_DEFAULT,
    ImportConfig, KernelConfig, LearntRoutes, Md5Key, Md5KeyError, PeerAs, PeerConfig,
    SpeakerConfig, Transport,
};
use crate::model::{Bfd, Remote};

/// Largest file that is read.
const BYTES_MAX: u64 = 16 << 20;

/// Longest name of a peer: it labels metrics and log lines.
const NAME_BYTES_MAX: usize = 63;

/// Peers in one file.
const PEERS_MAX: usize = 1024;

/// What routes of the speaker's own are shown under, in place of a peer.
pub(super) const LOCAL: &str = "local";

/// A configuration that can be run.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) speaker: SpeakerConfig,
    pub(super) api: Option<SocketAddr>,
    pub(super) peers: Vec<PeerConfig>,
    pub(super) announcements: BTreeMap<IpNet, Announcement>,
}

/// A configuration that cannot.
#[derive(Debug, Error)]
pub(super) enum ConfigError {
    #[error("{}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}:{line}: {message}", path.display())]
    Invalid { path: PathBuf, line: usize, message: String },
}

/// What is wrong with a part of the file.
#[derive(Debug, Error)]
enum Flaw {
    #[error("{0}")]
    Announcement(#[from] super::announcements::Refusal),
    #[error("{prefix} is announced twice")]
    AnnouncedTwice { prefix: IpNet },
    #[error("more than {ADVERTISEMENTS_MAX} announcements")]
    Announcements,
    #[error(
        "peer {name}: bfd needs an interval-ms within 5 to 60000 and a multiplier within 2 to 50"
    )]
    Bfd { name: String },
    #[error("kernel: {0}")]
    Kernel(&'static str),
    #[error("peer {name}: max-peers is for a peer with a prefix")]
    MaxPeers { name: String },
    #[error("peer {name}: md5-password-file {}: {source}", path.display())]
    Md5File { name: String, path: PathBuf, source: io::Error },
    #[error("peer {name}: md5-password-file {}: {source}", path.display())]
    Md5Key { name: String, path: PathBuf, source: Md5KeyError },
    #[error("peer {name}: local-address {local} and the peer are not of one IP version")]
    LocalAddress { name: String, local: IpAddr },
    #[error(
        "{0:?} is not a peer's name: use 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ - (and not \"{LOCAL}\")"
    )]
    Name(String),
    #[error("more than {PEERS_MAX} peers")]
    Peers,
    #[error("peer {name}: {source}")]
    Policy { name: String, source: PolicyError },
    #[error("peer {name}: either an address or a prefix is needed")]
    Remote { name: String },
    #[error("peer {name}: {prefix} has bits beyond its length")]
    RemotePrefix { name: String, prefix: IpNet },
    #[error("peers {name} and {other} are the same: {what}")]
    SamePeer { name: String, other: String, what: String },
    #[error("peer {name}: {source}")]
    Session { name: String, source: bgp::ConfigError },
    #[error("peer {name}: nobody can connect: router.listen has no address of its IP version")]
    Unreachable { name: String },
}

// === impl Config ===

impl Config {
    /// Reads a file, and the password files it names.
    ///
    /// # Errors
    /// A file that cannot be read or is not a configuration.
    pub(super) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|(span, message)| {
            let line = line_of(&text, span.start);
            ConfigError::Invalid { path: path.into(), line, message }
        })
    }

    fn parse(text: &str) -> Result<Self, (Range<usize>, String)> {
        let file: File = toml::from_str(text).map_err(|error| {
            let message = error.message().trim_end().replace('\n', ", ");
            (error.span().unwrap_or_default(), message)
        })?;
        let at = |span: Range<usize>| move |flaw: Flaw| (span, flaw.to_string());
        let kernel = match file.kernel {
            None => None,
            Some(written) => {
                let span = written.span();
                kernel(&written.into_inner()).map_err(at(span))?
            }
        };
        let speaker = SpeakerConfig {
            listen: file.router.listen,
            kernel,
            ..SpeakerConfig::new(file.router.asn.get(), file.router.router_id)
        };
        let mut config = Self {
            speaker,
            api: file.api.map(|api| api.listen),
            peers: Vec::new(),
            announcements: BTreeMap::new(),
        };
        for peer in file.peer {
            let span = peer.span();
            config.add_peer(peer.into_inner()).map_err(at(span))?;
        }
        for announce in file.announce {
            let span = announce.span();
            config.add_announcement(announce.into_inner()).map_err(at(span))?;
        }
        Ok(config)
    }

    fn add_peer(&mut self, written: Peer) -> Result<(), Flaw> {
        if self.peers.len() >= PEERS_MAX {
            return Err(Flaw::Peers);
        }
        let name = written.name.clone();
        let peer = peer(written)?;
        let twin = |other: &&PeerConfig| other.name == peer.name || other.remote == peer.remote;
        if let Some(other) = self.peers.iter().find(twin) {
            let what = if other.name == name { "their name" } else { "their place" };
            return Err(Flaw::SamePeer { name, other: other.name.clone(), what: what.into() });
        }
        let is_ipv4 = is_ipv4(peer.remote);
        let listens = self.speaker.listen.iter().any(|address| address.is_ipv4() == is_ipv4);
        if peer.connect == ConnectMode::Passive && !listens {
            return Err(Flaw::Unreachable { name });
        }
        let checked = peer.check(&self.speaker);
        checked.map_err(|source| Flaw::Session { name, source })?;
        self.peers.push(peer);
        Ok(())
    }

    fn add_announcement(&mut self, written: Announce) -> Result<(), Flaw> {
        if self.announcements.len() >= ADVERTISEMENTS_MAX {
            return Err(Flaw::Announcements);
        }
        let (prefix, announcement) = Announcement::new(Owner::File, written)?;
        match self.announcements.insert(prefix, announcement) {
            Some(_) => Err(Flaw::AnnouncedTwice { prefix }),
            None => Ok(()),
        }
    }
}

/// Most next hops of one route.
const MULTIPATH_MAX: u8 = 64;

/// `RTPROT_STATIC`: it and those below belong to the kernel and to people.
const PROTOCOL_STATIC: u8 = 4;

/// `RT_TABLE_LOCAL`: what is addressed to this host.
const TABLE_LOCAL: u32 = 255;

fn kernel(written: &Kernel) -> Result<Option<KernelConfig>, Flaw> {
    let Kernel { install, table, metric, protocol, multipath_max, routes_max } = *written;
    if table.get() == TABLE_LOCAL {
        return Err(Flaw::Kernel("the local table (255) is the kernel's own"));
    }
    if protocol.get() <= PROTOCOL_STATIC {
        return Err(Flaw::Kernel("protocols up to 4 (static) mark routes of others"));
    }
    if multipath_max.get() > MULTIPATH_MAX {
        return Err(Flaw::Kernel("multipath-max is 64 at most"));
    }
    Ok(install.then_some(KernelConfig {
        table: table.get(),
        metric: metric.get(),
        protocol: protocol.get(),
        multipath_max: multipath_max.get().into(),
        routes_max: usize::try_from(routes_max.get()).unwrap_or(usize::MAX),
    }))
}

fn peer(written: Peer) -> Result<PeerConfig, Flaw> {
    let name = written.name.clone();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let length_fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if !length_fits || !name.bytes().all(allowed) || name == LOCAL {
        return Err(Flaw::Name(name));
    }
    let remote = remote(&written)?;
    let transport = transport(&written, remote)?;
    let bfd = written.bfd.map(|bfd| {
        let interval = Duration::from_millis(bfd.interval_ms.get().into());
        Bfd { interval, multiplier: bfd.multiplier, multihop: written.multihop.is_some() }
    });
    let sane = |bfd: &Bfd| {
        (5..=60_000).contains(&bfd.interval.as_millis()) && (2..=50).contains(&bfd.multiplier.get())
    };
    if bfd.as_ref().is_some_and(|bfd| !sane(bfd)) {
        return Err(Flaw::Bfd { name });
    }
    let dynamic = matches!(remote, Remote::Prefix(_));
    let connect = match written.passive || dynamic {
        true => ConnectMode::Passive,
        false => ConnectMode::Both,
    };
    let peer_as = match written.asn {
        PeerAsn::External => PeerAs::External,
        PeerAsn::Number(asn) => PeerAs::Number(Asn(asn.get())),
    };
    Ok(PeerConfig {
        port: written.port,
        peer_as,
        peers_max: written.max_peers.map_or(DYNAMIC_PEERS_DEFAULT, |max| max.get()),
        transport,
        next_hop_ipv4: written.next_hop_ipv4,
        next_hop_ipv6: written.next_hop_ipv6,
        families: written.families,
        hold_time: Duration::from_secs(written.hold_time_s.into()),
        connect_retry_max: Duration::from_secs(written.connect_retry_s.into()),
        graceful_restart: written.graceful_restart.map(|it| Duration::from_secs(it.time_s.into())),
        connect,
        import: import(&name, written.import)?,
        export: export(&name, written.export)?,
        role: written.role.map(Into::into),
        bfd,
        extended_next_hop: written.extended_next_hop,
        enforce_first_as: written.enforce_first_as,
        ..PeerConfig::new(name.as_str(), remote, 0)
    })
}

/// Without one: nothing (RFC 8212 §2).
fn import(name: &str, written: Option<RoutePolicy>) -> Result<ImportConfig, Flaw> {
    let Some(written) = written else { return Ok(ImportConfig::default()) };
    let prefixes_max = written.max_prefixes.map_or(IMPORT_PREFIXES_DEFAULT, NonZeroU32::get);
    Ok(ImportConfig { policy: policy(name, &written)?, ..bgp::accept_all(prefixes_max) })
}

/// Without one: our own announcements, each of which is an explicit wish.
fn export(name: &str, written: Option<RoutePolicy>) -> Result<ExportConfig, Flaw> {
    let Some(written) = written else { return Ok(bgp::own_announcements()) };
    Ok(ExportConfig {
        policy: policy(name, &written)?,
        learnt: LearntRoutes::Pass,
        prefixes_max: written.max_prefixes.map(NonZeroU32::get),
        ..ExportConfig::default()
    })
}

/// The terms, and what becomes of routes that none of them decides on.
fn policy(name: &str, written: &RoutePolicy) -> Result<Policy, Flaw> {
    let mut terms = written.policy.clone();
    match written.default {
        DefaultAction::Reject if terms.is_empty() => return Ok(Policy::reject_all()),
        DefaultAction::Accept if terms.is_empty() => return Ok(Policy::accept_all()),
        DefaultAction::Reject => {}
        DefaultAction::Accept => {
            terms.push(Term { name: "default".into(), then: Then::Accept, ..Term::default() });
        }
    }
    let compiled = Policy::compile(name, &terms);
    compiled.map_err(|source| Flaw::Policy { name: name.to_owned(), source })
}

fn remote(written: &Peer) -> Result<Remote, Flaw> {
    let name = || written.name.clone();
    match (written.address, written.prefix) {
        (Some(_), None) if written.max_peers.is_some() => Err(Flaw::MaxPeers { name: name() }),
        (Some(address), None) => Ok(Remote::Address(address.to_canonical())),
        (None, Some(prefix)) if prefix != prefix.trunc() => {
            Err(Flaw::RemotePrefix { name: name(), prefix })
        }
        (None, Some(prefix)) => Ok(Remote::Prefix(prefix)),
        _ => Err(Flaw::Remote { name: name() }),
    }
}

fn transport(written: &Peer, remote: Remote) -> Result<Transport, Flaw> {
    let name = || written.name.clone();
    if let Some(local) = written.local_address
        && local.is_ipv4() != is_ipv4(remote)
    {
        return Err(Flaw::LocalAddress { name: name(), local });
    }
    let md5 = match &written.md5_password_file {
        None => None,
        Some(path) => Some(md5_key(&name(), path)?),
    };
    Ok(Transport {
        local_address: written.local_address,
        multihop: written.multihop,
        ttl_security: written.ttl_security,
        md5,
    })
}

/// The first line of a file: editors end it with a newline that nobody means.
fn md5_key(name: &str, path: &Path) -> Result<Md5Key, Flaw> {
    let name = || name.to_owned();
    let text = read(path).map_err(|source| Flaw::Md5File {
        name: name(),
        path: path.to_owned(),
        source,
    })?;
    let password = text.lines().next().unwrap_or_default();
    Md5Key::new(password.as_bytes()).map_err(|source| Flaw::Md5Key {
        name: name(),
        path: path.to_owned(),
        source,
    })
}

const fn is_ipv4(remote: Remote) -> bool {
    match remote {
        Remote::Address(address) => address.is_ipv4(),
        Remote::Prefix(prefix) => matches!(prefix, IpNet::V4(_)),
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read_to_string(path)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: &str =
        "[router]\nasn = 65010\nrouter-id = '10.0.0.1'\nlisten = ['0.0.0.0:179']\n";

    fn parsed(rest: &str) -> Result<Config, String> {
        let text = format!("{ROUTER}{rest}");
        Config::parse(&text)
            .map_err(|(span, message)| format!("{}: {message}", line_of(&text, span.start)))
    }

    fn refused(rest: &str) -> String {
        parsed(rest).unwrap_err()
    }

    #[test]
    fn every_key_of_the_reference_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("tor1.md5");
        fs::write(&password, "secret\n").unwrap();
        let config = parsed(&format!(
            "[api]
listen = '127.0.0.1:9179'
[[peer]]
name = 'tor1'
address = '10.0.0.2'
asn = 65001
port = 1179
local-address = '10.0.0.1'
next-hop-ipv4 = '10.0.0.9'
next-hop-ipv6 = '2001:db8::1'
families = ['ipv4-unicast', 'ipv6-unicast']
passive = false
hold-time-s = 9
import = {{ default = 'accept', max-prefixes = 2000000 }}
export = {{ default = 'accept', max-prefixes = 1000 }}
bfd = {{ interval-ms = 50, multiplier = 3 }}
graceful-restart = {{ time-s = 30 }}
md5-password-file = '{}'
ttl-security = true
multihop = 2
role = 'customer'
extended-next-hop = false
enforce-first-as = false
[[peer]]
name = 'clients'
prefix = '10.1.0.0/24'
max-peers = 10
asn = 'external'
[[announce]]
prefix = '203.0.113.10/32'
next-hop = 'self'
communities = ['65010:100']
",
            password.display()
        ))
        .unwrap();

        assert_eq!(config.peers.len(), 2);
        assert_eq!(config.announcements.len(), 1);
        assert_eq!(config.peers[0].transport.md5, Some(Md5Key::new(b"secret").unwrap()));
        assert_eq!(config.peers[0].connect, ConnectMode::Both);
        assert_eq!(config.peers[1].connect, ConnectMode::Passive);
        assert_eq!(config.peers[1].peer_as, PeerAs::External);
    }

    #[test]
    fn routes_are_installed_only_where_asked_for() {
        let kernel = |rest: &str| parsed(rest).unwrap().speaker.kernel;
        let defaults = KernelConfig {
            table: 254,
            metric: 20,
            protocol: 186,
            multipath_max: 8,
            routes_max: 10_000,
        };

        assert_eq!(kernel(""), None);
        assert_eq!(kernel("[kernel]\ntable = 100\n"), None);
        assert_eq!(kernel("[kernel]\ninstall = true\n"), Some(defaults));
        let all = "[kernel]\ninstall = true\ntable = 100\nmetric = 30\nprotocol = 12\n\
                   multipath-max = 2\nroutes-max = 50\n";
        let chosen =
            KernelConfig { table: 100, metric: 30, protocol: 12, multipath_max: 2, routes_max: 50 };
        assert_eq!(kernel(all), Some(chosen));
        for wrong in ["table = 255", "table = 0", "protocol = 4", "multipath-max = 65", "color = 1"]
        {
            parsed(&format!("[kernel]\n{wrong}\n")).unwrap_err();
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        for (rest, line, key) in [
            ("color = 1\n", 5, "color"),
            (
                "[[peer]]\nname = 'a'\naddress = '10.0.0.2'\nasn = 1\nhold_time_s = 9\n",
                9,
                "hold_time_s",
            ),
            ("[[announce]]\nprefix = '192.0.2.1/32'\nmed = 1\n", 7, "med"),
            (
                "[[peer]]\nname = 'a'\nasn = 1\nbfd = { interval-ms = 50, multiplier = 3, x = 1 }\n",
                8,
                "x",
            ),
        ] {
            let refused = refused(rest);
            assert!(refused.starts_with(&format!("{line}: ")), "{refused}");
            assert!(refused.contains(&format!("`{key}`")), "{refused}");
        }
    }

    #[test]
    fn what_no_session_can_run_with_is_refused_with_its_line() {
        let peer = |rest: &str| format!("[[peer]]\nname = 'a'\nasn = 65001\n{rest}\n");
        let at = "address = '10.0.0.2'\n";
        for (rest, complaint) in [
            (peer(""), "either an address or a prefix"),
            (peer("address = '10.0.0.2'\nprefix = '10.0.0.0/24'"), "either an address or a prefix"),
            (peer("prefix = '10.0.0.1/24'"), "bits beyond its length"),
            (peer("prefix = '2001:db8::/64'"), "nobody can connect"),
            (peer(&format!("{at}hold-time-s = 2")), "hold time"),
            (peer(&format!("{at}connect-retry-s = 0")), "connect retry"),
            (peer(&format!("{at}connect-retry-s = 3601")), "connect retry"),
            (peer(&format!("{at}max-peers = 2")), "max-peers"),
            (peer(&format!("{at}local-address = '2001:db8::1'")), "not of one IP version"),
            (peer(&format!("{at}next-hop-ipv6 = '::1'")), "next hop"),
            (peer(&format!("{at}bfd = {{ interval-ms = 1, multiplier = 3 }}")), "interval-ms"),
            (peer(&format!("{at}graceful-restart = {{ time-s = 4096 }}")), "restart time"),
            (peer(&format!("{at}md5-password-file = '/nonexistent'")), "md5-password-file"),
            (format!("{}{}", peer(at), peer("address = '10.0.0.3'")), "the same"),
            (format!("[[peer]]\nname = 'local'\nasn = 65001\n{at}"), "not a peer's name"),
        ] {
            let refused = refused(&rest);
            let line: usize = refused.split_once(':').unwrap().0.parse().unwrap();
            assert!(line >= 5 && refused.contains(complaint), "{complaint}: {refused}");
        }
    }

    #[test]
    fn values_of_the_wrong_form_are_refused_at_their_own_line() {
        for (rest, line) in [
            ("[[peer]]\nname = 'a'\naddress = '10.0.0.2'\nasn = 'internal'\n", 8),
            ("[[peer]]\nname = 'a'\naddress = '10.0.0.2'\nasn = 0\n", 8),
            ("[[peer]]\nname = 'a'\naddress = '10.0.0.2'\nasn = 1\nfamilies = []\n", 9),
            ("[[peer]]\nname = 'a'\naddress = '10.0.0.2'\nasn = 1\nfamilies = ['vpnv4']\n", 9),
            ("[[peer]]\nname = 'a'\naddress = '10.0.0.2'\nasn = 1\nrole = 'friend'\n", 9),
            ("[[announce]]\nprefix = '192.0.2.1/24'\n", 6),
            ("[[announce]]\nprefix = '192.0.2.0/24'\nnext-hop = '127.0.0.1'\n", 7),
            ("[[announce]]\nprefix = '192.0.2.0/24'\ncommunities = ['x']\n", 7),
        ] {
            let refused = refused(rest);
            assert!(refused.starts_with(&format!("{line}: ")), "{refused}");
        }
    }

    #[test]
    fn terms_of_a_policy_are_read_with_the_keys_of_this_file() {
        let peer = |term: &str| {
            format!(
                "[[peer]]\nname = 'a'\naddress = '10.0.0.2'\nasn = 65001\nimport = {{ default = \
                 'accept', policy = [{{ name = 'far', {term}, then = 'Accept' }}] }}\n"
            )
        };

        let config =
            parsed(&peer("match = { as-path = { length-min = 9 } }, set = { local-pref = 50 }"));
        assert_eq!(config.unwrap().peers[0].import.policy.constant(), None);

        let refused = refused(&peer("match = { as-path = { longest = 9 } }"));
        assert!(refused.contains("longest"), "{refused}");
    }

    #[test]
    fn without_an_import_or_export_policy_there_is_none() {
        let config = parsed("[[peer]]\nname = 'a'\naddress = '10.0.0.2'\nasn = 65001\n").unwrap();

        assert_eq!(config.peers[0].import, ImportConfig::default());
        assert_eq!(config.peers[0].export, bgp::own_announcements());
    }
}
