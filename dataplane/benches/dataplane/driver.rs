//! Feeds a program under test, repeat after repeat, with a packet that is restored each time.

use std::{path::Path, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, ProgramArray},
    programs::{ProgramInfo, TestRun as _, TestRunOptions, Xdp},
};
use nix::time::{ClockId, clock_gettime};

use crate::{Failure, packet::Packet};

/// Bytes that a driver can restore.
const HEADER_BYTES: usize = 128;
/// Odd: visits a power of two of flows in a scattered order.
const FLOW_STEP: u32 = 0x9e37_79b1;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ISOCAST_BENCH_OBJECT"));

/// What a driver feeds.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) packet: Packet,
    /// Words of the frame that the program under test may have written over.
    pub(crate) words: u32,
    /// A power of two less one: 0 is one flow, all ones never repeat.
    pub(crate) flow_mask: u32,
}

/// What runs in each repeat.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UnderTest<'a> {
    /// A pinned program.
    Pinned(&'a Path),
    /// A program that moves the start of the packet by so many bytes.
    Adjust(i32),
    /// A program that does nothing.
    Transmit,
}

/// A driver with its program under test.
pub(crate) struct Driver {
    ebpf: Ebpf,
    /// Holds the program under test.
    _jump: ProgramArray<MapData>,
    feed: Feed,
    /// Packets fed so far.
    fed: u32,
}

/// One test run.
pub(crate) struct Run {
    pub(crate) verdict: u32,
    pub(crate) bytes: Vec<u8>,
    /// What the driver fed.
    pub(crate) fed: Vec<u8>,
}

impl Driver {
    pub(crate) fn new(feed: Feed, under_test: UnderTest<'_>) -> Result<Self, Failure> {
        let adjust_by = if let UnderTest::Adjust(by) = under_test { by } else { 0 };
        let len = u32::try_from(feed.packet.bytes.len())?;
        let (source_at, port_at) =
            (u32::try_from(feed.packet.source_at)?, u32::try_from(feed.packet.port_at)?);
        let mut header = feed.packet.bytes.clone();
        header.resize(HEADER_BYTES, 0);
        let mut ebpf = EbpfLoader::new()
            .override_global("PACKET_LEN", &len, true)
            .override_global("WORDS", &feed.words, true)
            .override_global("HEADER", header.as_slice(), true)
            .override_global("FLOW_MASK", &feed.flow_mask, true)
            .override_global("FLOW_STEP", &FLOW_STEP, true)
            .override_global("SOURCE_AT", &source_at, true)
            .override_global("PORT_AT", &port_at, true)
            .override_global("ADJUST_BY", &adjust_by, true)
            .load(OBJECT)?;
        load(&mut ebpf, "drive")?;
        let jump = ebpf.take_map("UNDER_TEST").ok_or("no UNDER_TEST")?;
        let mut jump = ProgramArray::try_from(jump)?;
        match under_test {
            UnderTest::Pinned(path) => jump.set(0, &ProgramInfo::from_pin(path)?.fd()?, 0)?,
            UnderTest::Adjust(_) => jump.set(0, load(&mut ebpf, "adjust")?.fd()?, 0)?,
            UnderTest::Transmit => jump.set(0, load(&mut ebpf, "transmit")?.fd()?, 0)?,
        }
        Ok(Self { ebpf, _jump: jump, feed, fed: 0 })
    }

    /// Feeds one packet.
    pub(crate) fn run(&mut self) -> Result<Run, Failure> {
        let mut bytes = vec![0; self.feed.packet.bytes.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.feed.packet.bytes);
        options.data_out = Some(&mut bytes);
        options.repeat = 1;
        let result = drive(&self.ebpf)?.test_run(options)?;
        bytes.truncate(usize::try_from(result.data_size_out)?);
        self.fed = self.fed.wrapping_add(1);
        let flow = self.fed.wrapping_mul(FLOW_STEP) & self.feed.flow_mask;
        let packet = &self.feed.packet;
        let fed =
            if self.feed.flow_mask == 0 { packet.bytes.clone() } else { packet.of_flow(flow) };
        Ok(Run { verdict: result.return_value, bytes, fed })
    }

    /// Feeds so many packets; nanoseconds of CPU time for each.
    pub(crate) fn time(&mut self, repeat: u32) -> Result<f64, Failure> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.feed.packet.bytes);
        options.repeat = repeat;
        let nanoseconds = timed(drive(&self.ebpf)?, options, repeat)?;
        self.fed = self.fed.wrapping_add(repeat);
        Ok(nanoseconds)
    }
}

/// The floor without a driver: nanoseconds for each run of a bare program.
pub(crate) struct Bare(Ebpf, &'static str);

impl Bare {
    pub(crate) fn new(program: &'static str) -> Result<Self, Failure> {
        let mut ebpf = Ebpf::load(OBJECT)?;
        load(&mut ebpf, program)?;
        Ok(Self(ebpf, program))
    }

    pub(crate) fn time(&self, repeat: u32) -> Result<f64, Failure> {
        let packet = [0; 64];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&packet);
        options.repeat = repeat;
        let program: &Xdp = self.0.program(self.1).ok_or("no such program")?.try_into()?;
        timed(program, options, repeat)
    }
}

fn timed(program: &Xdp, options: TestRunOptions<'_>, repeat: u32) -> Result<f64, Failure> {
    let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    program.test_run(options)?;
    let spent = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before);
    Ok(spent.as_secs_f64() * 1e9 / f64::from(repeat))
}

fn load<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a Xdp, Failure> {
    let program: &mut Xdp = ebpf.program_mut(name).ok_or("no such program")?.try_into()?;
    program.load()?;
    Ok(program)
}

fn drive(ebpf: &Ebpf) -> Result<&Xdp, Failure> {
    Ok(ebpf.program("drive").ok_or("no driver")?.try_into()?)
}
