//! Lists what labs there are and how they are.

use serde::Serialize;

use crate::{
    lab::{Lab, LabError},
    programs::{self, ADMIN_SOCKET, CONTROLLER_DATA, Source, bird_control},
    tools::{AGENT, CLI},
    topology::{Node, Role},
};

/// A node in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRow {
    /// Name of the lab.
    pub lab: String,
    /// Name of the node.
    pub node: String,
    /// Its role.
    pub role: &'static str,
    /// Its datacenter.
    pub datacenter: Option<String>,
    /// Its address on the management network.
    pub management_address: String,
    /// Name of its network namespace.
    pub namespace: String,
    /// Its programs, and whether they run.
    pub programs: Vec<ProgramRow>,
}

/// A node's program in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramRow {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
}

/// The nodes of a lab.
///
/// # Errors
/// Processes cannot be listed.
pub fn nodes(lab: &Lab) -> Result<Vec<NodeRow>, LabError> {
    let row = |node: &Node| {
        let namespace = lab.topology.node_namespace(&node.name);
        let processes = namespace.processes()?;
        let programs = programs::of_node(&lab.topology, node, &lab.tools, lab.source());
        let programs = programs.into_iter().map(|program| ProgramRow {
            running: processes.iter().any(|process| process.runs(&program.name)),
            name: program.name,
        });
        Ok(NodeRow {
            lab: lab.topology.name.clone(),
            node: node.name.clone(),
            role: node.role.name(),
            datacenter: node.datacenter.clone(),
            management_address: node.management_address.to_string(),
            namespace: namespace.name().to_owned(),
            programs: programs.collect(),
        })
    };
    lab.topology.nodes.values().map(row).collect()
}

/// The list as text in columns.
#[must_use]
pub fn table(rows: &[NodeRow]) -> String {
    let header = ["LAB", "NODE", "ROLE", "DATACENTER", "ADDRESS", "PROGRAMS"].map(str::to_owned);
    let body = rows.iter().map(|row| {
        let programs = row.programs.iter().map(|program| {
            let state = if program.running { "" } else { " (down)" };
            format!("{}{state}", program.name)
        });
        [
            row.lab.clone(),
            row.node.clone(),
            row.role.to_owned(),
            row.datacenter.clone().unwrap_or_else(|| "-".into()),
            row.management_address.clone(),
            programs.collect::<Vec<_>>().join(", "),
        ]
    });
    columns(std::iter::once(header).chain(body).collect())
}

/// How to look around in a lab that is up.
#[must_use]
pub fn guide(lab: &Lab) -> String {
    let name = &lab.topology.name;
    // As it was called, so that the lines can be pasted: it is seldom on the search path.
    let me = std::env::args().next().unwrap_or_else(|| "isocast-lab".to_owned());
    let mut text = format!("The lab {name} is up. Look around:\n");
    let mut line = |what: &str, how: String| text.push_str(&format!("  {what}\n    {how}\n"));
    let folder = |node: &Node| lab.topology.node_folder(&node.name).display().to_string();
    let first = |role| lab.topology.with_role(role).next();
    if let (Some(node), Source::Controller(_)) = (first(Role::Controller), lab.source()) {
        let on_node = format!("{me} exec {}", node.name);
        let config = format!("--kubeconfig {}/{CONTROLLER_DATA}/admin.kubeconfig", folder(node));
        let kubectl = lab.tools.kubectl.display();
        line("the API", format!("{on_node} {kubectl} {config} get anycastservices -A -o wide"));
        let isocast = lab.tools.program(CLI).display().to_string();
        line("the same in short", format!("{on_node} {isocast} {config} status"));
    }
    if let Some(node) = first(Role::Frr) {
        let socket = lab.topology.frr_folder(&node.name);
        line(
            "an FRR router",
            format!("vtysh --vty_socket {} -c 'show bgp summary'", socket.display()),
        );
    }
    if let Some(node) = first(Role::Bird) {
        let control = bird_control(&lab.topology, &node.name);
        line("a BIRD router", format!("birdc -s {} show protocols", control.display()));
    }
    if let Some(node) = first(Role::Edge) {
        line("an edge's log", format!("tail {}/{AGENT}.out", folder(node)));
        let agent = lab.tools.program(AGENT).display().to_string();
        let socket = format!("--admin-socket {}/{ADMIN_SOCKET}", folder(node));
        line("what that edge does", format!("{agent} status {socket}"));
    }
    if let Some(node) = first(Role::Client) {
        line("a user", format!("{me} exec {} curl -s http://203.0.113.10/", node.name));
    }
    line("the end", format!("{me} down {name}"));
    text
}

/// Text in left-aligned columns, two spaces apart.
#[must_use]
pub fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![["a".into(), "b".into()], ["long".into(), "c".into()]];

        assert_eq!(columns::<2>(rows), "a     b\nlong  c\n");
    }
}
