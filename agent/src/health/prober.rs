//! [`Prober`]: one task per target, reports in one bounded queue.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::sleep_until,
};

use super::{Checker, Marks, Target, TargetId, Verdict, probe::probe};

/// Reports in flight; a full queue holds the probing tasks back, nothing is lost.
const REPORTS_MAX: usize = 1024;

/// A verdict that changed.
#[derive(Clone, Debug)]
pub struct Report {
    /// On whom.
    pub target: TargetId,
    /// The new verdict.
    pub verdict: Verdict,
    /// What the last failed probe met; empty when healthy.
    pub reason: Arc<str>,
    /// When it was found.
    pub at: Instant,
}

/// The probing tasks. Dropping it ends them.
#[derive(Debug)]
pub struct Prober {
    tasks: JoinSet<()>,
    running: BTreeMap<TargetId, Running>,
    reports: mpsc::Sender<Report>,
    /// Probes that have come to an end, whatever they found.
    count: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Running {
    target: Target,
    task: AbortHandle,
}

// === impl Prober ===

impl Prober {
    /// A prober without targets, and where its reports come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Report>) {
        let (reports, inbox) = mpsc::channel(REPORTS_MAX);
        let count = Arc::default();
        (Self { tasks: JoinSet::new(), running: BTreeMap::new(), reports, count }, inbox)
    }

    /// How many probes have come to an end so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Probes exactly `targets` from now on. A target that did not change keeps its history.
    pub fn set_targets(&mut self, targets: &BTreeMap<TargetId, Target>, marks: &Marks) {
        self.running.retain(|id, running| {
            let stays = targets.get(id) == Some(&running.target);
            if !stays {
                running.task.abort();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        for (id, target) in targets {
            if self.running.contains_key(id) {
                continue;
            }
            // A local backend is reached over loopback; any other one only by its mark.
            let mark = target.tunnel.and_then(|_| marks.mark(id));
            let (reports, count) = (self.reports.clone(), Arc::clone(&self.count));
            let watch = watch(id.clone(), target.clone(), mark, reports, count);
            let task = self.tasks.spawn(watch);
            self.running.insert(id.clone(), Running { target: target.clone(), task });
        }
    }
}

/// Probes one target until nobody listens.
async fn watch(
    id: TargetId,
    target: Target,
    mark: Option<u32>,
    reports: mpsc::Sender<Report>,
    count: Arc<AtomicU64>,
) {
    let mut checker = Checker::new(target.pace, Instant::now());
    loop {
        sleep_until(checker.due().into()).await;
        let started = Instant::now();
        let outcome = probe(&target, mark).await;
        count.fetch_add(1, Ordering::Relaxed);
        let Some(verdict) = checker.on_outcome(started, outcome.is_ok()) else { continue };
        let reason = outcome.err().map_or_else(String::new, |error| error.to_string());
        tracing::info!(service = %id.service, backend = %id.backend, ?verdict, reason, "health changed");
        let at = Instant::now();
        let report = Report { target: id.clone(), verdict, reason: reason.into(), at };
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;
    use crate::{health::Pace, model::Check};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn id() -> TargetId {
        TargetId { service: "s".into(), backend: "b".into() }
    }

    fn target(address: std::net::SocketAddr, check: Check) -> BTreeMap<TargetId, Target> {
        let fast = Duration::from_millis(5);
        let pace = Pace { interval: fast, fast_interval: fast, rise: 2, fall: 2 };
        let timeout = Duration::from_millis(500);
        BTreeMap::from([(id(), Target { address, tunnel: None, tenant: 1, check, timeout, pace })])
    }

    async fn answer(listener: TcpListener, status: &'static str) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap_or(0);
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok();
        }
    }

    fn http() -> Check {
        Check::Http { path: "/healthz".into(), host: None }
    }

    #[tokio::test]
    async fn a_listener_becomes_healthy_and_a_closed_port_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut prober, mut reports) = Prober::new();

        prober.set_targets(&target(address, Check::TcpConnect), &Marks::default());
        let up = timeout(PATIENCE, reports.recv()).await.unwrap().unwrap();
        drop(listener);
        let down = timeout(PATIENCE, reports.recv()).await.unwrap().unwrap();

        assert_eq!(up.verdict, Verdict::Healthy);
        assert_eq!(down.verdict, Verdict::Unhealthy);
        assert!(down.reason.contains("connect"), "{}", down.reason);
    }

    #[tokio::test]
    async fn an_error_status_is_a_failed_probe() {
        for (status, expected) in
            [("204 No Content", Verdict::Healthy), ("503 Service Unavailable", Verdict::Unhealthy)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(answer(listener, status));
            let (mut prober, mut reports) = Prober::new();

            prober.set_targets(&target(address, http()), &Marks::default());
            let report = timeout(PATIENCE, reports.recv()).await.unwrap().unwrap();

            assert_eq!(report.verdict, expected, "{status}: {}", report.reason);
            server.abort();
        }
    }
}
