//! [`Session`]: who captures, what, and until when. Decides; reads no clock and no kernel.
//!
//! A capture is a lease: it goes on as long as whoever began it comes back for its records, and
//! ends by itself soon after that stops. There is one at a time.

use std::time::{Duration, Instant};

use isocast_api::agent::local::dataplane::{CaptureQuery, CaptureView, RecordView};
use isocast_dataplane::{
    Action, CaptureError, Captured, CapturedMember, CapturedVerdict, Dataplane, Losses, Outcome,
    ServiceKey,
};
use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use super::{
    About,
    explain::{hex, tunnel},
    monotonic_ns,
};
use crate::telemetry::Names;

/// How long a capture goes on after its records were last asked for.
pub const CAPTURE_LEASE: Duration = Duration::from_secs(6);
/// How long a capture goes on at most.
pub const CAPTURE_TIME_MAX: Duration = Duration::from_secs(300);
/// Most records of one answer: with 192 bytes of each, 3 MiB.
pub const CAPTURE_PAGE: usize = 4096;
/// Longest name that a capture can have.
pub const CAPTURE_ID_MAX: usize = 64;

/// The capture that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    id: String,
    service: String,
    one_in: u32,
    began: Instant,
    asked: Instant,
    ended: bool,
}

/// What is to be done for a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Arm the program for this long.
    Begin(Duration),
    /// Keep it armed for this long from now.
    GoOn(Duration),
    /// Disarm it, and read what is left.
    End,
    /// It is over; read what is left.
    Over,
}

/// Why nothing is captured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Somebody else captures.
    #[error("somebody else captures on this node: one capture at a time")]
    Busy,
    /// The kernel refuses, or there is no such service.
    #[error("{}", crate::runtime::error_chain(.0))]
    Capture(#[from] CaptureError),
    /// No service is called so.
    #[error("service {0:?} is not on this node: namespace/name, or a uid")]
    NoService(String),
    /// A parameter that is not understood.
    #[error("{0}")]
    Parameter(&'static str),
}

/// Takes a question to the capture that goes on, if one does.
pub(super) fn step(
    session: &mut Option<Session>,
    query: &CaptureQuery,
    now: Instant,
) -> Result<Step, Refusal> {
    if query.id.is_empty() || query.id.len() > CAPTURE_ID_MAX {
        return Err(Refusal::Parameter("id: must have 1 to 64 bytes"));
    }
    if query.one_in == 0 {
        return Err(Refusal::Parameter("oneIn: must be 1 or more"));
    }
    match session {
        Some(going) if going.id == query.id => {
            let time = CAPTURE_TIME_MAX.saturating_sub(now.saturating_duration_since(going.began));
            going.asked = now;
            if going.ended || time.is_zero() {
                going.ended = true;
                return Ok(Step::Over);
            }
            going.ended = query.end;
            Ok(if query.end { Step::End } else { Step::GoOn(time.min(CAPTURE_LEASE)) })
        }
        Some(going) if !going.is_free(now) => Err(Refusal::Busy),
        _ => {
            let CaptureQuery { id, service, one_in, .. } = query.clone();
            *session = Some(Session { id, service, one_in, began: now, asked: now, ended: false });
            Ok(Step::Begin(CAPTURE_LEASE))
        }
    }
}

impl Session {
    /// Another may begin.
    fn is_free(&self, now: Instant) -> bool {
        self.ended || now.saturating_duration_since(self.asked) >= CAPTURE_LEASE
    }
}

/// Does a step, and reads.
pub(super) fn carry_out(
    dataplane: &Dataplane,
    session: &mut Option<Session>,
    step: Step,
    about: &About,
) -> Result<CaptureView, Refusal> {
    let outcome = read(dataplane, session, step, about);
    let is_over = outcome.as_ref().map_or(true, |view| view.ended);
    if let (true, Some(session)) = (is_over, session) {
        session.ended = true;
    }
    outcome
}

fn read(
    dataplane: &Dataplane,
    session: &Option<Session>,
    step: Step,
    about: &About,
) -> Result<CaptureView, Refusal> {
    let Some(session) = session else { return Ok(CaptureView::default()) };
    match step {
        Step::Begin(time) => {
            let service = service(about, &session.service)?;
            dataplane.capture(&service, session.one_in, time)?;
        }
        Step::GoOn(time) => dataplane.prolong_capture(session.one_in, time)?,
        Step::End => dataplane.end_capture()?,
        Step::Over => {}
    }
    let (records, Losses { lost, limited }, goes_on) = dataplane.captured(CAPTURE_PAGE)?;
    let names = Names::of(&about.status);
    let (generation, offset) = (dataplane.generation().0, wall_offset_ns());
    let is_last = records.len() < CAPTURE_PAGE;
    let records = records.iter().map(|it| record(&names, it, generation, offset));
    Ok(CaptureView {
        node: about.node.clone(),
        records: records.collect(),
        lost,
        limited,
        ended: !goes_on && is_last,
    })
}

/// The service that is meant: namespace/name, or a uid.
fn service(about: &About, text: &str) -> Result<ServiceKey, Refusal> {
    let is_it = |it: &&isocast_api::agent::ServiceStatus| {
        it.uid == text || text.split_once('/') == Some((it.namespace.as_str(), it.name.as_str()))
    };
    let service = about.status.services.iter().find(is_it);
    let service = service.ok_or_else(|| Refusal::NoService(text.to_owned()))?;
    Ok(ServiceKey(service.uid.as_str().into()))
}

fn record(names: &Names<'_>, it: &Captured, generation: u32, offset: u64) -> RecordView {
    // The program knows its half of the tables; an older record is of the generation before.
    let generation =
        if generation & 1 == it.half { generation } else { generation.wrapping_sub(1) };
    RecordView {
        at_ns: it.at_ns.wrapping_add(offset),
        left: it.verdict.is_some(),
        packet: it.packet,
        interface: it.interface,
        generation,
        slot: it.slot,
        tracked: it.tracked,
        backend: taken(it).map(|member| called(names, member)),
        outcome: it.verdict.map(|verdict| outcome(it, verdict).to_owned()),
        tunnel: is_sent(it).then(|| tunnel(&it.data)).flatten(),
        sent: is_sent(it),
        len: it.len,
        data: hex(&it.data),
    }
}

const fn is_sent(it: &Captured) -> bool {
    matches!(it.verdict, Some(CapturedVerdict::Went(Action::Transmit | Action::Redirect)))
}

/// Who got the packet: the outer destination tells.
fn taken(it: &Captured) -> Option<&CapturedMember> {
    let current = it.current.as_ref();
    let to = |member: &&CapturedMember| match member.address {
        std::net::IpAddr::V4(address) => it.data.get(30..34) == Some(&address.octets()),
        std::net::IpAddr::V6(address) => it.data.get(38..54) == Some(&address.octets()),
    };
    // Where the slot's own backend is this node, the first of the others is sent to; where the slot is
    // tracked, whoever has the flow.
    if is_sent(it) { current.filter(to).or_else(|| it.further.iter().find(to)) } else { current }
}

fn called(names: &Names<'_>, member: &CapturedMember) -> String {
    let uid = member.key.as_ref().map(|key| &*key.0).filter(|uid| !uid.is_empty());
    let name = uid.and_then(|uid| names.backends.get(uid)).map(|(_, _, name)| *name);
    name.or(uid).map_or_else(|| member.address.to_string(), str::to_owned)
}

/// What became of it. A frame that went out to none of the slot's backends is the edge's own answer.
fn outcome(it: &Captured, verdict: CapturedVerdict) -> &'static str {
    match verdict {
        CapturedVerdict::Dropped(reason) => reason.as_str(),
        CapturedVerdict::Went(Action::Pass) => Outcome::DeliveredHere.as_str(),
        CapturedVerdict::Went(Action::Transmit | Action::Redirect) if taken(it).is_some() => {
            Outcome::Encapsulated.as_str()
        }
        CapturedVerdict::Went(Action::Transmit | Action::Redirect) => "answered",
        CapturedVerdict::Went(Action::Drop) => "dropped",
        CapturedVerdict::Went(Action::Aborted) => "aborted",
    }
}

/// What makes time since 1970 of the monotonic clock's.
fn wall_offset_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default().wrapping_sub(monotonic_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(id: &str) -> CaptureQuery {
        CaptureQuery { id: id.into(), service: "web/www".into(), one_in: 1, end: false }
    }

    #[test]
    fn a_capture_goes_on_while_it_is_asked_for_and_no_other_begins() {
        let (mut session, start) = (None, Instant::now());
        assert_eq!(step(&mut session, &query("a"), start).unwrap(), Step::Begin(CAPTURE_LEASE));

        let soon = start + CAPTURE_LEASE / 2;
        assert!(matches!(step(&mut session, &query("b"), soon), Err(Refusal::Busy)));
        assert_eq!(step(&mut session, &query("a"), soon).unwrap(), Step::GoOn(CAPTURE_LEASE));

        let late = soon + CAPTURE_LEASE;
        assert_eq!(step(&mut session, &query("b"), late).unwrap(), Step::Begin(CAPTURE_LEASE));
    }

    #[test]
    fn a_capture_that_is_told_to_end_makes_room_at_once() {
        let (mut session, start) = (None, Instant::now());
        step(&mut session, &query("a"), start).unwrap();
        let end = CaptureQuery { end: true, ..query("a") };

        assert_eq!(step(&mut session, &end, start).unwrap(), Step::End);
        assert_eq!(step(&mut session, &query("a"), start).unwrap(), Step::Over);
        assert_eq!(step(&mut session, &query("b"), start).unwrap(), Step::Begin(CAPTURE_LEASE));
    }

    #[test]
    fn no_capture_goes_on_for_ever() {
        let (mut session, start) = (None, Instant::now());
        step(&mut session, &query("a"), start).unwrap();

        let nearly = start + CAPTURE_TIME_MAX - Duration::from_secs(1);
        let last = step(&mut session, &query("a"), nearly).unwrap();
        assert_eq!(last, Step::GoOn(Duration::from_secs(1)));
        let over = start + CAPTURE_TIME_MAX;
        assert_eq!(step(&mut session, &query("a"), over).unwrap(), Step::Over);
    }

    #[test]
    fn a_frame_that_went_to_no_backend_is_an_answer() {
        let address = std::net::IpAddr::from([10, 1, 0, 2]);
        let member = CapturedMember { key: None, address };
        let mut it = Captured {
            at_ns: 0,
            packet: 0,
            interface: 0,
            half: 0,
            slot: None,
            current: None,
            further: vec![member],
            tracked: true,
            verdict: Some(CapturedVerdict::Went(Action::Transmit)),
            len: 54,
            data: vec![0; 54],
        };
        assert_eq!(record(&Names::default(), &it, 1, 0).outcome.as_deref(), Some("answered"));

        it.data[30..34].copy_from_slice(&[10, 1, 0, 2]);
        let record = record(&Names::default(), &it, 1, 0);
        assert_eq!(record.outcome.as_deref(), Some("encapsulated"));
        assert_eq!((record.backend.as_deref(), record.generation), (Some("10.1.0.2"), 0));
        assert!(record.tracked);
    }

    #[test]
    fn parameters_have_limits() {
        let (mut session, now) = (None, Instant::now());
        for refused in [
            query(""),
            query(&"x".repeat(CAPTURE_ID_MAX + 1)),
            CaptureQuery { one_in: 0, ..query("a") },
        ] {
            assert!(matches!(step(&mut session, &refused, now), Err(Refusal::Parameter(_))));
        }
        assert!(step(&mut session, &query(&"x".repeat(CAPTURE_ID_MAX)), now).is_ok());
    }
}
