//! What routers know: the next hops of a prefix, in the kernel and in the routing daemon.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use crate::{
    command::{self, CommandError},
    lab::{Lab, LabError},
    programs::bird_control,
    topology::{Node, Role},
};

/// An `ip -j route` entry.
#[derive(Debug, Deserialize)]
struct KernelRoute {
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    via: Option<Via>,
    #[serde(default)]
    nexthops: Vec<NextHop>,
}

#[derive(Debug, Deserialize)]
struct NextHop {
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    via: Option<Via>,
}

/// A gateway of the other family (RFC 8950 routes).
#[derive(Debug, Deserialize)]
struct Via {
    host: IpAddr,
}

/// Gateways of exactly this prefix in a node's kernel, sorted; empty if there is no route.
///
/// # Errors
/// The kernel cannot be asked.
pub fn kernel_next_hops(lab: &Lab, node: &str, prefix: IpNet) -> Result<Vec<IpAddr>, LabError> {
    let namespace = lab.topology.node_namespace(node);
    let family = family_flag(prefix.addr());
    let prefix = prefix.to_string();
    let arguments = ["-n", namespace.name(), family, "-j", "route", "show", "exact", &prefix];
    let text = command::run("ip", arguments)?;
    Ok(parse_kernel_routes(&text))
}

/// How many next hops of a prefix a router's own daemon says it uses.
///
/// # Errors
/// The daemon cannot be asked, or the node is no router.
pub fn daemon_next_hops(lab: &Lab, node: &str, prefix: IpNet) -> Result<usize, LabError> {
    let node = lab.node(node)?;
    let text = match (node.role, prefix) {
        (Role::Bird, _) => show(lab, node, &format!("show route {prefix}"))?,
        (_, IpNet::V4(_)) => show(lab, node, &format!("show ip route {prefix} json"))?,
        (_, IpNet::V6(_)) => show(lab, node, &format!("show ipv6 route {prefix} json"))?,
    };
    Ok(match node.role {
        Role::Bird => text.lines().filter(|line| line.trim_start().starts_with("via ")).count(),
        _ => frr_next_hops(&text),
    })
}

/// Asks a router's daemon, in the daemon's own language.
///
/// # Errors
/// The daemon cannot be asked.
pub fn show(lab: &Lab, node: &Node, question: &str) -> Result<String, CommandError> {
    if node.role == Role::Bird {
        let control = bird_control(&lab.topology, &node.name);
        let mut command = std::process::Command::new("birdc");
        command.arg("-s").arg(control).args(question.split(' '));
        return command::output_of(command);
    }
    let mut command = std::process::Command::new("vtysh");
    command.arg("--vty_socket").arg(lab.topology.frr_folder(&node.name)).args(["-c", question]);
    command::output_of(command)
}

/// A TCP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// The user's address.
    pub source: IpAddr,
    /// The user's port.
    pub source_port: u16,
    /// The service's address.
    pub destination: IpAddr,
    /// The service's port.
    pub destination_port: u16,
}

/// The interfaces a router chooses for flows that come in through `interface`, in the order of
/// `flows`. The kernel's own hash decides, as it does for packets.
///
/// # Errors
/// The kernel cannot be asked, or has no route for one of the flows.
pub fn interfaces_of_flows(
    lab: &Lab,
    node: &str,
    interface: &str,
    flows: &[Flow],
) -> Result<Vec<String>, LabError> {
    let namespace = lab.topology.node_namespace(node);
    let batch: String = flows
        .iter()
        .map(|flow| {
            format!(
                "route get {} from {} iif {interface} ipproto tcp sport {} dport {}\n",
                flow.destination, flow.source, flow.source_port, flow.destination_port
            )
        })
        .collect();
    let text =
        command::run_with_input("ip", ["-n", namespace.name(), "-o", "-batch", "-"], &batch)?;
    Ok(text.lines().filter_map(interface_in_line).map(str::to_owned).collect())
}

fn interface_in_line(line: &str) -> Option<&str> {
    line.split_ascii_whitespace().skip_while(|word| *word != "dev").nth(1)
}

fn parse_kernel_routes(text: &str) -> Vec<IpAddr> {
    let routes: Vec<KernelRoute> = serde_json::from_str(text.trim()).unwrap_or_default();
    let mut gateways: Vec<_> = routes
        .into_iter()
        .flat_map(|route| {
            let of_route = route.gateway.or_else(|| route.via.map(|via| via.host));
            let of_hops = route
                .nexthops
                .into_iter()
                .map(|hop| hop.gateway.or_else(|| hop.via.map(|via| via.host)));
            of_hops.chain([of_route]).flatten().collect::<Vec<_>>()
        })
        .collect();
    gateways.sort();
    gateways.dedup();
    gateways
}

/// Counts the active next hops in `show ip route PREFIX json`.
fn frr_next_hops(text: &str) -> usize {
    let answer: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let routes = answer.as_object().into_iter().flat_map(|object| object.values());
    let selected = routes
        .filter_map(serde_json::Value::as_array)
        .flatten()
        .filter(|route| route.get("selected").and_then(serde_json::Value::as_bool) == Some(true));
    selected
        .filter_map(|route| route.get("nexthops").and_then(serde_json::Value::as_array))
        .flatten()
        .filter(|hop| hop.get("active").and_then(serde_json::Value::as_bool) == Some(true))
        .count()
}

const fn family_flag(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "-4",
        IpAddr::V6(_) => "-6",
    }
}

/// How often a router is asked while something is waited for.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_read_in_each_of_iproutes_forms() {
        let single = r#"[{"dst":"203.0.113.10","gateway":"10.1.11.2","dev":"eth3"}]"#;
        let multipath = r#"[{"dst":"203.0.113.10","nexthops":[{"gateway":"10.1.12.2"},
            {"gateway":"10.1.11.2"}]}]"#;
        let foreign = r#"[{"dst":"203.0.113.10","via":{"family":"inet6","host":"fd00::2"}}]"#;

        let gateways = |text: &str| {
            let found = parse_kernel_routes(text);
            found.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };

        assert_eq!(gateways(single), ["10.1.11.2"]);
        assert_eq!(gateways(multipath), ["10.1.11.2", "10.1.12.2"]);
        assert_eq!(gateways(foreign), ["fd00::2"]);
        assert!(gateways("").is_empty());
    }

    #[test]
    fn the_interface_is_read_from_a_route_answer() {
        let line = r"203.0.113.10 from 10.101.0.10 via 10.1.12.2 dev eth4 \    cache iif eth1 ";

        assert_eq!(interface_in_line(line), Some("eth4"));
    }

    #[test]
    fn frr_counts_active_next_hops_of_the_selected_route() {
        let text = r#"{"203.0.113.10/32":[
            {"selected":true,"nexthops":[{"active":true},{"active":true},{"active":false}]},
            {"nexthops":[{"active":true}]}]}"#;

        assert_eq!(frr_next_hops(text), 2);
    }
}
