//! [`Platform`]: hosts.
//!
//! Invariant: a tunnel address is one node's, for backends judge packets by it.

use isocast_api::network::{Node, NodeSpec};

use super::lookup;
use crate::{
    admission::{Admission, ProposedChange},
    error::{ApiError, Cause, Reason},
    store::{Key, View},
};

/// Keeps hosts in order.
#[derive(Clone, Copy, Debug)]
pub struct Platform;

impl Admission for Platform {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        match &change.new {
            Some(new)
                if change.key.resource().is_of::<NodeSpec>() && change.subresource.is_none() =>
            {
                expect_own_addresses(view, &change.key, &lookup::decode(new)?)
            }
            _ => Ok(()),
        }
    }
}

fn expect_own_addresses(view: &View, key: &Key, node: &Node) -> Result<(), ApiError> {
    for other in view.range(&lookup::all::<NodeSpec>()).filter(|other| other.key != *key) {
        let other: Node = lookup::decode(&other.value())?;
        let mut addresses = node.spec.tunnel_addresses.iter().enumerate();
        let shared = addresses.find(|(_, address)| other.spec.tunnel_addresses.contains(address));
        let Some((index, address)) = shared else { continue };
        let field = format!("spec.tunnelAddresses[{index}]");
        let message = format!("{address} is a tunnel address of node {:?}", other.name());
        let cause = Cause {
            reason: "FieldValueDuplicate".to_owned(),
            message: message.clone(),
            field: field.clone(),
        };
        let message = format!("node {:?}: {field}: {message}", key.name());
        return Err(ApiError::about(Reason::Conflict, key, message).with_causes(vec![cause]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::managers::testing::State;

    fn node(name: &str, address: &str) -> Value {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "Node",
            "metadata": {"name": name},
            "spec": {
                "datacenter": "ams", "roles": ["Backend"], "tunnelAddresses": [address],
                "uplinks": [{"interface": "eth1"}],
            },
        })
    }

    #[test]
    fn a_tunnel_address_is_one_nodes() {
        let state = State::default().with(node("a", "10.0.0.1"));
        assert!(state.update(node("a", "10.0.0.1")).is_ok());
        assert!(state.create(node("b", "10.0.0.2")).is_ok());

        let refusal = state.create(node("b", "10.0.0.1")).unwrap_err();

        assert_eq!(refusal.code(), 409);
        assert_eq!(refusal.causes()[0].message, "10.0.0.1 is a tunnel address of node \"a\"");
    }
}
