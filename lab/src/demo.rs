//! Plays a [`Scenario`]: one service in two datacenters, real users, and one event after another.
//!
//! Makes the lab, configures it (with kubectl through the controller, or with files), puts users on
//! it, and plays the events; each is judged by its declared limits.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use thiserror::Error;

mod files;
mod kube;
mod report;
mod run;
mod scene;
mod stage;
mod verdict;

pub use self::report::Report;
use self::{kube::Kube, scene::Scene};
use crate::{
    collector::{Collector, CollectorError},
    command::CommandError,
    flood::FloodError,
    lab::{Lab, LabError},
    load::{self, Load, LoadError},
    scenario::Scenario,
    stream::StreamError,
    tools::Tools,
    topology::Role,
};

/// What the demo is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is played.
    pub scenario: Scenario,
    /// Agents read files, and there is no controller.
    pub is_static: bool,
}

/// What keeps the demo from being played. A limit that is not held is no error but a report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The collector.
    #[error(transparent)]
    Collector(#[from] CollectorError),
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The service's state is not what an event starts from.
    #[error("{waited_for} did not come about within {seconds} s: {seen}")]
    NotSettled {
        /// What was waited for.
        waited_for: String,
        /// For how long.
        seconds: u64,
        /// What was seen instead.
        seen: String,
    },
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A flood.
    #[error(transparent)]
    Flood(#[from] FloodError),
    /// A stream cannot be sent or counted.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The users.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An answer of a program that cannot be understood.
    #[error("{program} answered {answer:?}")]
    Answer {
        /// Which program.
        program: String,
        /// What it said.
        answer: String,
    },
}

/// Plays the demo; `progress` is told what happens, in whole lines.
///
/// # Errors
/// See [`DemoError`]. The lab is left as it is then; [`Lab::down`] removes it.
pub async fn play(
    options: &Options,
    tools: Tools,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, DemoError> {
    let scenario = &options.scenario;
    if !options.is_static {
        tools.check_controller().map_err(LabError::from)?;
    }
    progress("building the network: two datacenters, two transits, users");
    let lab = Lab::create(&scenario.topology, tools, options.is_static)?;
    let kube = configure(&lab, options, progress)?;

    let borders = lab.topology.borders();
    let collector = Collector::start(&lab.topology, borders)?;
    let streams = load::streams(&lab, &scene::ADDRESSES.map(IpAddr::from), scene::PORT)?;
    let load = Load::start(streams, scenario.connections)?;
    let mut scene = Scene { lab, load, collector, kube };
    progress("waiting until every user is served by the nearest datacenter");
    scene.settle().await?;
    scene.load.begin_connections();

    let mut report = Report::new(&scenario.name, &scene.lab.topology.name);
    if let (Some(kube), Some(limit)) = (&scene.kube, scenario.apply_limit) {
        let took = kube.apply_second_service(&scene.lab)?;
        progress(&report.set_apply_to_first_response(took, limit));
    }
    for event in &scenario.events {
        progress(&format!("{}: {}", event.name, event.story));
        let outcome = stage::play(&mut scene, event).await?;
        progress(&outcome.line());
        report.add(outcome);
    }
    Ok(report)
}

/// Starts every program, and tells the agents what to do.
fn configure(
    lab: &Lab,
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<Option<Kube>, DemoError> {
    let (agents, others): (Vec<_>, Vec<_>) =
        lab.topology.nodes.values().partition(|node| node.role.has_agent());
    progress("starting routers (FRR and BIRD)");
    for node in others.iter().filter(|node| node.role != Role::Controller) {
        lab.start(&node.name)?;
    }
    let kube = if options.is_static {
        files::write(lab)?;
        None
    } else {
        progress("starting the controller; applying the platform's and the tenant's manifests");
        let kube = Kube::start(lab, &options.scenario.manifests)?;
        kube.apply(lab, "platform.yml")?;
        kube.apply(lab, "tenant.yml")?;
        for node in &agents {
            kube.write_join_token(lab, &node.name)?;
        }
        Some(kube)
    };
    progress("starting the agents");
    for node in agents {
        lab.start(&node.name)?;
    }
    Ok(kube)
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> DemoError {
    move |source| DemoError::File { path: path.to_owned(), source }
}
