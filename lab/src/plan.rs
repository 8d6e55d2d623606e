//! Names of what a topology becomes on this machine.
//!
//! A node is a network namespace. So is every link: its *wire*, in which two veth ends are joined
//! by a bridge, is where a cable can be cut without the interfaces under test noticing (their
//! carrier stays up, as with a real cut behind a switch).

use std::path::{Path, PathBuf};

use crate::{
    netns::Namespace,
    state::State,
    topology::{Endpoint, Topology},
};

/// Bridge in a wire's namespace.
pub(crate) const WIRE_BRIDGE: &str = "wire";
/// Bridge in the management namespace.
pub(crate) const MANAGEMENT_BRIDGE: &str = "mgmt";

/// A wire's end: which wire, and which of its two interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEnd {
    /// The wire.
    pub wire: Namespace,
    /// Interface in the wire's namespace.
    pub interface: String,
    /// The node's interface it is the peer of.
    pub endpoint: Endpoint,
    /// Of both.
    pub mtu: u32,
    /// Of the node's interface; a host that was off comes back with the same one.
    pub mac: String,
}

impl Topology {
    /// A node's namespace.
    #[must_use]
    pub fn node_namespace(&self, node: &str) -> Namespace {
        Namespace::named(format!("isol-{}-{node}", self.name))
    }

    /// Namespace of the management network's bridge.
    #[must_use]
    pub fn management_namespace(&self) -> Namespace {
        Namespace::named(format!("isolm-{}", self.name))
    }

    /// Namespace of the link at `index`.
    #[must_use]
    pub fn wire_namespace(&self, index: usize) -> Namespace {
        Namespace::named(format!("isolw-{}-{index}", self.name))
    }

    /// All namespaces of the lab.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Namespace> {
        let wires = (0..self.links.len()).map(|index| self.wire_namespace(index));
        let nodes = self.nodes.keys().map(|node| self.node_namespace(node));
        nodes.chain(wires).chain([self.management_namespace()]).collect()
    }

    /// The wire ends that belong to a node's interfaces.
    #[must_use]
    pub fn wire_ends(&self, node: &str) -> Vec<WireEnd> {
        let mut ends = Vec::new();
        for (index, link) in self.links_of(node) {
            for (side, endpoint) in link.endpoints.iter().enumerate() {
                if endpoint.node == node {
                    ends.push(WireEnd {
                        wire: self.wire_namespace(index),
                        interface: format!("end{side}"),
                        endpoint: endpoint.clone(),
                        mtu: link.mtu,
                        mac: mac(index, side),
                    });
                }
            }
        }
        ends
    }

    /// A node's port on the management bridge.
    #[must_use]
    pub fn management_port(&self, node: &str) -> String {
        let index = self.nodes.keys().position(|name| name == node).unwrap_or(self.nodes.len());
        format!("port{index}")
    }

    /// Folder of a node's files: configuration, state, logs.
    #[must_use]
    pub fn node_folder(&self, node: &str) -> PathBuf {
        State::folder(&self.name).join("nodes").join(node)
    }

    /// Folder of an FRR node's sockets, which FRR derives from its pathspace.
    #[must_use]
    pub fn frr_folder(&self, node: &str) -> PathBuf {
        Path::new("/var/run/frr").join(self.node_namespace(node).name())
    }

    /// Folder in bpffs of everything that the lab's agents pin.
    #[must_use]
    pub fn pin_folder(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/isocast-lab").join(&self.name)
    }
}

/// Locally administered, unique within the lab.
fn mac(link: usize, side: usize) -> String {
    format!("02:1c:00:{:02x}:{:02x}:{side:02x}", (link >> 8) & 0xff, link & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::INTERFACE_NAME_CHARS_MAX;

    fn two_dc() -> Topology {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/two-dc.clab.yml");
        Topology::read(&path).unwrap()
    }

    #[test]
    fn every_namespace_has_a_name_of_its_own() {
        let mut names = two_dc().namespaces();
        let count = names.len();

        names.sort();
        names.dedup();

        assert_eq!(names.len(), count);
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let topology = two_dc();
        for node in topology.nodes.keys() {
            let ends = topology.wire_ends(node);
            let names = ends.iter().map(|end| end.interface.len());

            for chars in names.chain([topology.management_port(node).len()]) {
                assert!(chars <= INTERFACE_NAME_CHARS_MAX);
            }
        }
    }

    #[test]
    fn both_ends_of_a_link_meet_in_one_wire() {
        let topology = two_dc();

        let transit = topology.wire_ends("tr-ams");
        let user = topology.wire_ends("cl-ams");

        let ours = transit.iter().find(|end| end.endpoint.interface == "eth3").unwrap();
        assert_eq!(ours.wire, user[0].wire);
        assert_ne!((&ours.interface, &ours.mac), (&user[0].interface, &user[0].mac));
    }
}
