//! Scenarios: what is built, what is done to it, and what must hold; read from YAML files.
//!
//! A scenario is data. What it means is in [`crate::demo`], which plays it; nothing here touches a
//! network. A file that cannot be played (an unknown key, an event that follows one that is not
//! there) is refused before anything is built.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, for people.
    pub story: String,
    /// Topology file; in the file relative to it.
    pub topology: PathBuf,
    /// Folder of `platform.yml`, `tenant.yml`, `second.yml` and `third.yml`, likewise.
    pub manifests: PathBuf,
    /// From `kubectl apply` of one more service to its first answer; without it none is applied.
    #[serde(default, deserialize_with = "optional_duration")]
    pub apply_limit: Option<Duration>,
    /// Long-lived connections of all users together.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// What happens, in order.
    pub events: Vec<Event>,
}

const fn default_connections() -> usize {
    50
}

/// One event.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What happens, for people.
    pub story: String,
    /// Name of the event whose end it starts from; without it, it waits until all is well.
    #[serde(default)]
    pub after: Option<String>,
    /// What is done, in order.
    #[serde(default)]
    pub fault: Vec<Step>,
    /// Which datacenter must serve the users of which client node at the end of the fault; of the
    /// repair, where there is no fault.
    #[serde(default)]
    pub serves: BTreeMap<String, String>,
    /// How things are put right again, and watched.
    #[serde(default)]
    pub repair: Vec<Step>,
    /// Backends whose long-lived connections die with what is killed.
    #[serde(default)]
    pub victims: Vec<String>,
    /// What becomes of other long-lived connections that break during the repair.
    #[serde(default)]
    pub breaks_in_repair: BreaksInRepair,
    /// What must hold.
    #[serde(default)]
    pub limits: Limits,
}

/// Long-lived connections that break during the repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BreaksInRepair {
    /// Anycast moved them to another datacenter.
    AreMoves,
    /// Nothing explains them.
    #[default]
    AreResets,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Checks that both routers of both kinds use two next hops for each address.
    CheckRouters,
    /// Writes objects as fast as it goes, and kills the controller in the middle.
    KillControllerInBurst,
    /// Checks that every acknowledged write is there, and makes one more change.
    VerifyWrites,
    /// Kills a node's program, its children included.
    Kill(Program),
    /// Starts a node's program.
    Start(Program),
    /// Starts another build of it, which lays out its maps otherwise.
    StartOtherBuild(Program),
    /// Ends a node's program as a service manager does, and waits until it is gone.
    Stop(Program),
    /// Sends a service datagrams at a steady pace until the event is over.
    Stream(Stream),
    /// Cuts all wires of a node.
    Cut(String),
    /// Joins them again.
    Restore(String),
    /// Takes nodes' power.
    PowerOff(Vec<String>),
    /// Gives it back.
    PowerOn(Vec<String>),
    /// Lets users go on for so long.
    #[serde(deserialize_with = "duration")]
    Observe(Duration),
    /// Runs a command until it ends and prints as expected.
    Run(Run),
    /// Floods a service with new connections.
    Flood(Flood),
    /// Sends a backend host tunnel packets of nobody.
    Forge(Forge),
}

/// A flood of SYNs from ever other addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// The client node that sends it.
    pub node: String,
    /// Address and port of the service.
    pub to: SocketAddrV4,
    /// For how long.
    #[serde(rename = "for", deserialize_with = "duration")]
    pub time: Duration,
}

/// Datagrams at a steady pace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stream {
    /// The client node that sends them.
    pub node: String,
    /// Address and port of the service.
    pub to: SocketAddrV4,
    /// How many a second.
    pub packets_per_second: u32,
}

/// Forged tunnel packets with connections to a service inside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forge {
    /// The node that sends them.
    pub node: String,
    /// Who they say sent them.
    pub from: Ipv4Addr,
    /// Tunnel address of the backend host.
    pub to: Ipv4Addr,
    /// Address and port of the service.
    pub service: SocketAddrV4,
    /// How many.
    pub count: u32,
    /// File in the node's folder with the key tag of all of them, in eight hexadecimal digits; without
    /// it, each is another guess.
    #[serde(default)]
    pub tag_file: Option<PathBuf>,
}

/// A program of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The node.
    pub node: String,
    /// The program.
    pub program: String,
}

/// A command and what it must print.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// Where; without it on the controller's node, where `kubectl` and `isocast` know whom to ask.
    #[serde(default)]
    pub node: Option<String>,
    /// The account that `kubectl` and `isocast` ask as, by `$FOLDER/NAME.kubeconfig`; without it, the
    /// administrator.
    #[serde(default, rename = "as")]
    pub account: Option<String>,
    /// A line for `sh`.
    pub command: String,
    /// What its output (of either kind) must contain.
    #[serde(default)]
    pub prints: Vec<String>,
    /// What it must not contain.
    #[serde(default)]
    pub prints_not: Vec<String>,
    /// Whether it must fail.
    #[serde(default)]
    pub fails: bool,
    /// How long to try; without it, once.
    #[serde(default, deserialize_with = "optional_duration")]
    pub within: Option<Duration>,
}

/// Limits; `None`: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Failed requests, fault and repair together.
    #[serde(default)]
    pub failed: Option<usize>,
    /// Failed requests once the repair began.
    #[serde(default)]
    pub failed_after_return: Option<usize>,
    /// Long-lived connections that broke without a reason of their own.
    #[serde(default)]
    pub resets: Option<usize>,
    /// Long-lived connections that neither went on nor ended, whatever the reason.
    #[serde(default)]
    pub stalled: Option<usize>,
    /// Longest wait of any group of users.
    #[serde(default, deserialize_with = "optional_duration")]
    pub longest_gap: Option<Duration>,
    /// Withdrawals of the service's prefixes.
    #[serde(default)]
    pub withdrawals: Option<u64>,
    /// Datagrams of streams that no backend received.
    #[serde(default)]
    pub lost_packets: Option<u64>,
    /// From a change after the fault until it is programmed.
    #[serde(default, deserialize_with = "optional_duration")]
    pub programmed_within: Option<Duration>,
}

/// Why a scenario cannot be played.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a scenario.
    #[error("{path}: {message}")]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// An event follows one that does not stand right before it.
    #[error("event {name:?} follows {after:?}, which is not the one before it")]
    Order {
        /// The event.
        name: String,
        /// What it says it follows.
        after: String,
    },
    /// There is no such event.
    #[error("there is no event {name:?}; events are {known}")]
    UnknownEvent {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
    },
}

impl Scenario {
    /// Reads a scenario; the paths in it become relative to where the caller stands.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::File { path: path.to_owned(), source })?;
        let mut scenario: Self = serde_saphyr::from_str(&text).map_err(|error| {
            ScenarioError::Format { path: path.to_owned(), message: error.to_string() }
        })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        scenario.topology = folder.join(&scenario.topology);
        scenario.manifests = folder.join(&scenario.manifests);
        scenario.check_order()?;
        Ok(scenario)
    }

    /// Leaves only events that `only` names (all, if it names none), and those they start from or
    /// lead to; without a controller, none that needs one.
    ///
    /// # Errors
    /// A name of no event.
    pub fn select(&mut self, only: &[String], is_static: bool) -> Result<(), ScenarioError> {
        let is_event = |name: &String| self.events.iter().any(|event| event.name == *name);
        if let Some(name) = only.iter().find(|name| !is_event(name)) {
            let known: Vec<_> = self.events.iter().map(|event| event.name.as_str()).collect();
            let known = known.join(", ");
            return Err(ScenarioError::UnknownEvent { name: name.clone(), known });
        }
        let is_named = |name: &String| only.is_empty() || only.contains(name);
        let all = self.events.clone();
        let leads_to_named = |event: &Event| {
            all.iter().any(|next| next.after.as_ref() == Some(&event.name) && is_named(&next.name))
        };
        // What is broken must be put right for those that come after.
        let follows_named = |event: &Event| event.after.as_ref().is_some_and(is_named);
        self.events.retain(|event| {
            let wanted = is_named(&event.name) || leads_to_named(event) || follows_named(event);
            wanted && !(is_static && event.needs_controller())
        });
        Ok(())
    }

    fn check_order(&self) -> Result<(), ScenarioError> {
        let mut before = None;
        for event in &self.events {
            if let Some(after) = event.after.as_ref().filter(|after| before != Some(*after)) {
                let (name, after) = (event.name.clone(), after.clone());
                return Err(ScenarioError::Order { name, after });
            }
            before = Some(&event.name);
        }
        Ok(())
    }
}

impl Event {
    fn needs_controller(&self) -> bool {
        self.fault.iter().chain(&self.repair).any(|step| match step {
            Step::KillControllerInBurst | Step::VerifyWrites => true,
            Step::Run(run) => run.node.is_none(),
            _ => false,
        })
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(D::Error::custom)
}

fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
    }

    fn main_job() -> Scenario {
        Scenario::read(&folder().join("main-job.yml")).unwrap()
    }

    fn names(only: &[&str], is_static: bool) -> Vec<String> {
        let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
        let mut scenario = main_job();
        scenario.select(&only, is_static).unwrap();
        scenario.events.into_iter().map(|event| event.name).collect()
    }

    #[test]
    fn every_scenario_of_the_repository_can_be_read_and_finds_its_files() {
        let files: Vec<_> =
            std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().path()).collect();

        assert!(!files.is_empty());
        for path in files {
            let scenario = Scenario::read(&path).unwrap();
            assert!(scenario.topology.is_file(), "{}", path.display());
            assert!(scenario.manifests.join("platform.yml").is_file(), "{}", path.display());
            assert_eq!(path.file_stem().unwrap().to_str(), Some(scenario.name.as_str()));
        }
    }

    #[test]
    fn without_a_controller_its_events_are_left_out() {
        assert_eq!(names(&[], false).len(), main_job().events.len());
        assert!(!names(&[], true).contains(&"controller_killed".to_owned()));
    }

    #[test]
    fn a_datacenter_that_comes_back_was_lost_before() {
        let both = ["datacenter_lost", "datacenter_back"];

        assert_eq!(names(&["datacenter_back"], true), both);
        assert_eq!(names(&["datacenter_lost"], true), both);
        assert_eq!(names(&["baseline"], true), ["baseline"]);
    }

    #[test]
    fn an_unknown_event_is_refused_with_those_there_are() {
        let error = main_job().select(&["baselin".to_owned()], true).unwrap_err().to_string();

        assert!(error.contains("baselin") && error.contains("datacenter_lost"), "{error}");
    }

    #[test]
    fn an_event_that_follows_another_than_the_one_before_it_is_refused() {
        let mut scenario = main_job();
        scenario.events.retain(|event| event.name != "datacenter_lost");

        let error = scenario.check_order().unwrap_err();

        assert!(error.to_string().contains("datacenter_lost"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_name() {
        let text = "{name: a, story: b, topology: c, manifests: d, events: [], limit: 1}";

        let error = serde_saphyr::from_str::<Scenario>(text).unwrap_err().to_string();

        assert!(error.contains("limit"), "{error}");
    }
}
