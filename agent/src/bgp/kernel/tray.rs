//! [`Tray`]: what the BGP thread puts down for the thread that writes routes, and the reverse.
//!
//! Neither waits for the other. When the tray is full, changes stay in the route table, where a
//! prefix takes a mark however often it changes; the BGP thread is woken when there is room.

use std::io;
use std::task::Waker;

use isocast_bgp::speaker::ForwardingRoute;
use parking_lot::Mutex;

/// Routes on the tray.
const ROUTES_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Tray {
    contents: Mutex<Contents>,
    /// Wakes the thread that writes.
    writer: mio::Waker,
    /// Wakes the BGP thread.
    bgp: Waker,
}

/// What lies on it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) routes: Vec<ForwardingRoute>,
    /// All there is has been told.
    pub(super) complete: bool,
    pub(super) end: Option<Fate>,
    /// The BGP thread waits for room.
    awaited: bool,
    /// The writer wants to be told everything again.
    again: bool,
    /// The writer has ended.
    ended: bool,
}

/// What becomes of routes that are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bgp) enum Fate {
    /// They stay, for whoever comes next.
    Keep,
    Remove,
}

// === impl Tray ===

impl Tray {
    pub(super) fn new(registry: &mio::Registry, token: mio::Token, bgp: Waker) -> io::Result<Self> {
        let writer = mio::Waker::new(registry, token)?;
        Ok(Self { contents: Mutex::default(), writer, bgp })
    }

    // --- the BGP thread's side ---

    /// Routes that may be put down. None: the BGP thread will be woken.
    pub(super) fn room(&self) -> usize {
        let mut contents = self.contents.lock();
        let room = ROUTES_MAX.saturating_sub(contents.routes.len());
        contents.awaited = room == 0;
        room
    }

    pub(super) fn put(&self, routes: &mut Vec<ForwardingRoute>) {
        self.contents.lock().routes.append(routes);
        self.wake_writer();
    }

    pub(super) fn complete(&self) {
        self.contents.lock().complete = true;
        self.wake_writer();
    }

    pub(super) fn end(&self, fate: Fate) {
        self.contents.lock().end.get_or_insert(fate);
        self.wake_writer();
    }

    /// Whether everything is to be told again; asked once.
    pub(super) fn take_again(&self) -> bool {
        std::mem::take(&mut self.contents.lock().again)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.contents.lock().ended
    }

    // --- the writer's side ---

    /// All that lies there.
    pub(super) fn take(&self) -> Contents {
        let mut contents = self.contents.lock();
        let left = Contents { again: contents.again, ended: contents.ended, ..Contents::default() };
        let taken = std::mem::replace(&mut *contents, left);
        drop(contents);
        if taken.awaited {
            self.bgp.wake_by_ref();
        }
        taken
    }

    /// Asks to be told everything again.
    pub(super) fn ask_again(&self) {
        self.contents.lock().again = true;
        self.bgp.wake_by_ref();
    }

    pub(super) fn set_ended(&self) {
        self.contents.lock().ended = true;
        self.bgp.wake_by_ref();
    }

    fn wake_writer(&self) {
        if let Err(error) = self.writer.wake() {
            tracing::error!(%error, "the thread that installs routes cannot be woken");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_full_tray_has_no_room_and_the_bgp_thread_is_woken_when_it_is_emptied() {
        let poll = mio::Poll::new().unwrap();
        let bell = Arc::new(Bell::default());
        let tray = Tray::new(poll.registry(), mio::Token(0), Arc::clone(&bell).into()).unwrap();
        let route = ForwardingRoute { prefix: "192.0.2.0/24".parse().unwrap(), next_hops: vec![] };

        tray.put(&mut vec![route.clone(); ROUTES_MAX - 1]);
        assert_eq!(tray.room(), 1);
        assert_eq!(tray.take().routes.len(), ROUTES_MAX - 1);
        assert_eq!(bell.0.load(Ordering::Relaxed), 0, "nobody waited");

        tray.put(&mut vec![route; ROUTES_MAX]);
        assert_eq!(tray.room(), 0);
        tray.take();
        assert_eq!((bell.0.load(Ordering::Relaxed), tray.room()), (1, ROUTES_MAX));
    }

    #[test]
    fn the_first_word_on_what_becomes_of_the_routes_counts() {
        let poll = mio::Poll::new().unwrap();
        let bell = Arc::new(Bell::default());
        let tray = Tray::new(poll.registry(), mio::Token(0), bell.into()).unwrap();

        tray.end(Fate::Remove);
        tray.end(Fate::Keep);

        assert_eq!(tray.take().end, Some(Fate::Remove));
    }
}
