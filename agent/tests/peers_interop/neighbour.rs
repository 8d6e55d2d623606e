//! What every implementation can be asked to do, whatever its own words for it are.

use serde_json::Value;
use tokio::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;

/// How a neighbour is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) asn: u32,
    pub(crate) password: Option<&'static str>,
    /// The session goes over IPv6, not over IPv4.
    pub(crate) over_ipv6: bool,
    /// More, in the implementation's own words, about the session with us.
    pub(crate) session: String,
    /// More, in the same words, about the whole.
    pub(crate) global: String,
}

/// A route as the neighbour has it from us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) next_hop: String,
    pub(crate) as_path: Vec<u32>,
    /// Standard ones, then large ones.
    pub(crate) communities: Vec<String>,
    pub(crate) local_pref: Option<u32>,
}

/// A running neighbour.
pub(crate) trait Neighbour: Sized {
    async fn start(place: &Place, setup: &Setup) -> Self;

    fn place(&self) -> &Place;

    fn process(&mut self) -> &mut Child;

    /// What it has learnt of a prefix.
    async fn learnt(&self, prefix: &str) -> Option<Route>;

    /// Has it announce a prefix with the communities [`COMMUNITIES`].
    async fn announce(&self, prefix: &str);

    async fn withdraw(&self, prefix: &str);

    /// The shutdown communication it was told, if that is in what it printed.
    fn was_told(&self, text: &str) -> bool {
        std::fs::read_dir(&self.place().dir).unwrap().any(|file| {
            let path = file.unwrap().path();
            path.is_file() && std::fs::read_to_string(path).is_ok_and(|log| log.contains(text))
        })
    }

    /// Its processes neither run nor end.
    fn freeze(&mut self) {
        let pid = self.process().id().unwrap();
        for pid in children(pid).into_iter().chain([pid]) {
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGSTOP).unwrap();
        }
    }

    fn thaw(&mut self) {
        let pid = self.process().id().unwrap();
        for pid in children(pid).into_iter().chain([pid]) {
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGCONT).unwrap();
        }
    }
}

/// A neighbour that can be made to ask for IPv4 routes again.
pub(crate) trait AsksAgain: Neighbour {
    async fn ask_again(&self);
}

/// What neighbours mark their routes with.
pub(crate) const COMMUNITIES: [&str; 2] = ["65001:7", "65001:7:8"];

impl Setup {
    pub(crate) fn new(asn: u32) -> Self {
        Self {
            asn,
            password: None,
            over_ipv6: false,
            session: String::new(),
            global: String::new(),
        }
    }

    pub(crate) fn session(mut self, more: &str) -> Self {
        self.session.push_str(more);
        self
    }
}

/// `a:b` of a number that is on the wire.
pub(crate) fn community(number: &Value) -> String {
    let number = number.as_u64().unwrap();
    format!("{}:{}", number >> 16, number & 0xffff)
}

/// The numbers of a list; none if there is no list.
pub(crate) fn numbers(values: &Value) -> Vec<u32> {
    let values = values.as_array().into_iter().flatten();
    values.map(|value| u32::try_from(value.as_u64().unwrap()).unwrap()).collect()
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let listed = std::fs::read_to_string(path).unwrap();
    listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
