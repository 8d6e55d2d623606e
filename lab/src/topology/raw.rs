//! The file as written, and the road from there to a valid [`Topology`].
//!
//! Values are inherited as containerlab inherits them: defaults, then kind, then node; maps are
//! merged, lists are appended.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::{
    Bind, Endpoint, INTERFACE_NAME_CHARS_MAX, LAB_NAME_CHARS_MAX, LINKS_MAX, Link, Management,
    NODE_NAME_CHARS_MAX, NODES_MAX, Node, Role, Topology, TopologyError,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    name: String,
    mgmt: Mgmt,
    topology: Body,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Mgmt {
    network: String,
    ipv4_subnet: Ipv4Net,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    defaults: NodeFields,
    #[serde(default)]
    kinds: BTreeMap<String, NodeFields>,
    nodes: BTreeMap<String, NodeFields>,
    #[serde(default)]
    links: Vec<RawLink>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct NodeFields {
    kind: Option<String>,
    image: Option<String>,
    labels: BTreeMap<String, String>,
    exec: Vec<String>,
    binds: Vec<String>,
    env: BTreeMap<String, String>,
    sysctls: BTreeMap<String, String>,
    mgmt_ipv4: Option<std::net::Ipv4Addr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    endpoints: [String; 2],
    #[serde(default = "default_mtu")]
    mtu: u32,
}

pub(super) fn parse(text: &str, path: &Path) -> Result<File, TopologyError> {
    serde_saphyr::from_str(text).map_err(|error| TopologyError::Syntax {
        path: path.to_owned(),
        message: error.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

impl File {
    pub(super) fn validate(self, folder: &Path) -> Result<Topology, TopologyError> {
        check_name("name", &self.name, LAB_NAME_CHARS_MAX)?;
        let body = self.topology;
        check_count("topology.nodes", body.nodes.len(), NODES_MAX)?;
        check_count("topology.links", body.links.len(), LINKS_MAX)?;
        let management = Management { network: self.mgmt.network, subnet: self.mgmt.ipv4_subnet };

        let mut nodes = BTreeMap::new();
        for (name, own) in &body.nodes {
            let field = format!("topology.nodes.{name}");
            check_name(&field, name, NODE_NAME_CHARS_MAX)?;
            let fields = body.defaults.inherit(own, &body.kinds);
            nodes.insert(name.clone(), fields.node(name, &field, folder, &management)?);
        }
        check_management_addresses(&nodes)?;
        let links = validate_links(&body.links, &nodes)?;
        Ok(Topology { name: self.name, management, nodes, links })
    }
}

impl NodeFields {
    /// Defaults, then the kind's fields, then the node's own.
    fn inherit(&self, own: &Self, kinds: &BTreeMap<String, Self>) -> Self {
        let kind = own.kind.as_ref().or(self.kind.as_ref());
        let of_kind = kind.and_then(|kind| kinds.get(kind));
        let mut merged = self.clone();
        for layer in of_kind.into_iter().chain([own]) {
            merged.kind = layer.kind.clone().or(merged.kind);
            merged.image = layer.image.clone().or(merged.image);
            merged.mgmt_ipv4 = layer.mgmt_ipv4.or(merged.mgmt_ipv4);
            merged.labels.extend(layer.labels.clone());
            merged.env.extend(layer.env.clone());
            merged.sysctls.extend(layer.sysctls.clone());
            merged.exec.extend(layer.exec.clone());
            merged.binds.extend(layer.binds.clone());
        }
        merged
    }

    fn node(
        self,
        name: &str,
        field: &str,
        folder: &Path,
        management: &Management,
    ) -> Result<Node, TopologyError> {
        let at = |sub: &str, message: String| invalid(format!("{field}.{sub}"), message);
        if self.kind.as_deref() != Some("linux") {
            let kind = self.kind.unwrap_or_default();
            return Err(at("kind", format!("{kind:?} is not supported, only linux is")));
        }
        if self.image.is_none() {
            return Err(at("image", "is required".into()));
        }
        let role = self.labels.get(ROLE_LABEL).ok_or_else(|| {
            at("labels", format!("{ROLE_LABEL} is required: it says what runs on the node"))
        })?;
        let role = role.parse::<Role>().map_err(|message| at("labels", message))?;
        let address = self.mgmt_ipv4.ok_or_else(|| at("mgmt-ipv4", "is required".into()))?;
        let asn = self.labels.get(ASN_LABEL).map(|text| {
            let message = format!("{ASN_LABEL}: {text:?} is no AS number");
            text.parse::<u32>().map_err(|_error| at("labels", message))
        });
        let reserved = [
            Some(management.subnet.network()),
            management.subnet.hosts().next(),
            Some(management.subnet.broadcast()),
        ];
        if !management.subnet.contains(&address) || reserved.contains(&Some(address)) {
            let message = format!("{address} is not a free host address of {}", management.subnet);
            return Err(at("mgmt-ipv4", message));
        }
        let binds = self.binds.iter().map(|text| {
            parse_bind(text, folder).ok_or_else(|| {
                at(
                    "binds",
                    format!("{text:?} is not HOST-PATH:NODE-PATH with an absolute NODE-PATH"),
                )
            })
        });
        Ok(Node {
            name: name.to_owned(),
            role,
            datacenter: self.labels.get(DATACENTER_LABEL).cloned(),
            asn: asn.transpose()?,
            management_address: address,
            binds: binds.collect::<Result<_, _>>()?,
            exec: self.exec,
            env: self.env,
            sysctls: self.sysctls,
        })
    }
}

fn parse_bind(text: &str, folder: &Path) -> Option<Bind> {
    let (source, target) = text.split_once(':')?;
    let target = PathBuf::from(target.strip_suffix(":ro").unwrap_or(target));
    let bind = Bind { source: folder.join(source), target };
    (!source.is_empty() && bind.target.is_absolute()).then_some(bind)
}

fn validate_links(
    raw: &[RawLink],
    nodes: &BTreeMap<String, Node>,
) -> Result<Vec<Link>, TopologyError> {
    let mut taken = BTreeSet::new();
    let mut links = Vec::with_capacity(raw.len());
    for (index, link) in raw.iter().enumerate() {
        let field = format!("topology.links[{index}]");
        if !(MTU_MIN..=MTU_MAX).contains(&link.mtu) {
            let message = format!("{} is not in {MTU_MIN}..={MTU_MAX}", link.mtu);
            return Err(invalid(format!("{field}.mtu"), message));
        }
        let end = |text: &String| parse_endpoint(text, nodes, &field);
        let [a, b] = &link.endpoints;
        let endpoints = [end(a)?, end(b)?];
        for endpoint in &endpoints {
            if !taken.insert(endpoint.clone()) {
                return Err(invalid(field, format!("{endpoint} is linked twice")));
            }
        }
        links.push(Link { endpoints, mtu: link.mtu });
    }
    Ok(links)
}

fn parse_endpoint(
    text: &str,
    nodes: &BTreeMap<String, Node>,
    field: &str,
) -> Result<Endpoint, TopologyError> {
    let refuse = |message: String| invalid(format!("{field}.endpoints"), message);
    let (node, interface) =
        text.split_once(':').ok_or_else(|| refuse(format!("{text:?} is not NODE:INTERFACE")))?;
    if !nodes.contains_key(node) {
        return Err(refuse(format!("there is no node {node:?}")));
    }
    let fits = (1..=INTERFACE_NAME_CHARS_MAX).contains(&interface.len());
    if !fits || !interface.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        let limit = INTERFACE_NAME_CHARS_MAX;
        return Err(refuse(format!(
            "{interface:?} is no interface name of at most {limit} letters"
        )));
    }
    if [MANAGEMENT_INTERFACE, "lo"].contains(&interface) {
        return Err(refuse(format!("{interface} is not free for links")));
    }
    Ok(Endpoint { node: node.to_owned(), interface: interface.to_owned() })
}

fn check_name(field: &str, name: &str, limit: usize) -> Result<(), TopologyError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !name.starts_with('-') && !name.ends_with('-') && name.chars().all(plain);
    if good && (1..=limit).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("{name:?} is not 1 to {limit} of a-z, 0-9 and inner dashes");
    Err(invalid(field.to_owned(), message))
}

fn check_count(field: &str, count: usize, limit: usize) -> Result<(), TopologyError> {
    if count <= limit {
        return Ok(());
    }
    Err(invalid(field.to_owned(), format!("{count} are more than {limit}")))
}

fn check_management_addresses(nodes: &BTreeMap<String, Node>) -> Result<(), TopologyError> {
    let mut taken = BTreeMap::new();
    for node in nodes.values() {
        if let Some(other) = taken.insert(node.management_address, &node.name) {
            let field = format!("topology.nodes.{}.mgmt-ipv4", node.name);
            let message = format!("{} is {other}'s already", node.management_address);
            return Err(invalid(field, message));
        }
    }
    Ok(())
}

const fn invalid(field: String, message: String) -> TopologyError {
    TopologyError::Invalid { field, message }
}

const fn default_mtu() -> u32 {
    1500
}

/// Interface on the management network, as in containerlab.
pub(crate) const MANAGEMENT_INTERFACE: &str = "eth0";
const ROLE_LABEL: &str = "isocast.lab/role";
const ASN_LABEL: &str = "isocast.lab/asn";
const DATACENTER_LABEL: &str = "isocast.lab/datacenter";
/// IPv6 needs 1280 (RFC 8200 §5).
const MTU_MIN: u32 = 1280;
/// veth's own.
const MTU_MAX: u32 = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name: tiny
mgmt: { network: tiny, ipv4-subnet: 172.20.30.0/24 }
topology:
  defaults: { kind: linux, image: img, sysctls: { net.ipv4.ip_forward: "0" }, exec: [first] }
  kinds:
    linux: { sysctls: { net.ipv4.ip_forward: "1" } }
  nodes:
    r1:
      labels: { isocast.lab/role: frr, isocast.lab/datacenter: ams, isocast.lab/asn: "64601" }
      mgmt-ipv4: 172.20.30.11
      exec: [second]
      binds: ["r1/bgpd.conf:/etc/frr/bgpd.conf:ro"]
    r2: { labels: { isocast.lab/role: bird }, mgmt-ipv4: 172.20.30.12 }
  links:
    - { endpoints: ["r1:eth1", "r2:eth1"], mtu: 1600 }
"#;

    fn read(text: &str) -> Result<Topology, TopologyError> {
        parse(text, Path::new("lab.yml"))?.validate(Path::new("/labs"))
    }

    #[test]
    fn fields_are_inherited_from_defaults_and_kind() {
        let topology = read(GOOD).unwrap();

        let node = &topology.nodes["r1"];
        assert_eq!(node.sysctls["net.ipv4.ip_forward"], "1");
        assert_eq!(node.exec, ["first", "second"]);
        assert_eq!(node.role, Role::Frr);
        assert_eq!((node.datacenter.as_deref(), node.asn), (Some("ams"), Some(64601)));
        let bind = node.bound_below("/etc/frr").next().unwrap();
        assert_eq!(bind.source, Path::new("/labs/r1/bgpd.conf"));
        assert_eq!(bind.target, Path::new("/etc/frr/bgpd.conf"));
        assert_eq!(topology.links[0].mtu, 1600);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            ("image: img,", "image: img, startup-config: x,", "startup-config"),
            ("kind: linux, image", "kind: srl, image", "\"srl\" is not supported"),
            ("isocast.lab/role: bird", "isocast.lab/role: router", "\"router\" is not a role"),
            ("172.20.30.12", "172.20.30.11", "is r1's already"),
            ("172.20.30.12", "172.20.31.12", "not a free host address"),
            ("172.20.30.12", "172.20.30.1", "not a free host address"),
            ("\"64601\"", "AS64601", "no AS number"),
            ("r2:eth1", "r3:eth1", "there is no node \"r3\""),
            ("r2:eth1", "r1:eth1", "r1:eth1 is linked twice"),
            ("r2:eth1", "r2:eth0", "eth0 is not free"),
            ("mtu: 1600", "mtu: 1000", "1000 is not in"),
            ("name: tiny", "name: Tiny", "\"Tiny\""),
            ("/etc/frr/bgpd.conf:ro", "bgpd.conf", "absolute NODE-PATH"),
        ];
        for (from, to, expected) in cases {
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();

            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn interface_names_have_the_kernels_limit() {
        let at_limit = "e".repeat(INTERFACE_NAME_CHARS_MAX);
        let beyond = "e".repeat(INTERFACE_NAME_CHARS_MAX + 1);

        assert!(read(&GOOD.replace("r2:eth1", &format!("r2:{at_limit}"))).is_ok());
        assert!(read(&GOOD.replace("r2:eth1", &format!("r2:{beyond}"))).is_err());
    }
}
