//! A stream: datagrams at a steady pace from a user to a service, each with a number of its own, and
//! how many of them arrived at a backend.
//!
//! Nothing sends a datagram again, so what is lost on the way is missing in the end. A stream is
//! of many flows, so every edge and every backend carries some of it.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use serde::Serialize;
use thiserror::Error;

use crate::netns::{EnterError, Namespace};

/// A stream that cannot be sent or counted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A namespace.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// A socket.
    #[error("a socket of the stream")]
    Socket(#[from] io::Error),
    /// A thread.
    #[error("a thread of the stream ended")]
    Ended,
}

/// How many datagrams left, and how many of them nobody took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Streamed {
    /// Sent.
    pub sent: u64,
    /// Not received by any backend.
    pub lost: u64,
}

/// A stream on its way.
#[derive(Debug)]
pub struct Streaming {
    sending: Going,
    counting: Going,
    received: Arc<AtomicU64>,
    sender: JoinHandle<Result<u64, StreamError>>,
    counters: Vec<JoinHandle<io::Result<HashSet<u64>>>>,
}

/// Threads go on while it is there.
#[derive(Debug)]
struct Going(Arc<AtomicBool>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Streaming {
    /// Sends `per_second` datagrams a second from `user` to `service`, and counts them in `backends`.
    ///
    /// # Errors
    /// A namespace or a socket.
    pub fn start(
        user: Namespace,
        backends: &[Namespace],
        service: SocketAddrV4,
        per_second: u32,
    ) -> Result<Self, StreamError> {
        let begin = || Going(Arc::new(AtomicBool::new(true)));
        let (sending, counting) = (begin(), begin());
        let received = Arc::new(AtomicU64::new(0));
        let counters = backends.iter().map(|backend| {
            let socket = backend.within(|| receiver(service.port()))??;
            let (is_counting, received) = (Arc::clone(&counting.0), Arc::clone(&received));
            Ok(std::thread::spawn(move || count(&socket, &is_counting, &received)))
        });
        let counters = counters.collect::<Result<_, StreamError>>()?;
        let sender = std::thread::spawn({
            let is_sending = Arc::clone(&sending.0);
            move || send(&user, service, per_second, &is_sending)
        });
        Ok(Self { sending, counting, received, sender, counters })
    }

    /// Ends it, once what is under way has arrived.
    ///
    /// # Errors
    /// It could not be sent or counted.
    pub async fn finish(self) -> Result<Streamed, StreamError> {
        drop(self.sending);
        let ended = tokio::task::spawn_blocking(move || {
            let sent = self.sender.join().map_err(|_panic| StreamError::Ended)??;
            let deadline = Instant::now() + ARRIVAL_TIMEOUT;
            while self.received.load(Ordering::Relaxed) < sent && Instant::now() < deadline {
                std::thread::park_timeout(TURN);
            }
            drop(self.counting);
            let mut seen = HashSet::new();
            for counter in self.counters {
                seen.extend(counter.join().map_err(|_panic| StreamError::Ended)??);
            }
            let arrived = u64::try_from(seen.len()).unwrap_or(u64::MAX);
            Ok(Streamed { sent, lost: sent.saturating_sub(arrived) })
        });
        ended.await.map_err(|_panic| StreamError::Ended)?
    }
}

fn send(
    user: &Namespace,
    service: SocketAddrV4,
    per_second: u32,
    is_sending: &AtomicBool,
) -> Result<u64, StreamError> {
    user.enter()?;
    let flow = |_| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(service).map(|()| socket)
    };
    let flows = (0..FLOWS).map(flow).collect::<io::Result<Vec<_>>>()?;
    let start = Instant::now();
    let mut numbers = (0_u64..).zip(flows.iter().cycle());
    let mut sent = 0;
    while is_sending.load(Ordering::Relaxed) {
        let due = start.elapsed().as_millis() * u128::from(per_second) / 1000;
        while u128::from(sent) < due
            && let Some((number, socket)) = numbers.next()
        {
            // The first attempt may be told what became of an earlier datagram (RFC 1122 §4.1.3.3).
            if socket.send(&number.to_be_bytes()).is_err() {
                socket.send(&number.to_be_bytes())?;
            }
            sent += 1;
        }
        std::thread::park_timeout(TURN);
    }
    Ok(sent)
}

fn receiver(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    socket.set_read_timeout(Some(LOOK))?;
    // A backend that gets no turn for a while has lost nothing.
    setsockopt(&socket.as_fd(), RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
    Ok(socket)
}

fn count(
    socket: &UdpSocket,
    is_counting: &AtomicBool,
    received: &AtomicU64,
) -> io::Result<HashSet<u64>> {
    let mut seen = HashSet::new();
    let mut datagram = [0; 8];
    while is_counting.load(Ordering::Relaxed) {
        match socket.recv(&mut datagram) {
            Ok(_) => {
                seen.insert(u64::from_be_bytes(datagram));
                received.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

/// Enough that every edge and backend has its share.
const FLOWS: usize = 64;
/// Between two looks at what is due.
const TURN: Duration = Duration::from_millis(2);
/// Between two looks at whether it goes on.
const LOOK: Duration = Duration::from_millis(100);
/// What has not arrived by then is lost.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Namespace {
        let namespace = Namespace::named(format!("isot-stream-{}-{name}", std::process::id()));
        namespace.create().unwrap();
        namespace
    }

    #[tokio::test]
    async fn what_nobody_takes_is_lost_and_the_rest_is_not() {
        let here = namespace("here");
        let service = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7007);

        let taken =
            Streaming::start(here.clone(), std::slice::from_ref(&here), service, 1000).unwrap();
        let untaken =
            Streaming::start(here.clone(), &[], SocketAddrV4::new(*service.ip(), 7008), 1000);
        let untaken = untaken.unwrap();
        while taken.received.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
        let (taken, untaken) = (taken.finish().await, untaken.finish().await);
        here.delete().unwrap();

        let taken = taken.unwrap();
        assert!(taken.sent >= 100 && taken.lost == 0, "{taken:?}");
        let untaken = untaken.unwrap();
        assert!(untaken.sent > 0 && untaken.lost == untaken.sent, "{untaken:?}");
    }
}
