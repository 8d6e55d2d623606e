//! `isocast`: the operator's and the tenant's command line.
//!
//! Talks to the controller, as any client of its API does; about one host also to that host's agent. Answers go to standard output,
//! everything else to standard error. Exit codes: 0 done, 1 failed, 2 misused.

#![forbid(unsafe_code)]

mod audit;
mod backup;
mod bgp;
mod bgp_policy;
mod client;
mod contexts;
mod drain;
mod files;
mod fleet;
mod flow;
mod get;
mod iam;
mod init;
mod keys;
mod kubeconfig;
mod local;
mod options;
mod output;
mod pcap;
mod quota;
mod resource;
mod status;
mod token;
mod top;
mod view;
mod waiting;
mod why;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser};

use self::{
    client::Client,
    kubeconfig::Kubeconfig,
    options::{BgpCommand, Command, NodeCommand, Options},
};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads the output has read enough: `isocast get … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed, the exit code is all that is left to say.
            let _closed = writeln!(io::stderr(), "Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let out = &mut io::stdout().lock();
    let connect = || -> anyhow::Result<(Client, Kubeconfig)> {
        let kubeconfig =
            Kubeconfig::load(options.kubeconfig.as_deref(), options.context.as_deref())?;
        Ok((Client::new(&kubeconfig)?, kubeconfig))
    };
    match &options.command {
        Command::Get(arguments) => {
            let (client, kubeconfig) = connect()?;
            get::run(&client, &kubeconfig, arguments, out)
        }
        Command::Node { command: NodeCommand::Token(arguments) } => {
            token::run(&connect()?.0, arguments, out)
        }
        Command::Iam { command } => {
            let (client, kubeconfig) = connect()?;
            iam::run(&client, &kubeconfig, command, out)
        }
        Command::Init(arguments) => {
            let (client, kubeconfig) = connect()?;
            init::run(&client, &kubeconfig, arguments, out)
        }
        Command::Kubeconfig(arguments) => {
            let (client, kubeconfig) = connect()?;
            view::run(&client, &kubeconfig, arguments, out)
        }
        Command::Audit { command } => audit::run(&connect()?.0, command, out),
        Command::Bgp { command } => match command {
            BgpCommand::Peers(arguments) => bgp::peers(&connect, arguments, out),
            BgpCommand::Routes(arguments) => bgp::routes(&connect, arguments, out),
            BgpCommand::Advertisements(arguments) => bgp::advertisements(&connect, arguments, out),
            BgpCommand::Policy { command } => bgp_policy::run(|| Ok(connect()?.0), command, out),
        },
        Command::Explain(arguments) => flow::explain(&connect, arguments, out),
        Command::Trace(arguments) => flow::trace(&connect, arguments, out),
        Command::Pcap(arguments) => pcap::run(&connect, arguments, out),
        Command::Top(arguments) => top::run(&connect, arguments, out),
        Command::Why(arguments) => why::run(&connect, arguments, out),
        Command::Drain { command } => {
            let (client, kubeconfig) = connect()?;
            drain::run(&client, &kubeconfig, command, out)
        }
        Command::Backup(arguments) => backup::run(&connect()?.0, arguments, out),
        Command::Keys { command } => keys::run(&connect()?.0, command, out),
        Command::Quota(arguments) => {
            let (client, kubeconfig) = connect()?;
            quota::run(&client, &kubeconfig, arguments, out)
        }
        Command::Status { output } => status::run(&connect()?.0, *output, out),
        Command::Version { server } => {
            writeln!(out, "isocast {}", env!("CARGO_PKG_VERSION")).context("cannot write")?;
            if *server {
                let version = connect()?.0.get("/version")?;
                let version = version.get("gitVersion").and_then(|it| it.as_str());
                writeln!(out, "server {}", version.unwrap_or("unknown")).context("cannot write")?;
            }
            Ok(())
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Options::command(), "isocast", &mut script);
            out.write_all(&script).context("cannot write")
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut chain = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    chain.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
