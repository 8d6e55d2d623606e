//! The command line of `isocast-controller`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// The Isocast control plane.
///
/// Serves a Kubernetes-style API over TLS for people and programs, and configures the nodes' agents
/// over QUIC. Everything it knows is in one folder, or in etcd where several controllers share it.
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
        /// Where the new platform is kept.
        #[command(flatten)]
        store: StoreOptions,
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
    // With it there is how to run; a group that has another one in it is not seen to be there.
    #[arg(long, value_name = "DIR", group = "RunOptions")]
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

    /// Where the platform is kept.
    #[command(flatten)]
    pub store: StoreOptions,

    /// Revisions that the store keeps, to be read and watched from.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub history_revisions: u64,

    /// How long the store keeps a revision.
    #[arg(long, value_name = "DURATION", default_value = "30d")]
    pub history_age: humantime::Duration,
    /// How long audit records are kept after their changes have left the log. Default: for good.
    #[arg(long, value_name = "DURATION")]
    pub audit_retention: Option<isocast_api::text::Duration>,

    /// How long a client may leave a piece of an answer untaken. It has half as long to send a body, and
    /// half as long again to send the head of a request.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub client_patience: humantime::Duration,

    /// How logs are written. What is logged is set by RUST_LOG.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Where a platform is kept.
#[derive(Clone, Debug, Default, Args)]
pub struct StoreOptions {
    /// What keeps the store: a file in the data folder, or etcd, which several controllers share.
    #[arg(long, value_enum, default_value_t = StoreKind::Redb)]
    pub store: StoreKind,

    /// Where etcd's members are, one URL each.
    #[arg(long, value_name = "URL,…", value_delimiter = ',', required_if_eq("store", "etcd"))]
    pub etcd_endpoints: Vec<String>,

    /// What the platform's keys in etcd begin with.
    #[arg(long, value_name = "PREFIX", default_value = "/isocast")]
    pub etcd_prefix: String,

    /// Certificate of the authority that etcd's certificates are from.
    #[arg(long, value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,

    /// Certificate to show to etcd.
    #[arg(long, value_name = "FILE", requires = "etcd_key")]
    pub etcd_cert: Option<PathBuf>,

    /// Its key.
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
}

/// What keeps the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// An etcd cluster.
    Etcd,
    /// A file.
    #[default]
    Redb,
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
        let etcd = ["isocast-controller", "--data", "/tmp/x", "--store", "etcd"];
        assert!(Options::try_parse_from(etcd).is_err(), "and where is it?");
        let where_it_is = ["--etcd-endpoints", "http://a:2379,http://b:2379"];
        let options = Options::try_parse_from(etcd.into_iter().chain(where_it_is));
        let run = options.expect("enough").run.expect("to run");
        assert_eq!(run.store.etcd_endpoints, ["http://a:2379", "http://b:2379"]);
        assert!(Options::try_parse_from(["isocast-controller", "completion", "bash"]).is_ok());
    }
}
