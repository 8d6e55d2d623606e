//! BackendPool: the hosts that serve a tenant's services.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, READY, ResourceKind, Scope, VERSION},
    schema,
    text::{Duration, HostAddress, Label, Name},
};

/// The hosts that serve a tenant's services.
pub type BackendPool = Object<BackendPoolSpec>;

/// What is wanted of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendPoolSpec {
    /// The hosts. A service without backends is announced nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "atomic"))]
    pub backends: Vec<Backend>,
    /// How packets reach the hosts.
    #[serde(default)]
    pub mode: PoolMode,
    /// How long a host that joins others takes to its whole share of new connections, in five steps:
    /// 10s to 15m. Default: it has it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
}

/// One host: a node, or an address in a datacenter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Name of a node with the role Backend. Either this or `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
    /// Address of a host without an agent, which takes packets out of IP in IP by itself. Its TCP
    /// connections stay when the ring changes, its UDP flows move. Either this or `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<HostAddress>,
    /// Name of the datacenter that `address` is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<Label>,
    /// Share of new connections in proportion to the other hosts' weights. 0 drains the host: it gets
    /// no new connections, and keeps those it has for as long as it is in the list.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 0, max = 1000))]
    pub weight: u32,
}

/// How packets reach the hosts of a pool.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    Default,
)]
pub enum PoolMode {
    /// Nodes get them in Generic UDP Encapsulation to port 6080, hosts given by address in IP in IP;
    /// answers go to clients directly.
    #[default]
    GUE,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendPoolStatus {
    /// Latest observations: `Ready`, whether every backend exists and can serve; `Accepted`, whether
    /// no node refuses the pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Backends that exist.
    pub resolved_backends: u32,
}

impl Spec for BackendPoolSpec {
    type Status = BackendPoolStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::BackendPool,
        group: super::GROUP,
        version: VERSION,
        kind: "BackendPool",
        plural: "backendpools",
        singular: "backendpool",
        short_names: &["bpool"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Backends", "integer", ".status.resolvedBackends", "Backends that exist"),
            Column::new("Mode", "string", ".spec.mode", "How packets reach the hosts").wide(),
            READY,
            AGE,
        ],
        selectable_fields: &[],
        description: "BackendPool names the hosts that serve a project's services, in whichever \
                      datacenters they are.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<BackendPoolSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        if let Some(span) = self.slow_start
            && !(SLOW_START_MIN..=SLOW_START_MAX).contains(&span)
        {
            let message = format!("must be between {SLOW_START_MIN} and {SLOW_START_MAX}");
            errors.invalid(&spec.field("slowStart"), span, message);
        }
        for (index, backend) in self.backends.iter().enumerate() {
            let path = spec.field("backends").index(index);
            backend.validate(&path, errors);
            let repeats = |other: &&Backend| {
                (other.node.as_ref(), other.address) == (backend.node.as_ref(), backend.address)
            };
            if self.backends.iter().take(index).any(|other| repeats(&other)) {
                match (&backend.node, backend.address) {
                    (Some(node), _) => errors.duplicate(&path.field("node"), node),
                    (None, Some(address)) => errors.duplicate(&path.field("address"), address),
                    (None, None) => {}
                }
            }
        }
    }
}

impl Backend {
    fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        match (&self.node, self.address, &self.datacenter) {
            (None, None, _) => errors.required(&path.field("node"), "or give address"),
            (Some(_), Some(_), _) => {
                errors.forbidden(&path.field("address"), "may not be given beside node");
            }
            (Some(_), None, Some(_)) => {
                let message = "is the node's own, and may not be given beside node";
                errors.forbidden(&path.field("datacenter"), message);
            }
            (None, Some(_), None) => {
                errors.required(&path.field("datacenter"), "where address is");
            }
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
        }
    }
}

/// A step must be longer than members of a ring are waited for to be steady.
const SLOW_START_MIN: Duration = Duration::from_secs(10);
const SLOW_START_MAX: Duration = Duration::from_secs(900);

fn default_weight() -> u32 {
    100
}
