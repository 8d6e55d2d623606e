//! Status of an AnycastService: per datacenter, and in all.

use std::collections::BTreeMap;

use isocast_api::{
    agent::{ServiceStatus, Verdict},
    meta::{ConditionStatus, Finding, find_condition},
    network::{
        AnycastService, AnycastServiceStatus, DatacenterState, Node, NodeRole,
        ServiceDatacenterStatus,
    },
};
use jiff::Timestamp;

use super::{Judgement, Presence, Progress, Voice, refusal, worst};
use crate::fleet::compile::{Compilation, RESOLVED_REFS};

const PROGRAMMED: &str = "Programmed";
const ANNOUNCED: &str = "Announced";
const HEALTHY: &str = "Healthy";
const READY: &str = "Ready";
const FULLY_ENFORCED: &str = "FullyEnforced";

/// What is so of `service`, given what the nodes that carry it say.
#[must_use]
pub fn service(
    compilation: &Compilation,
    service: &AnycastService,
    voices: &BTreeMap<&str, Voice<'_>>,
    now: Timestamp,
) -> AnycastServiceStatus {
    let uid = service.metadata.uid.as_str();
    let generation = service.metadata.generation;
    let mut by_datacenter: BTreeMap<&str, Vec<Carrier<'_>>> = BTreeMap::new();
    for node in compilation.carriers(uid) {
        let carrier = Carrier { node, voice: voices.get(node.name()), uid, generation };
        by_datacenter.entry(node.spec.datacenter.as_str()).or_default().push(carrier);
    }
    let datacenters: Vec<_> = by_datacenter
        .iter()
        .map(|(name, carriers)| {
            let site = Site { name, carriers, is_draining: is_draining(compilation, name) };
            site.status(service, now)
        })
        .collect();

    let mut conditions = service.status.conditions.clone();
    let mut judgement = Judgement { conditions: &mut conditions, generation, now };
    let resolved = match compilation.problem(uid) {
        Some(problem) => problem.clone(),
        None => Finding::new(RESOLVED_REFS, ConditionStatus::True, "ResolvedRefs", ""),
    };
    let findings =
        [PROGRAMMED, ANNOUNCED, HEALTHY].map(|kind| overall(kind, &datacenters, &resolved));
    let ready = ready(&resolved, &findings);
    let all = [resolved].into_iter().chain(findings).chain([ready, fully_enforced()]);
    for finding in all {
        judgement.set(finding);
    }
    AnycastServiceStatus {
        observed_generation: Some(generation),
        conditions,
        addresses: compilation.addresses(uid).to_vec(),
        datacenters,
    }
}

fn is_draining(compilation: &Compilation, datacenter: &str) -> bool {
    let datacenter = compilation.world().datacenters.get(datacenter);
    datacenter.is_some_and(|it| it.spec.state == DatacenterState::Draining)
}

/// A node that carries the service, and what it says.
struct Carrier<'a> {
    node: &'a Node,
    voice: Option<&'a Voice<'a>>,
    uid: &'a str,
    generation: i64,
}

impl Carrier<'_> {
    fn is_edge(&self) -> bool {
        self.node.spec.has_role(NodeRole::Edge)
    }

    /// What the node says of the service, if it is heard and knows of it.
    fn says(&self) -> Option<&ServiceStatus> {
        let statement = self.voice?.statement?;
        statement.services.iter().find(|service| service.uid == self.uid)
    }

    fn is_heard(&self) -> bool {
        self.voice.is_some_and(|voice| voice.statement.is_some())
    }

    fn silence(&self, kind: &'static str) -> Finding {
        let name = self.node.name();
        let message = match self.voice {
            Some(Voice { presence: Presence::Connected, .. }) => {
                format!("node {name} is connected and has not reported yet")
            }
            _ => format!("node {name} is silent"),
        };
        Finding::new(kind, ConditionStatus::Unknown, "NodeSilent", message)
    }

    fn programmed(&self) -> Finding {
        let name = self.node.name();
        let of = |status, reason: &str, message| Finding::new(PROGRAMMED, status, reason, message);
        if !self.is_heard() {
            return self.silence(PROGRAMMED);
        }
        let key = format!("service/{}", self.uid);
        if let Some(error) = self.voice.and_then(|voice| voice.refusal_of(&key)) {
            let message = format!("node {name} refused it: {}", error.message);
            return of(ConditionStatus::False, &error.reason, message);
        }
        if let Some(said) = self.says()
            && said.generation == self.generation
            && let Some(verdict) = &said.programmed
        {
            let message = format!("node {name}: {}", verdict.message);
            return of(verdict.status.into(), &verdict.reason, message);
        }
        match self.voice.map(|voice| voice.progress) {
            Some(Progress::Refused(nack)) => {
                let own = nack.errors.iter().find(|error| error.key == key);
                let reason = own.map_or("ConfigurationRefused", |error| error.reason.as_str());
                let message = match own {
                    Some(error) => format!("node {name} refused it: {}", error.message),
                    None => refusal(name, nack),
                };
                of(ConditionStatus::False, reason, message)
            }
            _ => {
                let message = format!("node {name} has yet to apply it");
                of(ConditionStatus::False, "Pending", message)
            }
        }
    }

    fn healthy(&self) -> Finding {
        let verdict = self.says().and_then(|said| said.healthy.as_ref());
        match verdict {
            Some(verdict) => {
                let message = format!("node {}: {}", self.node.name(), verdict.message);
                Finding::new(HEALTHY, verdict.status.into(), &verdict.reason, message)
            }
            None if self.is_heard() => {
                let message = format!("node {} has yet to probe its backends", self.node.name());
                Finding::new(HEALTHY, ConditionStatus::Unknown, "Pending", message)
            }
            None => self.silence(HEALTHY),
        }
    }

    fn announces(&self) -> bool {
        self.is_edge() && self.says().is_some_and(|said| !said.announced_prefixes.is_empty())
    }
}

/// The carriers of one datacenter.
struct Site<'a> {
    name: &'a str,
    carriers: &'a [Carrier<'a>],
    is_draining: bool,
}

impl Site<'_> {
    fn status(&self, service: &AnycastService, now: Timestamp) -> ServiceDatacenterStatus {
        let before = service.status.datacenters.iter().find(|before| before.name == self.name);
        let mut conditions = before.map(|before| before.conditions.clone()).unwrap_or_default();
        let generation = service.metadata.generation;
        let mut judgement = Judgement { conditions: &mut conditions, generation, now };
        let of = |answers: Vec<Finding>| worst(&answers).cloned();
        judgement.set(
            of(self.carriers.iter().map(Carrier::programmed).collect())
                .unwrap_or_else(|| nothing(PROGRAMMED)),
        );
        judgement.set(self.announced());
        judgement.set(
            of(self.edges().map(Carrier::healthy).collect()).unwrap_or_else(|| nothing(HEALTHY)),
        );
        let announcers = self.carriers.iter().filter(|carrier| carrier.announces());
        ServiceDatacenterStatus {
            name: self.name.to_owned(),
            conditions,
            announced_by: announcers.map(|carrier| carrier.node.name().to_owned()).collect(),
        }
    }

    fn edges(&self) -> impl Iterator<Item = &Carrier<'_>> {
        self.carriers.iter().filter(|carrier| carrier.is_edge())
    }

    fn announced(&self) -> Finding {
        let of = |status, reason: &str, message| Finding::new(ANNOUNCED, status, reason, message);
        let announcers: Vec<_> =
            self.edges().filter(|edge| edge.announces()).map(|edge| edge.node.name()).collect();
        let statements =
            || self.edges().filter_map(|edge| Some((edge, edge.says()?.announced.as_ref()?)));
        if !announcers.is_empty() {
            // One address of several may be missing: its edge says so.
            let partly = statements().find(|(edge, said)| edge.announces() && !said.status);
            if let Some((_, said)) = partly {
                return of(ConditionStatus::False, &said.reason, said.message.clone());
            }
            // Announced, but not because all is well: held by an interlock, or about to go.
            let odd = |(edge, said): &(&Carrier<'_>, &Verdict)| {
                edge.announces() && said.reason != ANNOUNCED
            };
            return match statements().find(odd) {
                Some((edge, said)) => {
                    let message = format!("node {}: {}", edge.node.name(), said.message);
                    of(ConditionStatus::True, &said.reason, message)
                }
                None => {
                    let message = format!("by {}", announcers.join(", "));
                    of(ConditionStatus::True, ANNOUNCED, message)
                }
            };
        }
        if self.is_draining {
            let message = "the datacenter is draining".to_owned();
            return of(ConditionStatus::False, "Draining", message);
        }
        if let Some((edge, said)) = statements().find(|(_, said)| !said.status) {
            let message = format!("node {}: {}", edge.node.name(), said.message);
            return of(ConditionStatus::False, &said.reason, message);
        }
        match self.edges().next() {
            None => of(ConditionStatus::False, "NoEdge", "the datacenter has no edge".to_owned()),
            Some(edge) if edge.is_heard() => {
                let message = format!("node {} has yet to apply it", edge.node.name());
                of(ConditionStatus::False, "Pending", message)
            }
            Some(edge) => edge.silence(ANNOUNCED),
        }
    }
}

/// The answer where there is nobody to ask.
fn nothing(kind: &'static str) -> Finding {
    let message = "the datacenter has no edge";
    Finding::new(kind, ConditionStatus::Unknown, "NoEdge", message)
}

/// What the datacenters come to: every one must have programmed it; one that announces and one
/// that is healthy will do, for that is what several datacenters are for.
fn overall(
    kind: &'static str,
    datacenters: &[ServiceDatacenterStatus],
    resolved: &Finding,
) -> Finding {
    let findings = datacenters.iter().filter_map(|datacenter| {
        let condition = find_condition(&datacenter.conditions, kind)?;
        let message = if condition.message.is_empty() {
            format!("datacenter {}", datacenter.name)
        } else {
            format!("datacenter {}: {}", datacenter.name, condition.message)
        };
        Some(Finding::new(kind, condition.status, &condition.reason, message))
    });
    let findings: Vec<_> = findings.collect();
    let holds = |finding: &&Finding| finding.status == ConditionStatus::True;
    let worst = worst(&findings);
    match (kind, worst) {
        // Nobody carries it: what does not resolve is why.
        (_, None) if resolved.status == ConditionStatus::False => {
            let Finding { reason, message, .. } = resolved;
            Finding::new(kind, ConditionStatus::False, reason, message)
        }
        (_, None) => Finding::new(kind, ConditionStatus::False, "NoNode", "no node carries it"),
        (PROGRAMMED, Some(worst)) if worst.status == ConditionStatus::True => {
            let message = format!("in {} datacenters", findings.len());
            Finding::new(kind, ConditionStatus::True, PROGRAMMED, message)
        }
        (PROGRAMMED, Some(worst)) => worst.clone(),
        (_, Some(worst)) => {
            let good: Vec<_> = findings.iter().filter(holds).collect();
            if good.is_empty() {
                return worst.clone();
            }
            let odd = good.iter().find(|finding| kind == ANNOUNCED && finding.reason != kind);
            if let Some(odd) = odd {
                return (**odd).clone();
            }
            let message = match findings.iter().find(|finding| !holds(finding)) {
                None => format!("in {} datacenters", findings.len()),
                Some(other) => {
                    format!(
                        "in {} of {} datacenters; {}",
                        good.len(),
                        findings.len(),
                        other.message
                    )
                }
            };
            Finding::new(kind, ConditionStatus::True, kind, message)
        }
    }
}

/// Ready: nothing is missing, no node that is heard lacks it, and somewhere it is announced and
/// healthy.
fn ready(resolved: &Finding, findings: &[Finding; 3]) -> Finding {
    let [programmed, announced, healthy] = findings;
    let required = [
        (resolved.status == ConditionStatus::True, resolved),
        (programmed.status != ConditionStatus::False, programmed),
        (announced.status == ConditionStatus::True, announced),
        (healthy.status == ConditionStatus::True, healthy),
    ];
    match required.into_iter().find(|(holds, _)| !holds) {
        None => Finding::new(READY, ConditionStatus::True, READY, announced.message.clone()),
        Some((_, Finding { status, reason, message, .. })) => {
            Finding::new(READY, *status, reason, message)
        }
    }
}

/// Whether everything that the service asks for is done: this version does all that it accepts.
fn fully_enforced() -> Finding {
    Finding::new(FULLY_ENFORCED, ConditionStatus::True, "Enforced", "")
}
