//! [`KeyRotations`]: who may replace keys, and what cannot be taken back.
//!
//! - Keys concern every tenant: they are replaced from [`SYSTEM_NAMESPACE`] alone.
//! - A node that is not waited for is there: a name that was mistyped skips nothing.
//! - Once nodes use the new key, the order stays until it is carried out.

use isocast_api::{
    network::{KeyRotation, KeyRotationPhase, KeyRotationSpec, NodeSpec},
    object::Spec,
};

use super::{SYSTEM_NAMESPACE, lookup};
use crate::{
    admission::{Admission, ProposedChange},
    error::{ApiError, Cause, Reason},
    store::{Key, View},
};

/// Judges rotations before they begin.
#[derive(Clone, Copy, Debug)]
pub struct KeyRotations;

impl Admission for KeyRotations {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        let is_one = change.key.resource().is_of::<KeyRotationSpec>();
        if change.subresource.is_some() || !is_one {
            return Ok(());
        }
        let old: Option<KeyRotation> =
            change.old_value().map(|value| lookup::decode(value)).transpose()?;
        let new: Option<KeyRotation> = change.new.as_ref().map(lookup::decode).transpose()?;
        let Some(new) = new.filter(|it| it.metadata.deletion_timestamp.is_none()) else {
            return old.map_or(Ok(()), |old| expect_at_rest(&change.key, &old));
        };
        if new.namespace() != SYSTEM_NAMESPACE {
            let why = format!("keys are replaced from the namespace {SYSTEM_NAMESPACE}");
            return Err(ApiError::forbidden(&change.key, &why));
        }
        let skipped = |it: &KeyRotation| it.spec.skip_nodes.clone();
        let before = old.as_ref().map(skipped).unwrap_or_default();
        for node in skipped(&new).iter().filter(|node| !before.contains(node)) {
            if view.get(&lookup::key::<NodeSpec>(node.as_str())).is_none() {
                return Err(not_there(&change.key, node.as_str()));
            }
        }
        Ok(())
    }
}

fn expect_at_rest(key: &Key, rotation: &KeyRotation) -> Result<(), ApiError> {
    match rotation.status.phase {
        Some(phase @ (KeyRotationPhase::Switching | KeyRotationPhase::Retiring)) => {
            let message = format!(
                "{} {:?} is {}: nodes use the new key already; it can be deleted once it is complete",
                KeyRotationSpec::KIND.singular,
                key.name(),
                phase.as_str(),
            );
            Err(ApiError::about(Reason::Conflict, key, message))
        }
        _ => Ok(()),
    }
}

fn not_there(key: &Key, node: &str) -> ApiError {
    let (field, message) = ("spec.skipNodes", format!("there is no Node {node:?}"));
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: message.clone(),
        field: field.to_owned(),
    };
    let kind = KeyRotationSpec::KIND.singular;
    let message = format!("{kind} {:?}: {field}: {message}", key.name());
    ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        managers::testing::{State, organization, project},
        store::Resource,
    };

    fn state() -> State {
        let node = json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "Node",
            "metadata": {"name": "be-1", "uid": "be-1", "generation": 1},
            "spec": {
                "datacenter": "ams", "roles": ["Backend"], "tunnelAddresses": ["10.1.0.9"],
                "uplinks": [{"interface": "eth1"}],
            },
        });
        State::default().with(organization("acme")).with(project("web", "acme")).with(node)
    }

    fn rotation(namespace: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "KeyRotation",
            "metadata": {"name": "r", "namespace": namespace, "uid": "r", "generation": 1},
            "spec": spec,
        })
    }

    fn of_system(skipped: &[&str]) -> Value {
        rotation(SYSTEM_NAMESPACE, &json!({"what": "EncapsulationKey", "skipNodes": skipped}))
    }

    #[test]
    fn keys_are_replaced_from_the_system_namespace_alone() {
        let of_tenant = rotation("web", &json!({"what": "EncapsulationKey"}));

        assert_eq!(state().create(of_tenant).unwrap_err().code(), 403);
        assert!(state().create(of_system(&[])).is_ok());
    }

    #[test]
    fn node_that_is_skipped_is_there_when_it_is_named() {
        let refusal = state().create(of_system(&["be-2"])).unwrap_err();
        assert_eq!(refusal.code(), 422);
        assert!(refusal.message().contains("there is no Node \"be-2\""), "{refusal}");

        assert!(state().create(of_system(&["be-1"])).is_ok());
        let mut explained = of_system(&["gone"]);
        let state = state().with(explained.clone());
        explained["spec"]["reason"] = json!("by the calendar");
        assert!(state.update(explained).is_ok(), "it was there when it was named");
    }

    #[test]
    fn rotation_cannot_be_deleted_between_the_first_use_of_the_new_key_and_its_end() {
        let key = Key::new(
            Resource::new("keyrotations", "network.isocast.dev"),
            Some(SYSTEM_NAMESPACE),
            "r",
        );
        for (phase, is_deletable) in [
            ("Pending", true),
            ("Distributing", true),
            ("Switching", false),
            ("Retiring", false),
            ("Complete", true),
        ] {
            let mut rotation = of_system(&[]);
            rotation["status"] = json!({"phase": phase});
            let outcome = state().with(rotation).delete(&key);
            assert_eq!(outcome.is_ok(), is_deletable, "{phase}");
        }
    }
}
