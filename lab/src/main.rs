//! `isocast-lab`: the lab's command line.

use std::{
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use isocast_lab::{
    demo, inspect,
    lab::Lab,
    scenario::Scenario,
    state::State,
    tools::{Tools, check_root},
    topology::Topology,
};

/// Networks of real routers and hosts on one machine, and what happens to them when things break.
#[derive(Debug, Parser)]
#[command(name = "isocast-lab", version, propagate_version = true)]
struct Options {
    /// Folder of isocast, isocast-agent and isocast-controller [default: where this program is]
    #[arg(long, global = true, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// kubectl [default: $ISOCAST_TOOLS/kubectl, else kubectl]
    #[arg(long, global = true, value_name = "FILE")]
    kubectl: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a topology's nodes and links, and start what runs on them
    Up {
        /// containerlab topology file
        topology: PathBuf,
        /// Agents read a file instead of asking a controller
        #[arg(long = "static")]
        is_static: bool,
    },
    /// Remove a lab, also what is left of one that crashed
    Down {
        /// Topology file or name of the lab [default: every lab there is]
        topology: Option<String>,
    },
    /// Play the main job: one service in two datacenters, users on it, one disaster after another
    Demo {
        #[command(flatten)]
        play: Play,
    },
    /// Play a scenario of your own, or one of lab/scenarios/
    Run {
        /// Scenario file
        scenario: PathBuf,
        #[command(flatten)]
        play: Play,
    },
    /// Run a command on a node
    Exec {
        /// Name of the node
        node: String,
        /// Command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
        /// Name of the lab [default: the only one there is]
        #[arg(long)]
        lab: Option<String>,
    },
    /// List the nodes of the labs there are
    Inspect {
        /// Form of the list
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Tell senders of packets that are too long, as briefly as a router may; for scenarios
    #[command(hide = true)]
    BlackHole {
        /// Longest packet that is not
        #[arg(long)]
        mtu: u16,
        /// Address of a sender that is told
        #[arg(long, required = true)]
        source: Vec<IpAddr>,
    },
    /// Print a shell's completion script
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// How a scenario is played.
#[derive(Debug, Args)]
struct Play {
    /// Without a controller: agents read files
    #[arg(long = "static")]
    is_static: bool,
    /// Play only these events
    #[arg(long, value_delimiter = ',', value_name = "EVENT,…")]
    only: Vec<String>,
    /// Leave the lab up, and say how to look around
    #[arg(long)]
    keep: bool,
    /// Write the result to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            // The last resort when even standard error is closed is the exit code.
            let _closed = writeln!(std::io::stderr(), "isocast-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<ExitCode> {
    let tools = tools(options.bin_dir, options.kubectl)?;
    let mut out = std::io::stdout().lock();
    match options.command {
        Command::Up { topology, is_static } => {
            check_root()?;
            let lab = Lab::create(&topology, tools, is_static)?;
            for node in lab.topology.nodes.keys() {
                lab.start(node)?;
            }
            write!(out, "{}", inspect::table(&inspect::nodes(&lab)?))?;
        }
        Command::Down { topology } => {
            check_root()?;
            for name in names(topology)? {
                Lab::down(&name).with_context(|| format!("lab {name} is not wholly removed"))?;
                writeln!(out, "removed {name}")?;
            }
        }
        Command::Demo { play: how } => return play(Path::new(MAIN_JOB), how, tools, &mut out),
        Command::Run { scenario, play: how } => return play(&scenario, how, tools, &mut out),
        Command::Exec { node, command, lab } => {
            check_root()?;
            let lab = Lab::open(&the_lab(lab)?, tools)?;
            return exec(&lab, &node, &command);
        }
        Command::Inspect { output } => {
            let mut nodes = Vec::new();
            for name in State::all() {
                nodes.extend(inspect::nodes(&Lab::open(&name, tools.clone())?)?);
            }
            match output {
                Output::Table => write!(out, "{}", inspect::table(&nodes))?,
                Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&nodes)?)?,
            }
        }
        Command::BlackHole { mtu, source } => {
            check_root()?;
            isocast_lab::black_hole::tell(mtu, &source)?;
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Options::command(), "isocast-lab", &mut out);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Plays a scenario; the lab is removed afterwards, also after an error or an interrupt, unless it
/// is to be kept.
fn play(path: &Path, how: Play, tools: Tools, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    check_root()?;
    let Play { is_static, only, keep, json } = how;
    let mut scenario = Scenario::read(path)?;
    scenario.select(&only, is_static)?;
    let name = Topology::read(&scenario.topology)?.name;
    let options = demo::Options { scenario, is_static };
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let played = runtime.block_on(async {
        let mut progress = |line: &str| {
            // Who closes our output does not want to know.
            let _closed = writeln!(out, "[{:6.1} s] {line}", started.elapsed().as_secs_f64())
                .and_then(|()| out.flush());
        };
        tokio::select! {
            played = demo::play(&options, tools.clone(), &mut progress) => Ok(played?),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    match Lab::open(&name, tools) {
        Ok(lab) if keep => write!(out, "\n{}", inspect::guide(&lab))?,
        _ => Lab::down(&name).with_context(|| format!("lab {name} is not wholly removed"))?,
    }
    let report = played?;
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    write!(out, "\n{}", report.table())?;
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a command on a node and hands on its exit code.
fn exec(lab: &Lab, node: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    lab.node(node)?;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut child = lab.topology.node_namespace(node).command(program);
    let status = child.args(arguments).status().with_context(|| format!("cannot run {program}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn tools(bin_dir: Option<PathBuf>, kubectl: Option<PathBuf>) -> anyhow::Result<Tools> {
    let own = std::env::current_exe().context("where is this program?")?;
    let beside = own.parent().map(PathBuf::from).unwrap_or_default();
    let from_tools =
        || std::env::var_os("ISOCAST_TOOLS").map(|dir| PathBuf::from(dir).join("kubectl"));
    Ok(Tools {
        programs: bin_dir.unwrap_or(beside),
        kubectl: kubectl.or_else(from_tools).unwrap_or_else(|| "kubectl".into()),
    })
}

/// What `demo` plays.
const MAIN_JOB: &str = "lab/scenarios/main-job.yml";

/// Names of the labs that `down` is about: of a file, by name, or all.
fn names(topology: Option<String>) -> anyhow::Result<Vec<String>> {
    let Some(topology) = topology else { return Ok(State::all()) };
    if topology.ends_with(".yml") || topology.ends_with(".yaml") {
        return Ok(vec![Topology::read(topology.as_ref())?.name]);
    }
    Ok(vec![topology])
}

fn the_lab(name: Option<String>) -> anyhow::Result<String> {
    if let Some(name) = name {
        return Ok(name);
    }
    match State::all().as_slice() {
        [only] => Ok(only.clone()),
        [] => anyhow::bail!("there is no lab; `isocast-lab up FILE` makes one"),
        several => {
            anyhow::bail!("there are several labs, choose with --lab: {}", several.join(", "))
        }
    }
}
