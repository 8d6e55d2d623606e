//! `isocast pcap`: packets of a service as they arrive at edges and as they leave them.

mod pcapng;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use clap::Args;
use isocast_api::{
    agent::local::dataplane::{CAPTURE_PATH, CaptureView, RecordView, TunnelView},
    text::{Duration, Time},
};

use self::pcapng::{Interface, Packet, Writer};
use crate::{
    bgp::{Connect, clean},
    fleet::Fleet,
    local::At,
};

#[derive(Debug, Args)]
pub(crate) struct PcapArguments {
    /// The service: namespace/name, or its uid
    pub(crate) service: String,
    #[command(flatten)]
    pub(crate) at: At,
    /// End after so many packets
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Take one packet in so many: 1/100
    #[arg(long, default_value = "1/1", value_name = "1/N", value_parser = sample)]
    pub(crate) sample: u32,
    /// End after this time; a node ends after five minutes by itself
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    pub(crate) duration: Duration,
    /// Write pcapng to this file, - for standard output [default: a line for each packet]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

/// Between two questions to a node: its ring is read twice before the fastest single CPU fills it.
const PACE: Duration = Duration::from_millis(400);
/// Answers that wait to be written.
const WAITING_MAX: usize = 64;
/// Packets whose second frame is waited for; with more, the oldest are written without.
const HALVES_MAX: usize = 4096;
/// Bytes that nodes hand up of a frame.
const SNAP_LEN: u32 = 192;

fn sample(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("1/").and_then(|number| number.parse().ok());
    number.filter(|number| *number > 0).ok_or_else(|| "must be 1/N, such as 1/100".to_owned())
}

pub(crate) fn run(
    connect: Connect<'_>,
    arguments: &PcapArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let is_standard_output = arguments.write.as_ref().is_some_and(|path| path.as_os_str() == "-");
    if is_standard_output && io::stdout().is_terminal() {
        bail!("a terminal cannot show pcapng: name a file, or pipe it: … -w - | tcpdump -nr -");
    }
    let fleet = Fleet::of(&arguments.at, || Ok(connect()?.0))?;
    let sink: Box<dyn Write + '_> = match &arguments.write {
        Some(path) if !is_standard_output => {
            let file = File::create(path).with_context(|| path.display().to_string())?;
            Box::new(BufWriter::new(file))
        }
        _ => Box::new(out),
    };
    let nodes = fleet.names();
    let form = if arguments.write.is_some() {
        Form::pcapng(sink, &nodes).context("cannot write")?
    } else {
        Form::Lines(sink)
    };
    let mut file = Capture::new(form, &arguments.service);
    let outcome = gather(&fleet, arguments, &mut file);
    let (packets, losses) = file.end().context("cannot write")?;
    if outcome.is_ok() || packets > 0 {
        // Standard output may be the capture itself.
        writeln!(io::stderr(), "{packets} packets; {losses}").context("cannot write")?;
    }
    outcome
}

/// Asks every node until enough was captured, and writes what they answer.
fn gather(
    fleet: &Fleet<'_>,
    arguments: &PcapArguments,
    file: &mut Capture<'_>,
) -> anyhow::Result<()> {
    let (stop, id) = (AtomicBool::new(false), capture_id());
    let (sender, answers) = mpsc::sync_channel::<(usize, anyhow::Result<CaptureView>)>(WAITING_MAX);
    let nodes = fleet.names();
    thread::scope(|scope| {
        for (at, node) in nodes.iter().enumerate() {
            let (sender, stop, id) = (sender.clone(), &stop, &id);
            scope.spawn(move || {
                let until = Instant::now() + arguments.duration.get();
                loop {
                    let is_last = stop.load(Ordering::Relaxed) || Instant::now() >= until;
                    let answer = ask(fleet, node, arguments, id, is_last);
                    let is_over = is_last || answer.as_ref().is_ok_and(|view| view.ended);
                    let failed = answer.is_err();
                    // The receiver stays until all senders are gone.
                    if sender.send((at, answer)).is_err() || is_over || failed {
                        return;
                    }
                    pause();
                }
            });
        }
        drop(sender);
        let mut failures = Vec::new();
        for (at, answer) in answers {
            let name = nodes.get(at).map_or("", String::as_str);
            match answer {
                Ok(view) if failures.is_empty() || !failures.iter().any(is_fatal) => {
                    if let Err(error) = file.add(at, view, arguments.count) {
                        failures.push(Failure::Fatal(error.into()));
                    }
                }
                Ok(_) => {}
                Err(error) => failures.push(Failure::Node(format!("{}: {error:#}", clean(name)))),
            }
            let is_enough = arguments.count.is_some_and(|count| file.packets >= count);
            if is_enough || failures.iter().any(is_fatal) {
                stop.store(true, Ordering::Relaxed);
            }
        }
        conclude(failures, nodes.len())
    })
}

/// What went wrong on the way.
enum Failure {
    /// One node's answer.
    Node(String),
    /// Nothing more can be written.
    Fatal(anyhow::Error),
}

const fn is_fatal(failure: &Failure) -> bool {
    matches!(failure, Failure::Fatal(_))
}

/// Whether the capture is one, in spite of failures.
fn conclude(failures: Vec<Failure>, nodes: usize) -> anyhow::Result<()> {
    let mut silent = Vec::new();
    for failure in failures {
        match failure {
            Failure::Fatal(error) => return Err(error.context("cannot write")),
            Failure::Node(text) => silent.push(text),
        }
    }
    if silent.len() >= nodes {
        bail!("{}", silent.join("; "));
    }
    for text in silent {
        writeln!(io::stderr(), "! {text}").context("cannot write")?;
    }
    Ok(())
}

fn ask(
    fleet: &Fleet<'_>,
    node: &str,
    arguments: &PcapArguments,
    id: &str,
    is_last: bool,
) -> anyhow::Result<CaptureView> {
    let (one_in, end) = (arguments.sample.to_string(), is_last.to_string());
    let service = arguments.service.as_str();
    let query = [("id", id), ("service", service), ("oneIn", &one_in), ("end", &end)];
    fleet.ask_one(node, CAPTURE_PATH, &query)
}

/// A name that no other capture has.
fn capture_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", std::process::id(), now.as_nanos())
}

#[expect(clippy::disallowed_methods, reason = "nodes are asked at this pace")]
fn pause() {
    thread::sleep(PACE.get());
}

/// Where packets go to, and in which form.
enum Form<'a> {
    Lines(Box<dyn Write + 'a>),
    Pcapng(Writer<Box<dyn Write + 'a>>, Vec<[Interface; 2]>),
}

impl<'a> Form<'a> {
    /// Two interfaces for each node: in and out.
    fn pcapng(out: Box<dyn Write + 'a>, nodes: &[String]) -> io::Result<Self> {
        let mut writer = Writer::begin(out, concat!("isocast ", env!("CARGO_PKG_VERSION")))?;
        let mut interfaces = Vec::new();
        for node in nodes {
            interfaces.push([
                writer.interface(&format!("{node} in"), SNAP_LEN)?,
                writer.interface(&format!("{node} out"), SNAP_LEN)?,
            ]);
        }
        Ok(Self::Pcapng(writer, interfaces))
    }
}

/// What was captured so far.
struct Capture<'a> {
    form: Form<'a>,
    service: String,
    /// Packets that were written.
    packets: u64,
    /// Frames as they arrived, until the other frame comes.
    halves: BTreeMap<(usize, u64), (RecordView, String)>,
    /// By node: lost records, and packets beyond the rate.
    losses: BTreeMap<usize, [u64; 2]>,
}

impl<'a> Capture<'a> {
    fn new(form: Form<'a>, service: &str) -> Self {
        let (halves, losses) = (BTreeMap::new(), BTreeMap::new());
        Self { form, service: service.to_owned(), packets: 0, halves, losses }
    }

    /// Takes a node's records.
    fn add(&mut self, node: usize, view: CaptureView, count: Option<u64>) -> io::Result<()> {
        self.losses.insert(node, [view.lost, view.limited]);
        for record in view.records {
            if count.is_some_and(|count| self.packets >= count) {
                break;
            }
            let key = (node, record.packet);
            if !record.left {
                if self.halves.len() >= HALVES_MAX
                    && let Some(((node, _), (record, name))) = self.halves.pop_first()
                {
                    self.packet(node, &name, Some(&record), None)?;
                }
                self.halves.insert(key, (record, view.node.clone()));
                continue;
            }
            let arrived = self.halves.remove(&key).map(|(record, _)| record);
            self.packet(node, &view.node, arrived.as_ref(), Some(&record))?;
        }
        match &mut self.form {
            Form::Lines(out) => out.flush(),
            Form::Pcapng(writer, _) => writer.flush(),
        }
    }

    /// Writes a packet: the frame that arrived, and the one that left if one did.
    fn packet(
        &mut self,
        node: usize,
        name: &str,
        arrived: Option<&RecordView>,
        left: Option<&RecordView>,
    ) -> io::Result<()> {
        let Some(best) = left.or(arrived) else { return Ok(()) };
        self.packets += 1;
        let comment = comment(&self.service, name, best);
        match &mut self.form {
            Form::Lines(out) => {
                let first = arrived.unwrap_or(best);
                writeln!(out, "{} {comment}, {} bytes", time(first.at_ns), first.len)
            }
            Form::Pcapng(writer, interfaces) => {
                let Some([into, out]) = interfaces.get(node).copied() else { return Ok(()) };
                let left = left.filter(|record| record.sent);
                for (interface, record) in [(into, arrived), (out, left)] {
                    let Some(record) = record else { continue };
                    let data = bytes(&record.data);
                    let (at_ns, len) = (record.at_ns, record.len);
                    let comment = comment.as_str();
                    writer.packet(&Packet { interface, at_ns, len, data: &data, comment })?;
                }
                Ok(())
            }
        }
    }

    /// Writes what is left; says how many packets there were, and what was not captured.
    fn end(mut self) -> io::Result<(u64, String)> {
        for ((node, _), (record, name)) in std::mem::take(&mut self.halves) {
            self.packet(node, &name, Some(&record), None)?;
        }
        match &mut self.form {
            Form::Lines(out) => out.flush()?,
            Form::Pcapng(writer, _) => writer.flush()?,
        }
        let [lost, limited] = self.losses.values().fold([0_u64; 2], |sum, losses| {
            [sum[0].saturating_add(losses[0]), sum[1].saturating_add(losses[1])]
        });
        let losses = format!("{lost} frames lost, {limited} packets beyond the rate");
        Ok((self.packets, losses))
    }
}

/// What is known of a packet, as one harmless line.
fn comment(service: &str, node: &str, record: &RecordView) -> String {
    let backend = record.backend.as_deref().unwrap_or("none");
    let slot = record.slot.map_or_else(|| "none".to_owned(), |slot| slot.to_string());
    let outcome = record.outcome.as_deref().unwrap_or("unknown: the frame that left was lost");
    let mut text = format!(
        "node={node} service={service} backend={backend} slot={slot} generation={} packet={:x} \
         outcome={outcome}",
        record.generation, record.packet
    );
    if record.tracked {
        text += " tracked";
    }
    if let Some(TunnelView { tenant, flags, further_hops, .. }) = &record.tunnel {
        text += &format!(" tenant={tenant}");
        if !further_hops.is_empty() {
            let hops: Vec<_> = further_hops.iter().map(ToString::to_string).collect();
            text += &format!(" hops={}", hops.join(","));
        }
        if !flags.is_empty() {
            text += &format!(" flags={}", flags.join(","));
        }
    }
    clean(&text)
}

fn time(at_ns: u64) -> String {
    const MICROSECOND: u64 = 1000;
    let at = UNIX_EPOCH + std::time::Duration::from_nanos(at_ns);
    let Some(time) = Time::from_system_time(at) else { return "-".to_owned() };
    let fraction = at_ns / MICROSECOND % 1_000_000;
    format!("{}.{fraction:06}Z", time.to_string().trim_end_matches('Z'))
}

/// Bytes of two digits each; nothing from where it is no number.
fn bytes(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map_while(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_in_so_many() {
        assert_eq!((sample("1/1"), sample("1/100")), (Ok(1), Ok(100)));
        for refused in ["1/0", "2/3", "100", "1/x", ""] {
            assert!(sample(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn time_has_microseconds() {
        assert_eq!(time(1_795_000_000_000_012_345), "2026-11-18T11:06:40.000012Z");
    }

    #[test]
    fn digits_become_bytes_and_anything_else_ends_them() {
        assert_eq!(bytes("00ff10"), [0, 255, 16]);
        assert_eq!(bytes("00zz10"), [0]);
        assert_eq!(bytes("0"), [0; 0]);
    }
}
