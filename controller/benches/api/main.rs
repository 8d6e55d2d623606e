//! How fast the API is, and how small: the released binary in a process of its own, under load that
//! comes over TLS from somebody with a token whom roles allow what they do.
//!
//! `cargo bench -p isocast-controller --bench api -- [PART] [--store etcd] [--json FILE]`. Client and server share the
//! machine, so figures of one run can be compared with each other, and those of two machines cannot. Each row says what
//! the server is meant to do on two cores; `docs/src/specification.md` has what it did.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark: it tells its figures or fails"
)]

mod disk;
mod etcd;
mod load;
mod report;
mod server;
#[path = "../../tests/support/mod.rs"]
mod support;
mod watch;

use std::time::Instant;

use self::{
    report::{Goal::AtLeast, Goal::AtMost, Report},
    server::{Caller, Server},
};

/// Objects of a small installation, for its memory.
const OBJECTS: usize = 15_000;
/// Objects of a large one, for its start.
const MANY_OBJECTS: usize = 100_000;
/// Projects that do nothing.
const IDLE_PROJECTS: usize = 100_000;

/// What is measured by itself when it is named.
#[derive(Clone, Copy)]
enum Part {
    Requests,
    Watch,
    Size,
    Projects,
}

impl Part {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "requests" => Self::Requests,
            "watch" => Self::Watch,
            "size" => Self::Size,
            "projects" => Self::Projects,
            _ => return None,
        })
    }
}

#[tokio::main]
async fn main() {
    let mut report = Report::from_arguments();
    if std::env::args().any(|argument| argument == "etcd") {
        etcd::compare(&mut report).await;
        return report.write();
    }
    match std::env::args().find_map(|argument| Part::named(&argument)) {
        Some(Part::Requests) => requests(&mut report).await,
        Some(Part::Watch) => {
            let server = Server::start();
            watches(&mut report, &server.tenant().await).await;
        }
        Some(Part::Size) => size(&mut report).await,
        Some(Part::Projects) => projects(&mut report).await,
        None => {
            requests(&mut report).await;
            size(&mut report).await;
            projects(&mut report).await;
        }
    }
    report.write();
}

/// Requests of each kind, on a server that is filled by them.
async fn requests(report: &mut Report) {
    report.row("fdatasync_ms", "the disk keeps a page, p50, ms", disk::fdatasync_ms(), None);
    let server = Server::start();
    let tenant = server.tenant().await;
    let alone = load::creates(&tenant, 1).await;
    report.row("creates_per_s_1", "creates/s, 1 client", alone.rate, AtLeast(1_600.0));
    let creates = load::creates(&tenant, 64).await;
    report.row("creates_per_s_64", "creates/s, 64 clients", creates.rate, AtLeast(12_000.0));
    report.row("create_p99_ms_64", "  p99, ms", creates.p99_ms, AtMost(15.0));
    let patches = load::patches(&tenant, 64).await;
    report.row("patches_per_s_64", "merge patches/s, 64 clients", patches.rate, AtLeast(8_500.0));
    let gets = load::gets(&tenant, 64).await;
    report.row("gets_per_s_64", "gets/s, 64 clients", gets.rate, AtLeast(13_500.0));
    let lists = load::lists(&tenant, 4).await;
    report.row("lists_per_s_4", "lists of 500/s, 4 clients", lists.rate, AtLeast(450.0));
    watches(report, &tenant).await;
}

/// How long until watchers know.
async fn watches(report: &mut Report, tenant: &Caller) {
    for (watchers, goal) in [(1, 0.5), (100, 1.0), (1_000, 4.0)] {
        let latency = watch::latency(tenant, watchers).await;
        let key = format!("watch_p50_ms_{watchers}");
        let text = format!("watch latency p50, ms, {watchers} watchers");
        report.row(&key, &text, latency.p50_ms, AtMost(goal));
        report.row(&format!("watch_p99_ms_{watchers}"), "  p99, ms", latency.p99_ms, None);
    }
}

/// Memory, and the time until a restarted server answers.
async fn size(report: &mut Report) {
    let server = Server::start();
    let tenant = server.tenant().await;
    report.row("rss_empty_mib", "memory, MiB, of nothing", server.rss_mib(), None);
    load::fill(&tenant, 0..OBJECTS).await;
    report.row("rss_objects_mib", "  15 k objects", server.rss_mib(), None);
    let watchers = watch::open(&tenant, 1_000).await;
    report.row("rss_mib", "  15 k objects and 1,000 watchers", server.rss_mib(), AtMost(80.0));
    drop(watchers);
    load::fill(&tenant, OBJECTS..MANY_OBJECTS).await;
    let stopped = server.stop();
    let began = Instant::now();
    let server = stopped.start();
    server.tenant_of(&tenant).await;
    let took = began.elapsed().as_secs_f64();
    report.row("restart_100k_s", "restart with 100 k objects, s", took, AtMost(3.0));
}

/// Projects: how fast they come, when they are ready, and what they cost while nothing happens.
async fn projects(report: &mut Report) {
    let server = Server::start();
    let platform = server.platform().await;
    let (made, ready) = watch::projects(&platform, 16).await;
    report.row("project_creates_per_s", "projects/s, 16 clients", made.rate, AtLeast(1_000.0));
    report.row("project_ready_p99_ms", "  until ready, p99, ms", ready.p99_ms, AtMost(50.0));
    let before = server.rss_mib();
    load::idle_projects(&platform, IDLE_PROJECTS).await;
    let each = (server.rss_mib() - before) * 1024.0 / IDLE_PROJECTS as f64;
    report.row("idle_project_kib", "memory of an idle project, KiB", each, AtMost(10.0));
}
