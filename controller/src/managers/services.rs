//! [`Services`]: two services may share an address, but not a port of it.

use isocast_api::{
    network::{AnycastService, AnycastServiceSpec},
    object::Spec,
};

use super::lookup;
use crate::{
    admission::{Admission, ProposedChange},
    error::{ApiError, Cause, Reason},
    store::View,
};

/// Keeps services apart.
///
/// What a service names but does not exist is no error here: objects are created in any order, and
/// the service's conditions say what is missing.
#[derive(Clone, Copy, Debug)]
pub struct Services;

impl Admission for Services {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        if *change.key.resource() != lookup::resource::<AnycastServiceSpec>() {
            return Ok(());
        }
        let Some(new) = &change.new else { return Ok(()) };
        let service: AnycastService = lookup::decode(new)?;
        let neighbours = lookup::within::<AnycastServiceSpec>(service.namespace());
        for other in view.range(&neighbours).filter(|other| other.key != change.key) {
            let other: AnycastService = lookup::read(other)?;
            let Some((index, message)) = shared_port(&service.spec, &other) else { continue };
            let field = format!("spec.ports[{index}]");
            let cause = Cause {
                reason: "FieldValueDuplicate".to_owned(),
                message: message.clone(),
                field: field.clone(),
            };
            let kind = AnycastServiceSpec::KIND.singular;
            let message = format!("{kind} {:?}: {field}: {message}", service.name());
            let refusal = ApiError::about(Reason::Conflict, &change.key, message);
            return Err(refusal.with_causes(vec![cause]));
        }
        Ok(())
    }
}

/// The first port that `other` has on an address of both.
fn shared_port(service: &AnycastServiceSpec, other: &AnycastService) -> Option<(usize, String)> {
    let mut claims = service.addresses.iter().map(|address| &address.claim);
    let claim = claims.find(|claim| other.spec.addresses.iter().any(|it| it.claim == **claim))?;
    let taken = |port: &isocast_api::network::ServicePort| {
        let theirs = other.spec.ports.iter();
        theirs.map(|it| (it.protocol, it.port)).any(|it| it == (port.protocol, port.port))
    };
    let (index, port) = service.ports.iter().enumerate().find(|(_, port)| taken(port))?;
    let message = format!(
        "{}/{} of addressclaim {claim} is taken by anycastservice {:?}",
        port.port,
        port.protocol,
        other.name(),
    );
    Some((index, message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::managers::testing::{State, organization, project};

    fn service(name: &str, claim: &str, protocol: &str, port: u16) -> Value {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AnycastService",
            "metadata": {"name": name, "namespace": "web"},
            "spec": {
                "addresses": [{"claim": claim}], "backendPool": "www",
                "ports": [{"protocol": protocol, "port": port}],
            },
        })
    }

    #[test]
    fn services_share_an_address_but_not_a_port_of_it() {
        let state = State::default()
            .with(organization("acme"))
            .with(project("web", "acme"))
            .with(service("www", "v4", "TCP", 443));

        assert!(state.create(service("dns", "v4", "UDP", 443)).is_ok());
        assert!(state.create(service("alt", "v4", "TCP", 8443)).is_ok());
        assert!(state.create(service("two", "other", "TCP", 443)).is_ok());
        assert!(state.update(service("www", "v4", "TCP", 443)).is_ok());
        let refusal = state.create(service("two", "v4", "TCP", 443)).unwrap_err();
        assert_eq!(refusal.code(), 409);
        assert_eq!(
            refusal.causes()[0].message,
            "443/TCP of addressclaim v4 is taken by anycastservice \"www\"",
        );
    }
}
