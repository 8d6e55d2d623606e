//! `isocast-controller`: parses the command line and starts the library.

use std::{
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser};
use isocast_controller::{
    controller::Controller,
    options::{Command, LogFormat, Options, RunOptions, StoreOptions},
    restore,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Objects are trees of small strings: half of what glibc's allocator costs with them is saved.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match (options.command, options.run) {
        (Some(Command::Completion { shell }), _) => {
            let mut command = Options::command();
            clap_complete::generate(shell, &mut command, "isocast-controller", &mut io::stdout());
            Ok(())
        }
        (Some(Command::Restore { backup, data, check: _, store }), _) => {
            restore_from(&backup, data.as_deref(), &store)
        }
        (None, Some(run)) => {
            prepare_process();
            serve(&run)
        }
        (None, None) => Err(anyhow::anyhow!("--data is required")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place where the program gives up")]
            {
                eprintln!("isocast-controller: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

/// What a process with many small objects and many connections wants of the kernel. It goes on without.
fn prepare_process() {
    // A page of 2 MiB stays whole for one object in it: 16 MiB of an idle controller.
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

#[expect(clippy::print_stdout, reason = "tells whoever restores what came of it")]
fn restore_from(backup: &Path, data: Option<&Path>, store: &StoreOptions) -> anyhow::Result<()> {
    let found = match data {
        Some(data) => restore::into_store(backup, data, store)?,
        None => restore::check(backup)?,
    };
    println!("The backup is whole: {} objects at revision {}.", found.objects, found.of);
    if let Some(data) = data {
        println!("Restored into {}; it goes on at revision {}.", data.display(), found.at);
    }
    Ok(())
}

fn serve(options: &RunOptions) -> anyhow::Result<()> {
    log(options.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
        let controller = Controller::start(options).await?;
        greet(&controller);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(controller.run(shutdown.clone()));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = shutdown.cancelled() => {}
        }
        tracing::info!("stopping");
        shutdown.cancel();
        running.await.context("the control plane failed")
    })
}

#[expect(clippy::print_stdout, reason = "tells whoever starts it how to reach it")]
fn greet(controller: &Controller) {
    println!("The API is at {}", controller.url());
    println!("  export KUBECONFIG={}", controller.kubeconfig().display());
    println!("  kubectl api-resources");
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(LOGGED));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.init(),
    }
}

/// What is logged unless `RUST_LOG` says otherwise. Of what rustls warns is what anybody may say to it
/// before they said who they are, as often as they like: an address in place of a name, say.
const LOGGED: &str = "info,rustls=error";
