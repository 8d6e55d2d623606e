//! The events of the demo, as data: what is done, what is watched, what must hold.

use std::time::Duration;

use super::DemoError;

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// What happens, for people.
    pub story: &'static str,
    /// What the event starts from.
    pub starts: Starts,
    /// What is done, in order.
    pub fault: &'static [Step],
    /// Who must serve the users of which client node at the end of the fault; of the repair, where
    /// there is no fault.
    pub serves: &'static [(&'static str, &'static str)],
    /// How things are put right again, and watched.
    pub repair: &'static [Step],
    /// Backends whose long-lived connections die with what is killed.
    pub victims: &'static [&'static str],
    /// What becomes of other long-lived connections that break during the repair.
    pub breaks_in_repair: BreaksInRepair,
    /// What must hold.
    pub limits: Limits,
}

/// What an event starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// From what the event of that name left behind.
    After(&'static str),
    /// When everything is as it should be.
    Settled,
}

/// Long-lived connections that break during the repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreaksInRepair {
    /// Anycast moved them to another datacenter.
    AreMoves,
    /// Nothing explains them.
    AreResets,
}

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Checks that both routers of both kinds use two next hops for each address.
    CheckRouters,
    /// Writes objects as fast as it goes, and kills the controller in the middle.
    KillControllerInBurst,
    /// Kills a node's program, its children included.
    Kill(&'static str, &'static str),
    /// Cuts all wires of a node.
    Cut(&'static str),
    /// Joins them again.
    Restore(&'static str),
    /// Starts a node's program.
    Start(&'static str, &'static str),
    /// Takes nodes' power.
    PowerOff(&'static [&'static str]),
    /// Gives it back.
    PowerOn(&'static [&'static str]),
    /// Lets users go on for so long.
    Observe(Duration),
    /// Checks that every acknowledged write is there, and makes one more change.
    VerifyWrites,
}

/// Limits; `None`: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Failed requests, fault and repair together.
    pub failed: Option<usize>,
    /// Failed requests once the repair began.
    pub failed_in_repair: Option<usize>,
    /// Long-lived connections that broke without a reason of their own.
    pub resets: Option<usize>,
    /// Longest wait of any group of users.
    pub longest_gap: Option<Duration>,
    /// Withdrawals of the service's prefixes.
    pub withdrawals: Option<u64>,
    /// From a change after the fault until it is programmed.
    pub programmed_within: Option<Duration>,
}

/// The events in their order, without those that `only` does not name (and that none it names
/// starts from), and without a controller's if there is none.
pub(super) fn selected(only: &[String], is_static: bool) -> Result<Vec<&'static Event>, DemoError> {
    let known = || EVENTS.iter().map(|event| event.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = only.iter().find(|name| EVENTS.iter().all(|event| event.name != **name)) {
        return Err(DemoError::UnknownEvent { name: name.clone(), known: known() });
    }
    let is_named = |name: &str| only.is_empty() || only.iter().any(|other| other == name);
    let leads_to_named = |event: &Event| {
        EVENTS.iter().any(|next| next.starts == Starts::After(event.name) && is_named(next.name))
    };
    // What is broken must be put right for those that come after.
    let follows_named = |event: &Event| match event.starts {
        Starts::After(name) => is_named(name),
        Starts::Settled => false,
    };
    let is_possible = |event: &Event| !is_static || !event.needs_controller();
    let wanted =
        |event: &&Event| is_named(event.name) || leads_to_named(event) || follows_named(event);
    Ok(EVENTS.iter().filter(wanted).filter(|event| is_possible(event)).collect())
}

impl Event {
    fn needs_controller(&self) -> bool {
        self.fault.contains(&Step::KillControllerInBurst)
    }
}

const fn seconds(seconds: u64) -> Step {
    Step::Observe(Duration::from_secs(seconds))
}

/// All there is in ams, the border router included.
const AMS: &[&str] = &["bor-ams", "edge-ams-1", "edge-ams-2", "be-ams-1", "be-ams-2"];
const AGENT: &str = "isocast-agent";
const CONTROLLER: &str = "isocast-controller";

const QUIET: Event = Event {
    name: "baseline",
    story: "nothing happens",
    starts: Starts::Settled,
    fault: &[],
    serves: &[],
    repair: &[],
    victims: &[],
    breaks_in_repair: BreaksInRepair::AreResets,
    limits: Limits {
        failed: None,
        failed_in_repair: None,
        resets: None,
        longest_gap: None,
        withdrawals: None,
        programmed_within: None,
    },
};

/// The events, in the order they are played.
pub const EVENTS: &[Event] = &[
    Event {
        fault: &[Step::CheckRouters, seconds(5)],
        serves: &[("cl-ams", "ams"), ("cl-fra", "fra")],
        limits: Limits { failed: Some(0), resets: Some(0), ..QUIET.limits },
        ..QUIET
    },
    Event {
        name: "backend_killed",
        story: "nginx on be-ams-1 dies, and comes back",
        fault: &[Step::Kill("be-ams-1", "nginx"), seconds(5)],
        repair: &[Step::Start("be-ams-1", "nginx"), seconds(4)],
        victims: &["be-ams-1"],
        limits: Limits {
            failed_in_repair: Some(0),
            resets: Some(0),
            longest_gap: Some(Duration::from_millis(1500)),
            ..QUIET.limits
        },
        ..QUIET
    },
    Event {
        name: "all_local_backends_down",
        story: "nginx on be-ams-1 dies, the cable of be-ams-2 is cut; both come back",
        fault: &[Step::Kill("be-ams-1", "nginx"), Step::Cut("be-ams-2"), seconds(6)],
        serves: &[("cl-ams", "fra"), ("cl-fra", "fra")],
        repair: &[Step::Restore("be-ams-2"), Step::Start("be-ams-1", "nginx"), seconds(5)],
        victims: &["be-ams-1", "be-ams-2"],
        limits: Limits {
            failed_in_repair: Some(5),
            resets: Some(0),
            longest_gap: Some(Duration::from_secs(2)),
            withdrawals: Some(0),
            ..QUIET.limits
        },
        ..QUIET
    },
    Event {
        name: "agent_killed",
        story: "the agent of edge-ams-1 dies, and is started again 2 s later",
        fault: &[Step::Kill("edge-ams-1", AGENT), seconds(2), Step::Start("edge-ams-1", AGENT)],
        repair: &[seconds(6)],
        limits: Limits { failed: Some(0), resets: Some(0), withdrawals: Some(0), ..QUIET.limits },
        ..QUIET
    },
    Event {
        name: "edge_powered_off",
        story: "edge-ams-1 loses power, and has it again",
        fault: &[Step::PowerOff(&["edge-ams-1"]), seconds(7)],
        serves: &[("cl-ams", "ams"), ("cl-fra", "fra")],
        repair: &[Step::PowerOn(&["edge-ams-1"]), seconds(5)],
        limits: Limits {
            resets: Some(0),
            longest_gap: Some(Duration::from_secs(4)),
            ..QUIET.limits
        },
        ..QUIET
    },
    Event {
        name: "datacenter_lost",
        story: "all of ams loses power",
        fault: &[Step::PowerOff(AMS), seconds(8)],
        serves: &[("cl-ams", "fra"), ("cl-fra", "fra")],
        victims: &["be-ams-1", "be-ams-2"],
        limits: Limits {
            resets: Some(0),
            longest_gap: Some(Duration::from_secs(4)),
            ..QUIET.limits
        },
        ..QUIET
    },
    Event {
        name: "datacenter_back",
        story: "ams has power again",
        starts: Starts::After("datacenter_lost"),
        serves: &[("cl-ams", "ams"), ("cl-fra", "fra")],
        repair: &[Step::PowerOn(AMS), seconds(12)],
        breaks_in_repair: BreaksInRepair::AreMoves,
        limits: Limits { failed: Some(5), resets: Some(0), ..QUIET.limits },
        ..QUIET
    },
    Event {
        name: "controller_killed",
        story: "the controller dies in a burst of writes; an agent restarts while it is gone",
        fault: &[
            Step::KillControllerInBurst,
            Step::Kill("edge-ams-1", AGENT),
            Step::Start("edge-ams-1", AGENT),
            seconds(4),
        ],
        repair: &[Step::Start("ctl", CONTROLLER), Step::VerifyWrites, seconds(2)],
        limits: Limits {
            failed: Some(0),
            resets: Some(0),
            programmed_within: Some(Duration::from_secs(5)),
            ..QUIET.limits
        },
        ..QUIET
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str], is_static: bool) -> Vec<&'static str> {
        let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
        selected(&only, is_static).unwrap().iter().map(|event| event.name).collect()
    }

    #[test]
    fn without_a_controller_its_event_is_left_out() {
        assert_eq!(names(&[], false).len(), EVENTS.len());
        assert!(!names(&[], true).contains(&"controller_killed"));
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
        let error = selected(&["baselin".to_owned()], true).unwrap_err().to_string();

        assert!(error.contains("baselin") && error.contains("datacenter_lost"), "{error}");
    }
}
