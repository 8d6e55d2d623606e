//! How a service is probed, fails over and is limited.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    field::{Errors, FieldPath},
    text::{Duration, Label},
};

/// How backends are probed. Without `http` and `tcp`: a TCP connection to the service's first TCP
/// port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[serde(default)]
pub struct HealthCheck {
    /// Healthy is who answers an HTTP request with a status from 200 to 399.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// Healthy is who accepts a TCP connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// Time between probes of a backend whose state is settled: 50ms to 1m.
    pub interval: Duration,
    /// Time between probes of a backend whose state is in doubt: 50ms to `interval`.
    pub fast_interval: Duration,
    /// How long an answer may take: 10ms to `interval`.
    pub timeout: Duration,
    /// Successes in a row that make a backend healthy.
    #[schemars(range(min = 1, max = 10))]
    pub rise: u32,
    /// Failures in a row that make a backend unhealthy.
    #[schemars(range(min = 1, max = 10))]
    pub fall: u32,
}

/// An HTTP/1.1 GET request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// Path and query of the request.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Port of the backend.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Value of the Host header. Default: the service's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,
}

/// A TCP connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {
    /// Port of the backend.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// What happens when backends fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[serde(default)]
pub struct Failover {
    /// What a datacenter does that has fewer healthy backends than `minHealthyBackends`.
    pub on_no_local_backend: OnNoLocalBackend,
    /// Healthy backends that a datacenter needs to serve by itself.
    #[schemars(range(min = 1, max = 1024))]
    pub min_healthy_backends: u32,
    /// Datacenters that take over, in this order. Others follow in the order of their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub datacenter_preference: Vec<Label>,
}

/// What a datacenter does without enough healthy backends of its own.
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
pub enum OnNoLocalBackend {
    /// Stays announced and forwards to another datacenter's backends.
    #[default]
    ForwardOverBackbone,
    /// As ForwardOverBackbone; when no datacenter has enough healthy backends, ignores health.
    ServeAnyway,
    /// Withdraws the service's routes, so that clients reach another datacenter.
    Withdraw,
}

/// What becomes of established connections that the Internet moves elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Affinity {
    /// What a connection gets that arrives at another datacenter than before.
    pub mid_flow_move: MidFlowMove,
}

/// What a connection gets that arrives at another datacenter than before.
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
pub enum MidFlowMove {
    /// Is carried on over the backbone to the backend it began at, as long as that is healthy.
    Rescue,
    /// Is reset; the client connects anew.
    #[default]
    Reset,
}

/// Ceilings on what a service takes in at each edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Packets per second and edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub packets_per_second: Option<u32>,
    /// New connections per second and edge: TCP SYN packets. UDP knows no connections, and is
    /// limited by `packetsPerSecond` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub new_flows_per_second: Option<u32>,
    /// What becomes of new connections beyond `newFlowsPerSecond`.
    pub syn_cookies: SynCookies,
}

/// What becomes of new connections beyond the ceiling.
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
pub enum SynCookies {
    /// While there are more than the ceiling, clients have to prove their address before a backend
    /// spends memory on them: SYN cookies. Those that do are let in, whatever their number.
    Auto,
    /// They are dropped.
    #[default]
    Never,
}

/// Ceilings on what all services of an organization take in together, at each edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OrganizationLimits {
    /// Packets per second and edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub packets_per_second: Option<u32>,
    /// New connections per second and edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub new_flows_per_second: Option<u32>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            http: None,
            tcp: None,
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(200),
            timeout: Duration::from_millis(500),
            rise: 2,
            fall: 3,
        }
    }
}

impl HealthCheck {
    /// The port it names.
    pub(super) fn port(&self) -> Option<u16> {
        let http = self.http.as_ref().map(|http| http.port);
        http.or_else(|| self.tcp.as_ref().map(|tcp| tcp.port))
    }

    pub(super) fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        if self.http.is_some() && self.tcp.is_some() {
            errors.forbidden(&path.field("tcp"), "may not be given beside http");
        }
        if let Some(http) = &self.http {
            http.validate(&path.field("http"), errors);
        }
        let mut within = |name, value: Duration, min: Duration, max: Duration| {
            if value < min || value > max {
                let message = format!("must be between {min} and {max}");
                errors.invalid(&path.field(name), value, message);
            }
        };
        within("interval", self.interval, INTERVAL_MIN, INTERVAL_MAX);
        // Measured against a sane interval, so that one mistake is one error.
        let interval = self.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        within("fastInterval", self.fast_interval, INTERVAL_MIN, interval);
        within("timeout", self.timeout, TIMEOUT_MIN, interval);
    }
}

const INTERVAL_MIN: Duration = Duration::from_millis(50);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
const TIMEOUT_MIN: Duration = Duration::from_millis(10);

impl HttpProbe {
    fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.path.starts_with('/') || !graphic(&self.path) {
            let message = "must begin with / and hold neither blanks nor control characters";
            errors.invalid(&path.field("path"), &self.path, message);
        }
        if let Some(host) = &self.host
            && !graphic(host)
        {
            let message = "must hold neither blanks nor control characters";
            errors.invalid(&path.field("host"), host, message);
        }
    }
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            on_no_local_backend: OnNoLocalBackend::default(),
            min_healthy_backends: 1,
            datacenter_preference: Vec::new(),
        }
    }
}

impl Failover {
    pub(super) fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        let preference = &self.datacenter_preference;
        for (index, datacenter) in preference.iter().enumerate() {
            if preference.iter().take(index).any(|other| other == datacenter) {
                errors.duplicate(&path.field("datacenterPreference").index(index), datacenter);
            }
        }
    }
}

impl Limits {
    pub(super) fn validate(&self, path: &FieldPath, errors: &mut Errors) {
        if self.syn_cookies == SynCookies::Auto && self.new_flows_per_second.is_none() {
            let message = "synCookies: Auto begins when it is exceeded";
            errors.required(&path.field("newFlowsPerSecond"), message);
        }
    }
}

fn default_path() -> String {
    "/".to_owned()
}
