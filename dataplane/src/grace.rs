//! Grace periods: when nothing in the kernel can still read what is no longer in force.
//!
//! One takes some ten milliseconds, so it begins as soon as a generation is flipped in and runs
//! beside everything else. Only a generation that follows before its end has to wait.

use std::{io, thread::JoinHandle};

use crate::bpf;

/// The last grace period that began.
#[derive(Debug)]
pub(crate) struct GracePeriod(Option<JoinHandle<io::Result<()>>>);

impl GracePeriod {
    /// Begins one now.
    pub(crate) fn begin() -> Self {
        let thread = std::thread::Builder::new().name("grace-period".to_owned());
        Self(thread.spawn(bpf::wait_for_readers).ok())
    }

    /// Waits for its end; without a thread, for that of one that begins here.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        match self.0.take().map(JoinHandle::join) {
            Some(Ok(waited)) => waited,
            Some(Err(_)) | None => bpf::wait_for_readers(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_period_ends_and_may_be_awaited_again() {
        let mut grace = GracePeriod::begin();
        grace.wait().expect("ends");
        grace.wait().expect("another");
    }
}
