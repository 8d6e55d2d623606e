//! Pools of addresses, and claims of them.

use serde_json::{Value, json};

use super::{defaulted, table, updated};

#[test]
fn address_pool() {
    table(
        "AddressPool",
        &json!({
            "prefixes": ["203.0.113.0/24", "2001:db8:f::/48"],
            "grants": [{"organization": "acme"}], "reuseAfter": "30d",
        }),
        &[
            (
                &[("/prefixes", json!([]))],
                "spec.prefixes: Required value: must have at least 1 item",
            ),
            (
                &[("/prefixes/0", json!("203.0.113.1/24"))],
                "spec.prefixes[0]: Invalid value: \"203.0.113.1/24\": has bits set beyond its length: did you mean 203.0.113.0/24?",
            ),
            (
                &[("/prefixes/0", json!("203.0.113.0"))],
                "spec.prefixes[0]: Invalid value: \"203.0.113.0\": must be a prefix such as 203.0.113.0/24 or 2001:db8:f::/48",
            ),
            (
                &[("/prefixes/0", json!("224.0.0.0/8"))],
                "spec.prefixes[0]: Invalid value: \"224.0.0.0/8\": must be a block of unicast addresses that can be routed to",
            ),
            (
                &[("/prefixes/-", json!("203.0.113.128/25"))],
                "spec.prefixes[2]: Invalid value: \"203.0.113.128/25\": overlaps 203.0.113.0/24",
            ),
            (
                &[("/grants/-", json!({"organization": "acme"}))],
                "spec.grants[1]: Duplicate value: {\"organization\":\"acme\"}",
            ),
            (
                &[("/reuseAfter", json!("31d"))],
                "spec.reuseAfter: Invalid value: \"31d\": must be at most 30d",
            ),
        ],
    );
    let minimal = defaulted("AddressPool", json!({"prefixes": ["203.0.113.0/24"]}));
    assert_eq!(minimal["reuseAfter"], "10m");
}

#[test]
fn address_claim() {
    table("AddressClaim", &json!({"pool": "vips", "address": "2001:db8:f::10"}), &[]);
    let good = json!({"pool": "vips", "family": "IPv4"});
    table(
        "AddressClaim",
        &good,
        &[
            (&[("/pool", Value::Null)], "spec.pool: Required value"),
            (&[("/family", Value::Null)], "spec.family: Required value: or give address"),
            (
                &[("/address", json!("203.0.113.10"))],
                "spec.family: Forbidden: may not be given beside address",
            ),
            (
                &[("/family", Value::Null), ("/address", json!("203.0.113.0/24"))],
                "spec.address: Invalid value: \"203.0.113.0/24\": must be a single address such as 203.0.113.10, not a prefix: every service address is announced as its own /32 or /128; blocks of addresses belong in an AddressPool",
            ),
            (
                &[("/family", json!("IPv5"))],
                "spec.family: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            ),
        ],
    );
    let immutable = "Invalid value: is immutable: delete the object and create it again";
    assert_eq!(
        updated("AddressClaim", good.clone(), json!({"pool": "other", "family": "IPv4"})),
        [format!("spec.pool: {immutable}")],
    );
    assert_eq!(
        updated("AddressClaim", good, json!({"pool": "vips", "address": "203.0.113.1"})),
        [format!("spec.family: {immutable}"), format!("spec.address: {immutable}")],
    );
}
