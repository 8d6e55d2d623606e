//! A minimal HTTP/1.1 client (RFC 9112): enough to ask nginx who it is.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::record::Server;
use crate::netns::Namespace;

/// A connection on which one request follows another.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
}

/// Whether the server is asked to close after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    Close,
    KeepAlive,
}

impl Connection {
    /// Connects from `source`; port 0 lets the kernel choose.
    pub(super) async fn open(
        source: SocketAddr,
        destination: SocketAddr,
        persistence: Persistence,
    ) -> io::Result<Self> {
        let socket = match destination {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(source)?;
        let stream = socket.connect(destination).await?;
        stream.set_nodelay(true)?;
        let connection = match persistence {
            Persistence::Close => "close",
            Persistence::KeepAlive => "keep-alive",
        };
        let request =
            format!("GET / HTTP/1.1\r\nHost: {destination}\r\nConnection: {connection}\r\n\r\n");
        Ok(Self { stream, request: request.into_bytes(), received: Vec::new() })
    }

    /// Asks, and returns who answered.
    pub(super) async fn exchange(&mut self) -> io::Result<Server> {
        self.stream.write_all(&self.request).await?;
        loop {
            if let Some((server, length)) = parse_response(&self.received)? {
                self.received.drain(..length);
                return Ok(server);
            }
            if self.received.len() > RESPONSE_BYTES_MAX {
                return Err(invalid("answer is too long"));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Asks a service again and again from a namespace until it answers; `None` if it does not within
/// `limit`.
///
/// # Errors
/// The namespace cannot be entered, or there is no thread to be had.
pub fn first_answer(
    namespace: &Namespace,
    source: IpAddr,
    destination: SocketAddr,
    limit: Duration,
) -> io::Result<Option<()>> {
    let asking = async {
        loop {
            let attempt = async {
                let source = SocketAddr::new(source, 0);
                Connection::open(source, destination, Persistence::Close).await?.exchange().await
            };
            if let Ok(Ok(_)) = timeout(ATTEMPT_TIMEOUT, attempt).await {
                return;
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
    };
    let answered = namespace.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(async { timeout(limit, asking).await.ok() }))
    });
    answered.map_err(io::Error::other)?
}

/// The server named in a whole response, and the response's length; `None` if there is more to
/// come.
fn parse_response(bytes: &[u8]) -> io::Result<Option<(Server, usize)>> {
    let Some(head_length) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(head_length);
    let head = std::str::from_utf8(head).map_err(|error| invalid(&error.to_string()))?;
    let mut lines = head.lines();
    if lines.next().and_then(|line| line.split(' ').nth(1)) != Some("200") {
        return Err(invalid("status is not 200"));
    }
    let content_length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .filter(|length| *length <= RESPONSE_BYTES_MAX)
        .ok_or_else(|| invalid("no content-length in bounds"))?;
    let body_end = 4 + content_length;
    let Some(body) = rest.get(4..body_end) else { return Ok(None) };
    let server = parse_body(body).ok_or_else(|| invalid("body names no server"))?;
    Ok(Some((server, head_length + body_end)))
}

/// `dc=ams backend=be-ams-1`
fn parse_body(body: &[u8]) -> Option<Server> {
    let mut words = std::str::from_utf8(body).ok()?.split_ascii_whitespace();
    let datacenter = words.next()?.strip_prefix("dc=")?.to_owned();
    let backend = words.next()?.strip_prefix("backend=")?.to_owned();
    Some(Server { datacenter, backend })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

const RESPONSE_BYTES_MAX: usize = 4096;
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
const ATTEMPT_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\ndc=ams backend=be-ams-1\n";

    #[test]
    fn a_response_is_read_whole_or_not_at_all() {
        let (server, length) = parse_response(ANSWER).unwrap().unwrap();

        assert_eq!(server, Server { datacenter: "ams".into(), backend: "be-ams-1".into() });
        assert_eq!(length, ANSWER.len());
        for cut in 0..ANSWER.len() {
            assert!(parse_response(&ANSWER[..cut]).unwrap().is_none(), "{cut}");
        }
    }

    #[test]
    fn what_follows_a_response_is_left() {
        let two = [ANSWER, ANSWER].concat();

        assert_eq!(parse_response(&two).unwrap().unwrap().1, ANSWER.len());
    }

    #[test]
    fn a_wrong_status_body_or_length_is_an_error() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        for (from, to) in [("200", "502"), ("dc=", "xx="), ("24", "99999"), ("24", "-1")] {
            assert!(parse_response(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }
}
