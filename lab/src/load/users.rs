//! The users of one client node.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Stream,
    http::{Connection, Persistence},
    record::{Break, FlowKey, Record, Sample},
};

/// Long-lived connections over all streams.
pub(super) struct Steady {
    pub(super) count: usize,
    /// Once they may begin.
    pub(super) begun: CancellationToken,
}

/// Makes load on `streams` (with their positions among `stream_count`) until `stop`, with their share of
/// the long-lived connections.
pub(super) async fn run(
    streams: Vec<(usize, Stream)>,
    stream_count: usize,
    connections: Steady,
    record: Arc<Mutex<Record>>,
    stop: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    for (position, stream) in streams {
        let of_stream = (0..connections.count).filter(|number| number % stream_count == position);
        let ports = Arc::new(AtomicUsize::new(0));
        for _ in of_stream {
            let (ports, record) = (Arc::clone(&ports), Arc::clone(&record));
            let (begun, pause) = (connections.begun.clone(), pause(connections.count));
            let connection = steady(position, stream.clone(), ports, pause, record);
            tasks.spawn(async move {
                begun.cancelled().await;
                connection.await;
            });
        }
        tasks.spawn(open_loop(position, stream, Arc::clone(&record)));
    }
    stop.cancelled().await;
    tasks.shutdown().await;
}

/// New connections, one request each, at fixed instants.
async fn open_loop(position: usize, stream: Stream, record: Arc<Mutex<Record>>) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut requests = JoinSet::new();
    let mut due = tokio::time::Instant::now();
    for port in (PORT_FIRST..=PORT_LAST).cycle() {
        sleep_until(due).await;
        while requests.try_join_next().is_some() {}
        let (flow, started) = (FlowKey { stream: position, port }, due.into_std());
        due += REQUEST_INTERVAL;

        let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() else {
            let answer = Err(format!("{IN_FLIGHT_MAX} requests wait already"));
            record.lock().push(Sample { flow, started, ended: Instant::now(), answer });
            continue;
        };
        let number = record.lock().open(started);
        let source = SocketAddr::new(stream.source, port);
        let (destination, record) = (stream.destination, Arc::clone(&record));
        requests.spawn(async move {
            let request = async {
                Connection::open(source, destination, Persistence::Close).await?.exchange().await
            };
            let answer = match timeout(REQUEST_TIMEOUT, request).await {
                Ok(Err(error)) if error.kind() == ErrorKind::AddrNotAvailable => {
                    // The user's own kernel still closes the flow's last connection.
                    record.lock().skip(number);
                    return drop(permit);
                }
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_elapsed) => Err(format!("no answer for {REQUEST_TIMEOUT:?}")),
            };
            record.lock().close(number, Sample { flow, started, ended: Instant::now(), answer });
            drop(permit);
        });
    }
}

/// A connection that lives as long as the network lets it, opened again when it does not.
async fn steady(
    position: usize,
    stream: Stream,
    ports: Arc<AtomicUsize>,
    pause: Duration,
    record: Arc<Mutex<Record>>,
) {
    loop {
        let port = steady_port(ports.fetch_add(1, Ordering::Relaxed));
        let source = SocketAddr::new(stream.source, port);
        let opening = Connection::open(source, stream.destination, Persistence::KeepAlive);
        if let Ok(Ok(connection)) = timeout(REQUEST_TIMEOUT, opening).await {
            exchange_until_broken(position, connection, pause, &record).await;
        }
        sleep(pause).await;
    }
}

async fn exchange_until_broken(
    position: usize,
    mut connection: Connection,
    pause: Duration,
    record: &Mutex<Record>,
) {
    let opened = Instant::now();
    let number = record.lock().number();
    let mut served_by = None;
    let (reason, stalled) = loop {
        match timeout(STEADY_TIMEOUT, connection.exchange()).await {
            Ok(Ok(server)) => {
                record.lock().steady_answered(number);
                served_by = Some(server);
            }
            Ok(Err(error)) => break (error.to_string(), false),
            Err(_elapsed) => break (format!("no answer for {STEADY_TIMEOUT:?}"), true),
        }
        sleep(pause).await;
    };
    if let Some(server) = served_by {
        let mut record = record.lock();
        record.steady_ended(number);
        let at = Instant::now();
        record.broke(Break { stream: position, opened, at, server, reason, stalled });
    }
}

/// 110 new connections a second on each stream: 220 per address family from two client nodes.
const REQUEST_INTERVAL: Duration = Duration::from_micros(1_000_000 / 110);
/// A request without its answer after this long has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two messages of a long-lived connection: there are 500 a second over all of them,
/// however many they are.
pub(super) fn pause(connections: usize) -> Duration {
    const PER_CONNECTION: Duration = Duration::from_millis(2);
    PER_CONNECTION.saturating_mul(u32::try_from(connections).unwrap_or(u32::MAX))
}

/// TCP's patience: a long-lived connection may stall for this long before it counts as broken.
const STEADY_TIMEOUT: Duration = Duration::from_secs(15);
/// Most requests of a stream in flight: twice what a dead service lets pile up.
const IN_FLIGHT_MAX: usize = 512;
/// Ports of the flows, below those of long-lived connections. A port comes round after 2.7 s: no
/// earlier request on it is still in flight.
const PORT_FIRST: u16 = 20_000;
const PORT_LAST: u16 = 20_299;
/// Ports of long-lived connections: none is used again soon. A server that was not told of the end
/// of an earlier connection would take the later one for it, and neither answer nor reset.
fn steady_port(number: usize) -> u16 {
    const FIRST: u16 = 21_000;
    let number = number % usize::from(u16::MAX - FIRST);
    u16::try_from(number).map_or(FIRST, |number| FIRST + number)
}

/// The time in which every flow has its turn once.
pub(super) const CYCLE: Duration =
    REQUEST_INTERVAL.saturating_mul((PORT_LAST - PORT_FIRST + 1) as u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_never_has_two_requests_in_flight() {
        assert!(CYCLE > REQUEST_TIMEOUT + REQUEST_TIMEOUT / 4);
    }

    #[test]
    fn two_clients_make_200_connections_a_second_per_family() {
        assert!(2 * (1_000_000 / REQUEST_INTERVAL.as_micros()) >= 200);
    }
}
