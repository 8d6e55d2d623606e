//! Closed loops: so many clients, each with the next request as soon as the last is answered.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use hyper::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    server::{Caller, object, project, request},
    support::client::Client,
};

/// How long a kind of request is measured.
const TERM: Duration = Duration::from_secs(5);
const FILLERS: usize = 64;
const PAGE: usize = 500;

/// What came of a load.
pub(crate) struct Outcome {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Outcome {
    pub(crate) fn of(mut times: Vec<Duration>, term: Duration) -> Self {
        times.sort();
        let at = |percent: usize| {
            times.get(times.len() * percent / 100).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3)
        };
        Self { rate: times.len() as f64 / term.as_secs_f64(), p50_ms: at(50), p99_ms: at(99) }
    }
}

pub(crate) async fn creates(caller: &Caller, clients: usize) -> Outcome {
    run(caller, clients, move |client, round| {
        let name = format!("c{clients}-{client}-{round}");
        (Method::POST, Caller::objects(), object(&name).to_string())
    })
    .await
}

pub(crate) async fn patches(caller: &Caller, clients: usize) -> Outcome {
    run(caller, clients, move |client, round| {
        let patch =
            json!({"metadata": {"annotations": {"bench.example.com/round": round.to_string()}}});
        (Method::PATCH, format!("{}/c{clients}-{client}-0", Caller::objects()), patch.to_string())
    })
    .await
}

pub(crate) async fn gets(caller: &Caller, clients: usize) -> Outcome {
    run(caller, clients, move |client, _| {
        (Method::GET, format!("{}/c{clients}-{client}-0", Caller::objects()), String::new())
    })
    .await
}

pub(crate) async fn lists(caller: &Caller, clients: usize) -> Outcome {
    let path = format!("{}?limit={PAGE}", Caller::objects());
    run(caller, clients, move |_, _| (Method::GET, path.clone(), String::new())).await
}

/// Objects of these numbers, as fast as they can be made.
pub(crate) async fn fill(caller: &Caller, numbers: Range<usize>) {
    in_parallel(caller, numbers, |number| {
        (Caller::objects(), object(&format!("f{}-{number}", number % FILLERS)).to_string())
    })
    .await;
}

pub(crate) async fn idle_projects(caller: &Caller, count: usize) {
    in_parallel(caller, 0..count, |number| {
        (Caller::projects(), project(&format!("idle-{number}")).to_string())
    })
    .await;
}

async fn in_parallel(
    caller: &Caller,
    numbers: Range<usize>,
    of: impl Fn(usize) -> (String, String) + Clone + Send + 'static,
) {
    let mut fillers = JoinSet::new();
    for first in numbers.clone().take(FILLERS) {
        let (caller, end, of) = (caller.clone(), numbers.end, of.clone());
        fillers.spawn(async move {
            let mut client = caller.connect().await;
            for number in (first..end).step_by(FILLERS) {
                let (path, body) = of(number);
                request(&mut client, Method::POST, &path, body).await;
            }
        });
    }
    fillers.join_all().await;
}

/// Requests of clients that are connected before the clock starts.
async fn run(
    caller: &Caller,
    clients: usize,
    of: impl Fn(usize, usize) -> (Method, String, String) + Clone + Send + 'static,
) -> Outcome {
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(caller.connect().await);
    }
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (number, client) in connected.into_iter().enumerate() {
        let of = of.clone();
        let of = move |round| of(number, round);
        running.spawn(rounds(client, began + TERM, of));
    }
    let times = running.join_all().await.into_iter().flatten().collect();
    Outcome::of(times, began.elapsed())
}

async fn rounds(
    mut client: Client,
    end: Instant,
    of: impl Fn(usize) -> (Method, String, String),
) -> Vec<Duration> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let (method, path, body) = of(times.len());
        let began = Instant::now();
        request(&mut client, method, &path, body).await;
        times.push(began.elapsed());
    }
    times
}
