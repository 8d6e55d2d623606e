//! One packet through the program that is in force, to see what it would do.

use aya::programs::{ProgramError, TestRun as _, TestRunOptions};

use crate::{dataplane::Dataplane, netlink::interface_index};

/// A packet that was run through the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// What the program decided.
    pub action: Action,
    /// The packet as it left the program.
    pub packet: Vec<u8>,
    /// Nanoseconds that one run took.
    pub nanoseconds: u128,
}

/// Verdict of an XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Discarded.
    Drop,
    /// Handed to the host.
    Pass,
    /// Sent out of another interface.
    Redirect,
    /// Sent out of the interface it came from.
    Transmit,
    /// Anything else: the program failed.
    Aborted,
}

impl Action {
    /// The verdict of this number (`enum xdp_action`).
    pub(crate) const fn of(verdict: u32) -> Self {
        match verdict {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Transmit,
            4 => Self::Redirect,
            _ => Self::Aborted,
        }
    }
}

impl Dataplane {
    /// Runs a packet through the program as if it had arrived by an interface, `repeat` times.
    /// It is counted as any other; nothing is sent.
    ///
    /// # Errors
    /// When the kernel refuses: the interface is unknown, or the packet shorter than a header.
    pub fn trace(
        &self,
        packet: &[u8],
        interface: &str,
        repeat: u32,
    ) -> Result<Traced, ProgramError> {
        let index = interface_index(interface).map_err(ProgramError::IOError)?;
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
        let context: Vec<u8> =
            [0, len, 0, index, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let mut out = vec![0; packet.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(packet);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        options.repeat = repeat;
        let result = self.program()?.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        let action = Action::of(result.return_value);
        Ok(Traced { action, packet: out, nanoseconds: result.duration.as_nanos() })
    }
}
