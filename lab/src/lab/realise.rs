//! Namespaces, interfaces and files: a topology's parts, one by one.

use std::path::PathBuf;

use isocast_dataplane::pass;

use super::{Lab, LabError, file_error};
use crate::{
    command,
    netns::Namespace,
    plan::{MANAGEMENT_BRIDGE, WIRE_BRIDGE, WireEnd},
    programs,
    topology::{MANAGEMENT_INTERFACE, Node},
};

impl Lab {
    pub(super) fn make_management(&self) -> Result<(), LabError> {
        let namespace = self.topology.management_namespace();
        namespace.create()?;
        let subnet = self.topology.management.subnet;
        let Some(address) = subnet.hosts().next() else { return Ok(()) };
        let length = subnet.prefix_len();
        namespace.ip(&format!(
            "link add name {MANAGEMENT_BRIDGE} type bridge mcast_snooping 0\n\
             address add {address}/{length} dev {MANAGEMENT_BRIDGE}\n\
             link set dev {MANAGEMENT_BRIDGE} up\n"
        ))?;
        Ok(())
    }

    pub(super) fn make_wire(&self, index: usize) -> Result<(), LabError> {
        let namespace = self.topology.wire_namespace(index);
        namespace.create()?;
        // A wire speaks for nobody: no addresses, no neighbour discovery of its own.
        write_sysctls(&namespace, [("net.ipv6.conf.default.disable_ipv6", "1")])?;
        namespace.ip(&format!(
            "link add name {WIRE_BRIDGE} type bridge mcast_snooping 0\n\
             link set dev {WIRE_BRIDGE} up\n"
        ))?;
        Ok(())
    }

    pub(super) fn make_node(&self, node: &Node) -> Result<(), LabError> {
        let files = |source| LabError::File { what: format!("files of {}", node.name), source };
        programs::prepare_files(&self.topology, node).map_err(files)?;
        let namespace = self.topology.node_namespace(&node.name);
        namespace.create()?;
        // Before there are interfaces, which take their defaults from here.
        let sysctls = node.sysctls.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        write_sysctls(&namespace, sysctls)?;
        self.connect_management(node, &namespace)?;
        for end in self.topology.wire_ends(&node.name) {
            connect_wire(&end, node, &namespace)?;
        }
        for line in &node.exec {
            let mut words = line.split_ascii_whitespace();
            let mut command = namespace.command(words.next().unwrap_or("true"));
            command.args(words);
            command::output_of(command)?;
        }
        Ok(())
    }

    fn connect_management(&self, node: &Node, namespace: &Namespace) -> Result<(), LabError> {
        let port = self.topology.management_port(&node.name);
        let (name, length) = (namespace.name(), self.topology.management.subnet.prefix_len());
        self.topology.management_namespace().ip(&format!(
            "link add name {port} type veth peer name {MANAGEMENT_INTERFACE} netns {name}\n\
             link set dev {port} master {MANAGEMENT_BRIDGE} up\n"
        ))?;
        namespace.ip(&format!(
            "address add {}/{length} dev {MANAGEMENT_INTERFACE}\n\
             link set dev {MANAGEMENT_INTERFACE} up\n",
            node.management_address
        ))?;
        Ok(())
    }
}

fn connect_wire(end: &WireEnd, node: &Node, namespace: &Namespace) -> Result<(), LabError> {
    let WireEnd { wire, interface, endpoint, mtu, mac } = end;
    let (inner, name) = (&endpoint.interface, namespace.name());
    wire.ip(&format!(
        "link add name {interface} mtu {mtu} type veth \
         peer name {inner} mtu {mtu} address {mac} netns {name}\n\
         link set dev {interface} master {WIRE_BRIDGE} up\n"
    ))?;
    namespace.ip(&format!("link set dev {inner} up\n"))?;
    // veth leaves checksums to a NIC that is not there, and XDP on the far side would see them
    // unfinished.
    let mut command = namespace.command("ethtool");
    command.args(["-K", inner, "tx", "off"]);
    command::output_of(command)?;
    if node.role.has_agent() {
        attach_pass(wire, interface)?;
    }
    Ok(())
}

/// A frame that XDP sends out of a veth arrives only if its peer runs an XDP program too.
fn attach_pass(wire: &Namespace, interface: &str) -> Result<(), LabError> {
    wire.within(|| pass::attach(interface))?.map_err(|source| LabError::File {
        what: format!("XDP on {interface} in {}", wire.name()),
        source,
    })
}

/// Writes kernel settings of a namespace, in order.
fn write_sysctls<'a>(
    namespace: &Namespace,
    settings: impl IntoIterator<Item = (&'a str, &'a str)> + Send,
) -> Result<(), LabError> {
    namespace.within(|| {
        for (key, value) in settings {
            let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
            std::fs::write(&path, value).map_err(file_error(&path))?;
        }
        Ok(())
    })?
}
