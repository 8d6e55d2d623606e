//! What a packet and what a commit cost: nanoseconds by `BPF_PROG_TEST_RUN`, milliseconds by the
//! clock.
//!
//! A packet is restored in each repeat by a driver that tail-calls the program under test
//! ([`driver`]). Figures are medians of rounds in which all cases take turns, in CPU time of the
//! measuring thread. *Net* is without the loop, the driver, and its half of the two moves of the
//! packet's start, which are measured by programs that do nothing else. Gates hold for a machine on
//! which a bare `XDP_TX` takes 7.2 ns, and are scaled by what it takes here.
//!
//! Every case is checked before it is measured: verdict, length, outer header, inner bytes. A wrong
//! answer ends the run with exit status 1; a missed gate is only shown.

mod cases;
mod commits;
mod driver;
mod packet;
mod report;

use std::{env, fs, path::PathBuf, process::ExitCode, thread};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are the result")]
fn main() -> ExitCode {
    let outcome = json_file().and_then(|json| {
        let report = in_namespace()?;
        print!("{report}");
        if let Some(path) = json {
            fs::write(path, format!("{:#}\n", report.json()))?;
        }
        Ok(())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Cargo adds `--bench` of its own.
fn json_file() -> Result<Option<PathBuf>, Failure> {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(None),
        (Some("--json"), Some(path)) => Ok(Some(path.into())),
        _ => Err("usage: [--json FILE]".into()),
    }
}

/// Measures on a thread that takes its network namespace with it when it ends.
fn in_namespace() -> Result<report::Report, Failure> {
    let measuring = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        on_last_processor()?;
        let pins = Pins::new();
        let (floor, cases) = cases::measure(&pins)?;
        let commits = commits::measure(&pins)?;
        Ok(report::Report { floor, cases, commits })
    });
    measuring.join().unwrap_or_else(|_| Err("the measuring thread panicked".into()))
}

fn on_last_processor() -> Result<(), Failure> {
    let last = thread::available_parallelism()?.get() - 1;
    let mut processors = CpuSet::new();
    processors.set(last)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &processors)?)
}

/// A folder for pins, removed at the end.
pub(crate) struct Pins(PathBuf);

impl Pins {
    fn new() -> Self {
        Self(format!("/sys/fs/bpf/isocast-test/bench-{}", std::process::id()).into())
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _removed = isocast_dataplane::detach(&self.0);
    }
}
