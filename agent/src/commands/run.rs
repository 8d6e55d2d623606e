//! `isocast-agent run`: wires feed, runtime and endpoints together and waits for a signal.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    admin::{self, Views},
    bfd, config_file,
    inside::Inside,
    memory_file::MemoryFile,
    model::Limits,
    options::{LogFormat, RunOptions},
    priority,
    runtime::{Feed, Runtime, Setup},
    sync::{self, StateDir},
    telemetry,
};

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting. A controller out of reach does not.
pub fn run(options: RunOptions) -> anyhow::Result<()> {
    init_log(options.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The workers, which probe and answer questions, are there by now and stay as they are.
    tracing::debug!(priority = ?priority::before_others(), "decisions run");
    runtime.block_on(serve(options))
}

async fn serve(options: RunOptions) -> anyhow::Result<()> {
    let sync_metrics = sync::Metrics::default();
    let (feed, channel) = feed(&options, &sync_metrics).await?;
    let setup = Setup {
        feed,
        bpffs: options.bpffs,
        memory: MemoryFile::in_dir(options.state.is_dir().then_some(options.state)),
        limits: Limits { services: options.max_services },
    };
    let (agent, status) = Runtime::new(setup);

    let mut registry = Registry::default();
    sync_metrics.register(&mut registry);
    telemetry::register(&mut registry, status.clone(), agent.counters());
    agent.safety_metrics().register(&mut registry);
    if let Some(readout) = agent.bfd() {
        bfd::register(&mut registry, readout);
    }
    let views = Views {
        status,
        metrics: Arc::new(registry),
        inquirer: agent.inquirer(),
        inside: Inside::new(agent.counters()),
    };

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; the data plane stays in force");
    };
    let metrics = async {
        match options.metrics {
            Some(address) => admin::serve_metrics(address, views.clone())
                .await
                .with_context(|| format!("metrics on {address}")),
            None => std::future::pending().await,
        }
    };
    let local = async {
        let path = options.admin_socket.clone();
        admin::serve_local(path, views.clone())
            .await
            .with_context(|| format!("admin socket {}", options.admin_socket.display()))
    };
    let answers = admin::local(views.clone());
    let channel = async {
        match channel {
            Some(channel) => channel.answering(answers).run().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = agent.run(stop) => Ok(()),
        () = channel => Ok(()),
        outcome = metrics => outcome,
        outcome = local => outcome,
    }
}

/// The configured source of configurations; with a controller, also the channel to be run.
async fn feed(
    options: &RunOptions,
    metrics: &sync::Metrics,
) -> anyhow::Result<(Feed, Option<sync::Sync>)> {
    if let Some(path) = &options.config {
        std::fs::create_dir_all(&options.state).with_context(|| in_dir(&options.state))?;
        return Ok((Feed::file(config_file::load(path)?), None));
    }
    let (Some(controller), Some(node)) = (&options.controller, &options.node) else {
        anyhow::bail!("--controller and --node, or --config, are required");
    };
    let state = StateDir::open_once_free(&options.state, SUCCESSION).await;
    let (handle, channel) = sync::start(
        sync::Options {
            controller: controller.clone(),
            node: node.clone(),
            state_dir: state.with_context(|| in_dir(&options.state))?,
            join_token_file: options.join_token_file.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
        },
        metrics.clone(),
    )
    .with_context(|| in_dir(&options.state))?;
    Ok((Feed::channel(handle), Some(channel)))
}

/// How long a predecessor may take to be gone.
const SUCCESSION: Duration = Duration::from_secs(10);

fn in_dir(dir: &Path) -> String {
    format!("state directory {}", dir.display())
}

pub(super) fn init_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
}
