//! The command line of `isocast-agent`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::RangedI64ValueParser, value_parser};
use isocast_api::agent::local::dataplane::LocalSocket;
use isocast_dataplane::fixture::BACKENDS_MAX;
use isocast_dataplane_common::limits::MAX_SERVICES;

/// Announces anycast addresses, balances their flows and takes them out of tunnels.
#[derive(Debug, Parser)]
#[command(name = "isocast-agent", version, propagate_version = true)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent.
    Run(RunOptions),
    /// Run the BGP speaker alone, without a controller, services or a data plane.
    Speaker(SpeakerOptions),
    /// Check what the kernel offers: every need, ok or missing, and what a missing one costs.
    Preflight(PreflightOptions),
    /// Show what the running agent does: services, sessions, backends.
    Status(StatusOptions),
    /// Say what the data plane's tables make of a packet.
    Explain(FlowOptions),
    /// Run a packet through the data plane's program, without sending it, and compare.
    Trace(FlowOptions),
    /// Take this host's data plane out of the kernel. The agent must not be running.
    Detach(DetachOptions),
    /// The data plane's program, apart from what this host does.
    Dataplane(DataplaneOptions),
    /// Print a completion script.
    Completion {
        /// For this shell.
        shell: clap_complete::Shell,
    },
}

/// Where the configuration comes from, and where state goes.
#[derive(Args, Debug)]
pub struct RunOptions {
    /// Configuration from a file (YAML or JSON), without a controller.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["controller", "join_token_file"])]
    pub config: Option<PathBuf>,
    /// Controller to take the configuration from; of several, all, with commas between.
    #[arg(long, value_name = "HOST:PORT,…", requires = "node", required_unless_present = "config")]
    pub controller: Option<String>,
    /// Name of this host's Node object.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Identity, last-known-good configuration and steering memory are kept here.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/isocast")]
    pub state: PathBuf,
    /// One-time token for joining (`isocast node token NAME`); not needed once joined.
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Where programs and maps are pinned; one directory per agent on a host.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    pub bpffs: PathBuf,
    /// Take no more services than this; those in force come first.
    #[arg(long, value_name = "N", default_value_t = MAX_SERVICES)]
    pub max_services: usize,
    /// Serve Prometheus metrics here.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Answer `isocast` on this socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub admin_socket: PathBuf,
    /// Form of the log on standard error; RUST_LOG sets the level.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Options of `speaker`.
#[derive(Args, Debug)]
pub struct SpeakerOptions {
    /// Router, peers and announcements (TOML). SIGHUP has it read again.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only say whether the file could be run with.
    #[arg(long)]
    pub check: bool,
    /// Form of the log on standard error; RUST_LOG sets the level.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Options of `preflight`.
#[derive(Args, Debug)]
pub struct PreflightOptions {
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// Options of `status`.
#[derive(Args, Debug)]
pub struct StatusOptions {
    /// Socket of the agent.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub admin_socket: PathBuf,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// Options of `explain` and `trace`.
#[derive(Args, Debug)]
pub struct FlowOptions {
    /// tcp, udp or icmp
    #[arg(value_name = "PROTOCOL")]
    pub protocol: String,
    /// Who sends: ADDRESS:PORT; without a port for icmp
    #[arg(value_name = "SOURCE")]
    pub from: String,
    /// Where to: ADDRESS:PORT; without a port for icmp
    #[arg(value_name = "DESTINATION")]
    pub to: String,
    /// The TCP packet opens the connection.
    #[arg(long)]
    pub syn: bool,
    /// Bytes after the transport header.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub payload: u16,
    /// Suppose that this host has a socket of its own for the flow; `closed`: what is left of one.
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "none",
        default_missing_value = "open",
        num_args = 0..=1,
        require_equals = true
    )]
    pub local_socket: LocalSocket,
    /// Socket of the agent.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub admin_socket: PathBuf,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// Options of `detach`.
#[derive(Args, Debug)]
pub struct DetachOptions {
    /// Where programs and maps are pinned.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    pub bpffs: PathBuf,
}

/// Options of `dataplane`.
#[derive(Args, Debug)]
pub struct DataplaneOptions {
    /// What to do with the program.
    #[command(subcommand)]
    pub command: DataplaneCommand,
}

/// What to do with the program.
#[derive(Debug, Subcommand)]
pub enum DataplaneCommand {
    /// Load and pin a configured program, to be measured by test runs; `detach` removes it.
    ///
    /// It balances TCP port 80 and UDP port 53 of 203.0.113.10 and TCP port 80 of 2001:db8:f::10
    /// with GUE over IPv4. It has no uplink and needs no network.
    Fixture(FixtureOptions),
}

/// Options of `dataplane fixture`.
#[derive(Args, Debug)]
pub struct FixtureOptions {
    /// Where program and maps are pinned: a folder of its own on a BPF file system.
    #[arg(long, value_name = "DIR")]
    pub pin: PathBuf,
    /// Number of services, each with a ring of its own.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = count(MAX_SERVICES))]
    pub services: u16,
    /// Number of backends of each service.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count(BACKENDS_MAX))]
    pub backends: u16,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// At least one, and no more than there may be.
fn count(max: usize) -> RangedI64ValueParser<u16> {
    value_parser!(u16).range(1..=i64::try_from(max).unwrap_or(i64::MAX))
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For programs.
    Json,
    /// For people.
    Table,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One object a line.
    Json,
    /// For people.
    Text,
}

const DEFAULT_BPFFS: &str = "/sys/fs/bpf/isocast";
const DEFAULT_SOCKET: &str = "/run/isocast/agent.sock";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_source_of_configuration_is_required() {
        let refused = Options::try_parse_from(["isocast-agent", "run"]).unwrap_err();

        assert!(refused.to_string().contains("--controller"), "{refused}");
    }
}
