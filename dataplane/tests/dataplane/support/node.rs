//! A node with one uplink and a router whose address is known beforehand, and its data plane.

use std::{net::IpAddr, path::PathBuf, process};

use isocast_dataplane::{
    Accept, Action, Backend, BackendKey, Config, Counters, Dataplane, Encap, FlowKey, KeyTag,
    Keyring, Mode, Opened, Outcome, PASS_ON_PER_SECOND, PacketRules, Protocol, Ring, Roles,
    ServiceKey, Tables, Traced, Unresolved, Uplink, Vip, detach,
};
use isocast_dataplane_common::{NO_CHAIN, RING_SLOTS_MIN, Slot};

use super::{
    Namespace,
    packet::{self, RETURNS, SECOND_HOP, Tunnel, encapsulate, hops},
    wait_for,
};

/// The tag that is sent, and one that is believed besides.
pub(crate) const KEY_TAG: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
pub(crate) const OTHER_KEY_TAG: [u8; 4] = [0x55, 0x66, 0x77, 0x88];
pub(crate) const TENANT: u32 = 0x00_ab_cd;
pub(crate) const UPLINK: &str = "up0";
/// This node's own addresses.
pub(crate) const OWN_V4: &str = "10.0.0.1";
pub(crate) const OWN_V6: &str = "2001:db8:a::1";

/// A namespace with an uplink, a default router, and a folder for pins.
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    pub(crate) pin_dir: PathBuf,
}

impl Node {
    pub(crate) fn new(part: &str) -> Self {
        let namespace = Namespace::new(part);
        for command in [
            "ip link add up0 mtu 1600 type veth peer name far0".to_owned(),
            "ip link set far0 up".to_owned(),
            "ip link set up0 up".to_owned(),
            format!("ip addr add {OWN_V4}/24 dev up0"),
            format!("ip addr add {OWN_V6}/64 dev up0 nodad"),
            "ip neigh add 10.0.0.254 lladdr 02:00:00:00:00:fe dev up0 nud permanent".to_owned(),
            "ip neigh add 2001:db8:a::fe lladdr 02:00:00:00:00:fe dev up0 nud permanent".to_owned(),
            "ip route add default via 10.0.0.254".to_owned(),
            "ip -6 route add default via 2001:db8:a::fe".to_owned(),
        ] {
            namespace.run(&command);
        }
        let pin_dir =
            PathBuf::from(format!("/sys/fs/bpf/isocast-test/dp-{}/{part}", process::id()));
        Self { namespace, pin_dir }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            pin_dir: self.pin_dir.clone(),
            uplinks: vec![Uplink { interface: UPLINK.to_owned(), mode: Mode::Native, mtu: None }],
            tunnel_addresses: vec![address(OWN_V4), address(OWN_V6)],
            roles: Roles { edge: true, backend: true },
            pass_on_per_second: PASS_ON_PER_SECOND,
        }
    }

    /// Makes the pinned tables those of a version with another layout; where they are now.
    pub(crate) fn change_layout(&self) -> PathBuf {
        let pins = std::fs::read_dir(&self.pin_dir).expect("pins");
        let mut pins = pins.map(|entry| entry.expect("entry").path());
        let tables = pins.find(|path| path.join("GENERATION").exists()).expect("tables");
        let older = self.pin_dir.join("0123456789abcdef");
        std::fs::rename(tables, &older).expect("as if of another version");
        older
    }

    /// Runs `body` inside, with the data plane opened and `tables` in force.
    pub(crate) fn with_tables<T: Send>(
        &self,
        tables: &Tables,
        body: impl FnOnce(&mut Bench) -> T + Send,
    ) -> T {
        self.namespace.enter(|| {
            let mut bench = Bench::open(self.config()).0;
            bench.dataplane.apply(tables).expect("tables");
            bench.settle(tables);
            body(&mut bench)
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _removed = detach(&self.pin_dir);
        let _removed = self.pin_dir.parent().map(std::fs::remove_dir);
    }
}

/// A data plane with fixtures run through it.
pub(crate) struct Bench {
    pub(crate) dataplane: Dataplane,
    pub(crate) mac: [u8; 6],
}

impl Bench {
    pub(crate) fn open(config: Config) -> (Self, Opened) {
        let (dataplane, opened) = Dataplane::open(config).expect("data plane (needs root, bpffs)");
        let link = super::run(&format!("ip -o link show {UPLINK}"));
        let text = link.split("link/ether ").nth(1).expect("a MAC address");
        let mut mac = [0; 6];
        for (octet, text) in mac.iter_mut().zip(text.split([':', ' '])) {
            *octet = u8::from_str_radix(text, 16).expect("hexadecimal");
        }
        (Self { dataplane, mac }, opened)
    }

    /// Waits until the next hops of all backends and sources were looked up: the machine may be busy.
    pub(crate) fn settle(&self, tables: &Tables) {
        let settled = wait_for(&mut self.dataplane.next_hops(), |next_hops| {
            let backends = tables.edge.backends.iter().map(|backend| &backend.tunnel_address);
            backends.chain(&tables.decap.sources).all(|address| {
                let next_hop = next_hops.get(address);
                next_hop.is_some_and(|next_hop| *next_hop != Err(Unresolved::Pending))
            })
        });
        assert!(settled, "next hops were never looked up");
    }

    /// Runs one IP packet through the program, as sent by the router.
    pub(crate) fn arrive(&self, packet: &[u8]) -> Traced {
        let frame = packet::ethernet(self.mac, packet::ROUTER_MAC, packet);
        self.dataplane.trace(&frame, UPLINK, 1).expect("test run")
    }

    /// Runs one packet; says which counted outcomes it had, and the verdict.
    pub(crate) fn outcome_of(&self, packet: &[u8]) -> (Action, Vec<Outcome>) {
        let before = self.counters();
        let traced = self.arrive(packet);
        let after = self.counters();
        let counted = after.outcomes.iter().filter(|(outcome, n)| before.outcomes[outcome] != **n);
        (traced.action, counted.map(|(outcome, _)| *outcome).collect())
    }

    pub(crate) fn counters(&self) -> Counters {
        self.dataplane.counters().expect("counters")
    }

    /// The frame that leaves by the uplink with `packet` in it.
    pub(crate) fn leaving(&self, packet: &[u8]) -> Vec<u8> {
        packet::ethernet(packet::ROUTER_MAC, self.mac, packet)
    }

    /// What arrives in one tunnel leaves in the other.
    pub(crate) fn assert_leaves(&self, arriving: &Tunnel, inner: &[u8], leaving: &Tunnel) {
        let traced = self.arrive(&encapsulate(arriving, inner));
        let mut wanted = self.leaving(&encapsulate(leaving, inner));
        if leaving.destination.is_ipv6() {
            // The flow label is the entropy of the source port.
            wanted[16..18].copy_from_slice(&leaving.source_port.to_be_bytes());
        }
        assert_eq!((traced.action, traced.packet), (Action::Transmit, wanted), "{arriving:?}");
    }

    /// Packets of a flow that this host would rather not have go to the `others` in turn, and at last
    /// come back here, or where they come back to already.
    pub(crate) fn assert_goes_round(&self, edge: &str, others: [&str; 3], packets: &[&[u8]]) {
        for count in 1..=others.len() {
            let arriving = tunnel_from(edge, &others[..count]);
            let own = arriving.destination.to_string();
            let mut rest = others[1..count].to_vec();
            let passed_on = Tunnel {
                source: arriving.destination,
                destination: address(others[0]),
                flags: SECOND_HOP | RETURNS,
                hops: hops(&rest),
                ..arriving
            };
            rest.push(&own);
            let returning = Tunnel { hops: hops(&rest), ..passed_on };
            let again = Tunnel { flags: SECOND_HOP | RETURNS, ..arriving };
            for inner in packets {
                self.assert_leaves(&arriving, inner, &returning);
                self.assert_leaves(&again, inner, &passed_on);
            }
        }
    }
}

/// What a node at `source` puts packets into that it sends here, with these further hops.
pub(crate) fn tunnel_from(source: &str, further: &[&str]) -> Tunnel {
    let source = address(source);
    Tunnel {
        source,
        destination: address(if source.is_ipv4() { OWN_V4 } else { OWN_V6 }),
        source_port: 50_000,
        tenant: TENANT,
        flags: 0,
        key_tag: KEY_TAG,
        hops: hops(further),
        class: 0,
    }
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

pub(crate) fn keys() -> Keyring {
    Keyring {
        sent: KeyTag(KEY_TAG),
        believed: [KEY_TAG, OTHER_KEY_TAG].map(KeyTag),
        flow: FlowKey([7; 16]),
        other_flows: Vec::new(),
    }
}

/// Tables of nothing but keys.
pub(crate) fn bare() -> Tables {
    Tables { keys: keys(), ..Tables::default() }
}

pub(crate) fn vip(text: &str, protocol: Protocol, port: u16) -> Vip {
    Vip {
        address: address(text),
        protocol,
        port,
        tenant: TENANT,
        ring: 0,
        service: ServiceKey("www".into()),
        rules: PacketRules::default(),
    }
}

pub(crate) fn accept(text: &str, protocol: Protocol, port: u16) -> Accept {
    let rules = PacketRules::default();
    Accept { tenant: TENANT, address: address(text), protocol, port, rules }
}

pub(crate) fn backend(key: &str, tunnel_address: &str) -> Backend {
    let tunnel_address = address(tunnel_address);
    Backend { key: BackendKey(key.into()), tunnel_address, encap: Encap::Gue }
}

/// A ring whose slots are all alike: a backend, and those that may have its flows otherwise.
pub(crate) fn ring(current: u16, chain: &[u16]) -> Ring {
    let slot = Slot { current, chain: if chain.is_empty() { NO_CHAIN } else { 0 } };
    Ring::chained([slot; RING_SLOTS_MIN], &[chain.to_vec()])
}

/// One service on both families and protocols, at one backend.
pub(crate) fn one_service(backend_address: &str) -> Tables {
    let mut tables = bare();
    for text in ["192.0.2.10", "2001:db8:f::10"] {
        tables.edge.vips.push(vip(text, Protocol::Tcp, 443));
        tables.edge.vips.push(vip(text, Protocol::Udp, 53));
    }
    tables.edge.backends.push(backend("b1", backend_address));
    tables.edge.rings.push(ring(0, &[]));
    tables
}
