//! The command line's words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use isocast_api::text::Duration;

use crate::{
    audit::AuditCommand,
    backup::BackupArguments,
    bgp::{ListArguments, RoutesArguments},
    bgp_policy::PolicyCommand,
    drain::DrainCommand,
    flow::FlowArguments,
    iam::IamCommand,
    init::InitArguments,
    keys::KeysCommand,
    pcap::PcapArguments,
    quota::QuotaArguments,
    top::TopArguments,
    view::ViewArguments,
    why::WhyArguments,
};

/// See and run an Isocast platform.
#[derive(Debug, Parser)]
#[command(
    name = "isocast",
    version,
    propagate_version = true,
    after_help = "Objects are made and changed with kubectl, which works with the same kubeconfig.\n\
                  Exit codes: 0 done, 1 failed, 2 misused."
)]
pub(crate) struct Options {
    /// File that says where the controller is, and who asks
    /// [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy the whole platform into a file, while it runs
    ///
    /// For the administrator's credential alone. `isocast-controller restore` makes a platform of it.
    Backup(BackupArguments),
    /// List objects, or show one
    Get(GetArguments),
    /// Who did what, and whether the records are what was written
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Routing: what is announced, and by which rules
    Bgp {
        #[command(subcommand)]
        command: BgpCommand,
    },
    /// Take nodes, datacenters or services off the air without losing a flow
    ///
    /// Routers are told that the routes are going, then the routes go, then what stood behind them
    /// may stop. Refused for the last announcer of a prefix unless that is confirmed.
    Drain {
        #[command(subcommand)]
        command: DrainCommand,
    },
    /// Who may do what, and why; tokens of accounts
    Iam {
        #[command(subcommand)]
        command: IamCommand,
    },
    /// Begin: an organization, its first project, who administers them, and a context to work in
    ///
    /// isocast init anna && kubectl get acs,bpool
    ///
    /// The user may administer the organization and nothing else; the contexts, one of the organization and
    /// one of the project, ask with the user's token. For who may make organizations and users.
    Init(InitArguments),
    /// Print a kubeconfig for one organization, folder or project
    ///
    /// isocast kubeconfig --project web-prod > web-prod.kubeconfig
    ///
    /// Its server is a view: kubectl -A lists what lies in the container and below, and nothing else.
    Kubeconfig(ViewArguments),
    /// Replace the keys of tunnels and flows without losing a flow
    ///
    /// Nodes learn the new key, then use it, then forget the former one. A node that is away holds the
    /// rotation until it is back, gone or skipped.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Bring nodes into the platform
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Show what a container may have, has, and can still get
    Quota(QuotaArguments),
    /// Show how datacenters and services are
    Status {
        /// Form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: StatusOutput,
    },
    /// Explain why a prefix is announced or not
    ///
    /// Without a node: what every node that carries it makes of it. With one: the services at it,
    /// every gate, what holds it, every path, and what each router was told or why not.
    Why(WhyArguments),
    /// Say what the data plane's tables make of a packet
    ///
    /// isocast explain tcp 192.0.2.1:4711 203.0.113.10:80
    ///
    /// The same hash, rings and headers as the program's, without the program. Every edge is asked
    /// unless one is named, which then answers stage by stage.
    Explain(FlowArguments),
    /// Run a packet through the program of an edge, without sending it
    ///
    /// Stage by stage, with what was counted, and whether the program does what the tables say.
    Trace(FlowArguments),
    /// Capture packets of a service, as they arrive at edges and as they leave them
    ///
    /// isocast pcap web-prod/www --node edge-ams-1 --count 100 -w www.pcapng
    ///
    /// The first 192 bytes of each frame, with the tenant's payload in them. Backend, slot,
    /// generation and what became of the packet are its comment.
    Pcap(PcapArguments),
    /// Show the busiest services, backends and tenants, and what is dropped
    Top(TopArguments),
    /// Print the version
    Version {
        /// And the controller's
        #[arg(long)]
        server: bool,
    },
    /// Print a shell's completion script
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    /// Kind of the objects: services, nodes, peers, …; in any of the forms that kubectl takes
    pub(crate) kind: String,
    /// Name of one object [default: all]
    pub(crate) name: Option<String>,
    /// Namespace, which is the name of a project or organization [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "name"])]
    pub(crate) all_namespaces: bool,
    /// Objects with these labels: key=value,…
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "name")]
    pub(crate) selector: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: GetOutput,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BgpCommand {
    /// Sessions with routers: of every node as reported, or of one node in full
    Peers(ListArguments),
    /// Routes that a node knows, with every path to a prefix
    Routes(RoutesArguments),
    /// What is announced: by every node as reported, or by one node
    Advertisements(ListArguments),
    /// Change policies without surprises
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make a token with which a host joins as a node, once
    ///
    /// The Node object must exist. Put the token into a file on the host and start there:
    /// isocast-agent run --controller HOST:PORT --node NAME --state DIR --join-token-file FILE
    Token(TokenArguments),
}

#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// Name of the Node object
    pub(crate) name: String,
    /// How long the token may be used
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    pub(crate) ttl: Duration,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: TokenOutput,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GetOutput {
    /// A table
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// The objects
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusOutput {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenOutput {
    /// The token alone
    #[default]
    Text,
    /// The token and when it expires
    Json,
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
    fn a_malformed_ttl_is_misuse() {
        let refused = Options::try_parse_from(["isocast", "node", "token", "a", "--ttl", "1"]);

        let message = refused.unwrap_err().to_string();
        assert!(message.contains("must be a duration such as 500ms, 30s or 1h30m"), "{message}");
    }
}
