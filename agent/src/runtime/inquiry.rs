//! [`Inquirer`]: questions to the runtime, about why a prefix is announced or is not.
//!
//! Answered between two events, from what is in force; nothing is kept ready for a question that
//! nobody may ask.

use std::collections::BTreeMap;

use ipnet::IpNet;
use isocast_api::agent::local::{BudgetView, GateView, OriginService, OriginView};
use isocast_bgp::{
    guard::ExportGuard,
    origination::{Elsewhere, Gate, Moment, Rules, Standing},
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    bgp::Desk,
    model::{NodeModel, Service, Uid},
    steer::{Placement, Plan},
};

/// Questions that wait; one more is refused.
const QUESTIONS_MAX: usize = 16;

/// Asks the runtime.
#[derive(Clone, Debug)]
pub struct Inquirer(mpsc::Sender<Question>);

/// A question, and where the answer goes.
#[derive(Debug)]
pub(super) struct Question {
    /// What is asked about, if it is about a prefix.
    pub(super) prefix: Option<IpNet>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What the runtime knows.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Name of the node; empty: there is no configuration yet.
    pub node: String,
    /// The node's own right to announce the prefix.
    pub origin: Option<OriginView>,
    /// Where to go on asking about peers and routes; nothing: no speaker runs.
    pub desk: Option<Desk>,
}

/// There is no answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unanswered {
    /// So many ask that one more has to wait.
    #[error("too many questions at a time; ask again")]
    Busy,
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending,
}

pub(super) fn channel() -> (Inquirer, mpsc::Receiver<Question>) {
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    (Inquirer(sender), receiver)
}

// === impl Inquirer ===

impl Inquirer {
    /// Asks, about a prefix or in general.
    ///
    /// # Errors
    /// Too many ask, or nobody is there to answer.
    pub async fn ask(&self, prefix: Option<IpNet>) -> Result<Answer, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Question { prefix, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Ending,
        })?;
        answered.await.map_err(|_gone| Unanswered::Ending)
    }
}

/// Why a prefix is announced or not; nothing if no service has it.
pub(super) fn origin(
    model: &NodeModel,
    plan: &Plan,
    prefix: IpNet,
    now: Moment,
) -> Option<OriginView> {
    let standing = plan.standings.get(&prefix)?;
    let here: BTreeMap<&Uid, &Service> = model
        .services
        .iter()
        .filter(|(_, service)| service.addresses.iter().any(|it| IpNet::from(*it) == prefix))
        .collect();
    let elsewhere: Vec<_> =
        here.keys().filter_map(|uid| plan.memory.elsewhere.get(*uid)).copied().collect();
    let keeper = |it: &Elsewhere| matches!(it, Elsewhere::Known { keeper: true, .. });
    let others = elsewhere.iter().filter_map(|it| match it {
        Elsewhere::Known { others, .. } => Some(*others),
        Elsewhere::Unknown => None,
    });
    let budget = Rules::default().withdrawals;
    let announced = plan.memory.ledger.announced().count();
    Some(OriginView {
        announced: standing.is_announced(),
        reason: standing.reason().to_owned(),
        message: standing.message().to_owned(),
        services: here.iter().map(|(uid, service)| of_service(plan, uid, service)).collect(),
        gates: gates(plan, &prefix),
        hold: Standing::hold(standing).map(|hold| hold.reason().to_owned()),
        other_announcers: others.max(),
        keeper: elsewhere.iter().any(keeper),
        permitted: ExportGuard::new(plan.announceable.iter().copied()).permit(prefix).is_some(),
        withdrawals: BudgetView {
            left: plan.memory.ledger.withdrawals_left(&budget, now),
            limit: budget.limit(announced),
            window_s: budget.window.as_secs(),
        },
    })
}

fn of_service(plan: &Plan, uid: &Uid, service: &Service) -> OriginService {
    let steered = plan.services.get(uid);
    let placement = match steered.map(|it| &it.placement) {
        None => "not steered yet".to_owned(),
        Some(Placement::Local) => "local backends".to_owned(),
        Some(Placement::Remote { .. }) => "backends of other datacenters".to_owned(),
        Some(Placement::Regardless) => "all backends, healthy or not".to_owned(),
        Some(Placement::Held { reason }) => format!("the backends it had ({reason})"),
        Some(Placement::Unjudged) => "nobody yet: its backends are not judged".to_owned(),
        Some(Placement::Nowhere { reason }) => format!("nobody ({reason})"),
    };
    OriginService { namespace: service.namespace.clone(), name: service.name.clone(), placement }
}

fn gates(plan: &Plan, prefix: &IpNet) -> Vec<GateView> {
    let closed = plan.closed.get(prefix);
    let view = |gate: Gate| {
        let is_open = closed.is_none_or(|closed| !closed.contains(&gate));
        let why = |text: &str| (!is_open).then(|| text.to_owned());
        GateView {
            name: format!("{gate:?}"),
            open: is_open,
            reason: why(gate.reason()),
            message: why(gate.message()),
        }
    };
    Gate::ALL.into_iter().map(view).collect()
}
