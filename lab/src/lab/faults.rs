//! What breaks in a lab, and how it is put right.

use super::{Lab, LabError, remove_folder};
use crate::{plan::WIRE_BRIDGE, process::Process};

impl Lab {
    /// Kills (SIGKILL) every process of the program of that name on a node.
    ///
    /// # Errors
    /// One does not go away.
    pub fn kill(&self, node: &str, program: &str) -> Result<(), LabError> {
        let mut processes = self.topology.node_namespace(node).processes()?;
        processes.retain(|process| process.runs(program));
        Ok(Process::kill_all(&processes)?)
    }

    /// Ends every process of the program of that name on a node as a service manager does (SIGTERM).
    ///
    /// # Errors
    /// One does not go away.
    pub fn stop(&self, node: &str, program: &str) -> Result<(), LabError> {
        let mut processes = self.topology.node_namespace(node).processes()?;
        processes.retain(|process| process.runs(program));
        Ok(Process::stop_all(&processes)?)
    }

    /// Cuts all cables of a node but the one to the management network. Its interfaces do not
    /// notice.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(&self, node: &str) -> Result<(), LabError> {
        for end in self.topology.wire_ends(node) {
            end.wire.ip(&format!("link set dev {} nomaster\n", end.interface))?;
        }
        Ok(())
    }

    /// Joins a node's cables again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn restore(&self, node: &str) -> Result<(), LabError> {
        for end in self.topology.wire_ends(node) {
            end.wire.ip(&format!("link set dev {} master {WIRE_BRIDGE}\n", end.interface))?;
        }
        Ok(())
    }

    /// Takes the power from nodes: first all their wires, then all that ran and all the kernel
    /// held. What is on their disks stays.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn power_off(&self, nodes: &[impl AsRef<str>]) -> Result<(), LabError> {
        for node in nodes.iter().map(AsRef::as_ref) {
            self.cut(node)?;
            let port = self.topology.management_port(node);
            let batch = format!("link set dev {port} nomaster\n");
            self.topology.management_namespace().ip(&batch)?;
        }
        let mut processes = Vec::new();
        for node in nodes.iter().map(AsRef::as_ref) {
            processes.extend(self.topology.node_namespace(node).processes()?);
        }
        Process::kill_all(&processes)?;
        for node in nodes.iter().map(AsRef::as_ref) {
            for end in self.topology.wire_ends(node) {
                end.wire.ip(&format!("link delete dev {}\n", end.interface))?;
            }
            let port = self.topology.management_port(node);
            self.topology.management_namespace().ip(&format!("link delete dev {port}\n"))?;
            self.topology.node_namespace(node).delete()?;
            let pins = self.topology.pin_folder().join(node);
            if pins.exists() {
                remove_folder(&pins)?;
            }
        }
        Ok(())
    }

    /// Gives nodes their power back and starts their programs.
    ///
    /// # Errors
    /// Something cannot be made or started.
    pub fn power_on(&self, nodes: &[impl AsRef<str>]) -> Result<(), LabError> {
        for name in nodes.iter().map(AsRef::as_ref) {
            self.make_node(self.node(name)?)?;
        }
        for name in nodes.iter().map(AsRef::as_ref) {
            self.start(name)?;
        }
        Ok(())
    }
}
