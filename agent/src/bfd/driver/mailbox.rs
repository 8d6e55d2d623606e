//! What the thread is told by others. The latest wish counts, however slow the thread is.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use parking_lot::Mutex;

use super::{ForwardingPlane, Listener, SessionSpec};

/// Wishes that were not looked at yet; nothing: as before.
#[derive(Default)]
pub(in super::super) struct Orders {
    pub(in super::super) plane: Option<Option<ForwardingPlane>>,
    pub(in super::super) sessions: Option<Vec<SessionSpec>>,
    pub(in super::super) listener: Option<Option<Listener>>,
    pub(in super::super) end: bool,
}

/// See the module.
pub(in super::super) struct Mailbox {
    orders: Mutex<Orders>,
    bell: UnixStream,
}

/// The thread's end: readable when there is something in the mailbox.
pub(super) struct Doorbell(UnixStream);

pub(super) fn new() -> io::Result<(Mailbox, Doorbell)> {
    let (bell, doorbell) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    doorbell.set_nonblocking(true)?;
    Ok((Mailbox { orders: Mutex::default(), bell }, Doorbell(doorbell)))
}

impl Mailbox {
    pub(in super::super) fn post(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock());
        // A full buffer is a bell that rings already.
        drop((&self.bell).write(&[0]));
    }

    pub(super) fn take(&self) -> Orders {
        std::mem::take(&mut *self.orders.lock())
    }
}

impl Doorbell {
    /// Stops ringing.
    pub(super) fn silence(&mut self) {
        let mut rings = [0; 64];
        while matches!(self.0.read(&mut rings), Ok(count) if count > 0) {}
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}
