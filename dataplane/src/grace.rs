//! Grace periods: when nothing in the kernel can still read what is no longer in force.
//!
//! One takes some ten milliseconds, so it begins as soon as a generation is flipped in and runs
//! beside everything else. Only a generation that follows before its end has to wait.

use std::{io, thread::JoinHandle};

use tokio::sync::watch;

use crate::bpf;

/// The last grace period that began.
#[derive(Debug)]
pub(crate) struct GracePeriod {
    thread: Option<JoinHandle<io::Result<()>>>,
    is_over: watch::Receiver<bool>,
}

impl GracePeriod {
    /// Begins one now.
    pub(crate) fn begin() -> Self {
        let (ends, is_over) = watch::channel(false);
        let wait = move || {
            let waited = bpf::wait_for_readers();
            ends.send_replace(true);
            waited
        };
        let thread = std::thread::Builder::new().name("grace-period".to_owned()).spawn(wait).ok();
        Self { thread, is_over }
    }

    /// Waits for its end; without a thread, for that of one that begins here.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(waited)) => waited,
            Some(Err(_)) | None => bpf::wait_for_readers(),
        }
    }

    /// Follows whether it is over. Without a sender there is nothing to wait for.
    pub(crate) fn is_over(&self) -> watch::Receiver<bool> {
        self.is_over.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_period_ends_and_may_be_awaited_again() {
        let mut grace = GracePeriod::begin();
        let is_over = grace.is_over();
        grace.wait().expect("ends");
        assert!(*is_over.borrow());
        grace.wait().expect("another");
    }
}
