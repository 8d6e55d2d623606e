//! The command line of `isocast-controller`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// The Isocast control plane.
///
/// Serves a Kubernetes-style API over TLS for people and programs, and configures the nodes' agents
/// over QUIC. Everything it knows is in one folder.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Options {
    /// Something else than to run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run.
    #[command(flatten)]
    pub run: Option<RunOptions>,
}

/// Something else than to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Makes a platform from a backup, in a data folder that has none.
    ///
    /// Everything is checked first. Objects keep their revisions and uids; the platform goes on at a
    /// revision far beyond the backup's, so that none is given out twice.
    Restore {
        /// The backup, as `isocast backup` wrote it.
        #[arg(value_name = "FILE")]
        backup: PathBuf,
        /// Folder of the new platform.
        #[arg(long, value_name = "DIR", required_unless_present = "check")]
        data: Option<PathBuf>,
        /// Only says whether the backup is whole, and what is in it.
        #[arg(long, conflicts_with = "data")]
        check: bool,
    },
}

/// How to run.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Folder that holds the database, the certificate authority and admin.kubeconfig; made if need
    /// be.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,

    /// Where the API is served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,

    /// Where agents connect to (UDP).
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6444")]
    pub agent_listen: SocketAddr,

    /// Name or address that clients reach the API by, if it is not the one it listens on. Goes into
    /// admin.kubeconfig and the server's certificate.
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,

    /// A further name or address for the server's certificate; can be repeated.
    #[arg(long, value_name = "HOST")]
    pub san: Vec<String>,

    /// Where Prometheus metrics are served over plain HTTP, at /metrics.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,

    /// Revisions that the store keeps, to be read and watched from.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub history_revisions: u64,

    /// How long the store keeps a revision.
    #[arg(long, value_name = "DURATION", default_value = "30d")]
    pub history_age: humantime::Duration,
    /// How long audit records are kept after their changes have left the log. Default: for good.
    #[arg(long, value_name = "DURATION")]
    pub audit_retention: Option<isocast_api::text::Duration>,

    /// How logs are written. What is logged is set by RUST_LOG.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn only_the_data_folder_is_needed() {
        let options = Options::try_parse_from(["isocast-controller", "--data", "/tmp/x"]);
        let run = options.expect("enough").run.expect("to run");
        assert_eq!(run.listen.to_string(), "127.0.0.1:6443");
        assert!(Options::try_parse_from(["isocast-controller"]).is_err());
        assert!(Options::try_parse_from(["isocast-controller", "completion", "bash"]).is_ok());
    }
}
