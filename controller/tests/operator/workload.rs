//! [`Workload`]: creates, changes and deletes pools without end, and knows what was acknowledged.

use std::collections::BTreeMap;

use kube::{
    Api, Client, Error,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;

use super::pools;

const POOLS: usize = 24;

/// A client that writes.
pub(super) struct Workload {
    count: watch::Receiver<u64>,
    stop: CancellationToken,
    running: JoinHandle<Wanted>,
}

/// What has to be there in the end.
#[derive(Default)]
pub(super) struct Wanted(BTreeMap<String, State>);

/// One pool, as far as the client was told.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Absent,
    Present {
        weight: u64,
    },
    /// The server was killed before it answered.
    Unknown,
}

impl Workload {
    pub(super) fn start(client: Client) -> Self {
        let (counted, count) = watch::channel(0);
        let stop = CancellationToken::new();
        let running = tokio::spawn(write(pools(&client), counted, stop.clone()));
        Self { count, stop, running }
    }

    /// Writes that were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        *self.count.borrow()
    }

    pub(super) async fn until(&mut self, count: u64) {
        self.count.wait_for(|now| *now >= count).await.expect("it goes on");
    }

    pub(super) async fn finish(self) -> Wanted {
        self.stop.cancel();
        self.running.await.expect("it ends")
    }
}

impl Wanted {
    /// Where what is `there` differs.
    pub(super) fn differences(&self, there: &BTreeMap<String, &DynamicObject>) -> Vec<String> {
        let differs = |(name, state): &(&String, &State)| match (state, there.get(*name)) {
            (State::Absent, None) | (State::Unknown, _) => false,
            (State::Present { weight }, Some(pool)) => weight_of(pool) != Some(*weight),
            _ => true,
        };
        let names = self.0.iter().filter(differs).map(|(name, _)| name);
        names.map(|name| format!("{name} is not as it was acknowledged")).collect()
    }
}

/// What a pool says of its only host.
pub(super) fn weight_of(pool: &DynamicObject) -> Option<u64> {
    pool.data["spec"]["backends"][0]["weight"].as_u64()
}

fn spec(weight: u64) -> Value {
    json!({"spec": {"backends": [
        {"address": "198.51.100.1", "datacenter": "ams", "weight": weight},
    ]}})
}

async fn write(
    pools: Api<DynamicObject>,
    counted: watch::Sender<u64>,
    stop: CancellationToken,
) -> Wanted {
    let mut wanted = Wanted::default();
    for step in 0_u64.. {
        if stop.is_cancelled() {
            break;
        }
        // Two numbers without a common divisor: each pool sees every kind of step.
        let name = format!("pool-{}", step.wrapping_mul(7) % POOLS as u64);
        let state = *wanted.0.get(&name).unwrap_or(&State::Absent);
        match write_one(&pools, &name, state, step).await {
            Ok(state) => {
                wanted.0.insert(name, state);
                counted.send_modify(|count| *count += 1);
            }
            Err(Error::Api(refusal)) => panic!("{step}: {name}: {refusal:?}"),
            Err(_gone) => {
                wanted.0.insert(name, State::Unknown);
                // It is being started again.
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    wanted
}

async fn write_one(
    pools: &Api<DynamicObject>,
    name: &str,
    state: State,
    step: u64,
) -> Result<State, Error> {
    let weight = step % 1000;
    match state {
        State::Unknown => Ok(match pools.get_opt(name).await? {
            Some(pool) if pool.metadata.deletion_timestamp.is_none() => {
                State::Present { weight: weight_of(&pool).expect("a weight") }
            }
            _ => State::Absent,
        }),
        State::Present { .. } if step.is_multiple_of(5) => {
            pools.delete(name, &DeleteParams::default()).await?;
            Ok(State::Absent)
        }
        State::Present { .. } => {
            let patch = Patch::Merge(spec(weight));
            pools.patch(name, &PatchParams::default(), &patch).await?;
            Ok(State::Present { weight })
        }
        State::Absent => {
            let resource = super::resource("network", "BackendPool", "backendpools");
            let pool = DynamicObject::new(name, &resource).data(spec(weight));
            match pools.create(&PostParams::default(), &pool).await {
                // The one before it is not quite gone.
                Err(Error::Api(refusal)) if refusal.reason == "AlreadyExists" => Ok(State::Absent),
                created => created.map(|_| State::Present { weight }),
            }
        }
    }
}
