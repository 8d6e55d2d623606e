//! Compiles the agent protocol; protox is a compiler in Rust, so no `protoc` is needed.
//!
//! Messages also get serde derives in the shape of proto3 JSON (camelCase names, enum values by
//! name, bytes as base64), which is the form of configuration files.

use prost_build::Config;

const PACKAGE: &str = ".isocast.agent.v1alpha1";

/// Enum-typed fields: (field, module of `agent::json` that knows their names).
const ENUM_FIELDS: [(&str, &str); 9] = [
    ("Node.roles", "roles"),
    ("Uplink.xdp_mode", "xdp_mode"),
    ("BgpPeer.families", "families"),
    ("BgpPeer.role", "peer_role"),
    ("BgpPeer.connection", "connection"),
    ("Port.protocol", "protocol"),
    ("Failover.on_no_local_backend", "on_no_local_backend"),
    ("FragmentPolicy.tcp", "fragment_handling"),
    ("FragmentPolicy.udp", "fragment_handling"),
];

/// Fields of bytes, likewise.
const BYTES_FIELDS: [(&str, &str); 5] = [
    ("Keyring.sent_tag", "base64"),
    ("Keyring.believed_tags", "base64_list"),
    ("Keyring.flow_key", "base64"),
    ("Keyring.other_flow_keys", "base64_list"),
    ("LocalResponse.body", "base64"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/agent.proto");
    let descriptors = protox::compile(["proto/agent.proto"], ["proto"])?;
    let mut config = Config::new();
    config
        .message_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(
            ".",
            "#[serde(rename_all = \"camelCase\", default, deny_unknown_fields)]",
        )
        .enum_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .enum_attribute(".", "#[serde(rename_all = \"camelCase\")]");
    for (field, module) in ENUM_FIELDS {
        let with = format!("#[serde(with = \"super::json::{module}\")]");
        config.field_attribute(format!("{PACKAGE}.{field}"), with);
    }
    for (field, module) in BYTES_FIELDS {
        let with = format!("#[serde(with = \"super::json::{module}\")]");
        config.field_attribute(format!("{PACKAGE}.{field}"), with);
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
