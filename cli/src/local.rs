//! A node's local API: over its socket on this host, or through the controller.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use isocast_api::{agent::local::Refusal, network::NodeSpec, object::Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    client::Client,
    resource::{self, Place},
};

/// No page is larger.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long a node may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Which node is asked.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// Ask this node, through the controller
    #[arg(long, value_name = "NAME", conflicts_with = "socket")]
    pub(crate) node: Option<String>,
    /// Ask the agent of this host by its admin socket, without a controller
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// Whom to ask.
pub(crate) enum Source<'a> {
    /// A node, through the controller.
    Relayed(Client, &'a str),
    /// An agent, by its socket.
    Socket(&'a Path),
}

impl At {
    /// Whether anybody was named to be asked.
    pub(crate) const fn is_named(&self) -> bool {
        self.node.is_some() || self.socket.is_some()
    }

    /// The node that was named, if one was; `connect` leads to the controller.
    pub(crate) fn source(
        &self,
        connect: impl FnOnce() -> anyhow::Result<Client>,
    ) -> anyhow::Result<Option<Source<'_>>> {
        Ok(match (&self.socket, &self.node) {
            (Some(socket), _) => Some(Source::Socket(socket)),
            (None, Some(node)) => Some(Source::Relayed(connect()?, node)),
            (None, None) => None,
        })
    }
}

impl Source<'_> {
    /// What the node answers to a GET of `path` with these parameters.
    pub(crate) fn ask(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        match self {
            Self::Relayed(client, node) => relay(client, node, path, query),
            Self::Socket(socket) => by_socket(socket, path, query),
        }
    }

    /// What the node answers to a POST of `body`, in the words of the API.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        let answer = match self {
            Self::Relayed(client, node) => client.post(&relayed(node, path)?, body),
            Self::Socket(socket) => answered(socket, "POST", path, &serde_json::to_vec(body)?),
        };
        serde_json::from_value(answer?).context("is this command too old?")
    }

    /// What it answers to a GET, in the words of the API.
    pub(crate) fn view<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        serde_json::from_value(self.ask(path, query)?).context("is this command too old?")
    }
}

/// What a node answers through the controller.
pub(crate) fn relay(
    client: &Client,
    node: &str,
    path: &str,
    query: &[(&str, &str)],
) -> anyhow::Result<Value> {
    client.get(&relayed(node, &target(path, query))?)
}

/// Where the controller passes questions on to a node.
fn relayed(node: &str, target: &str) -> anyhow::Result<String> {
    let kind = resource::find(NodeSpec::KIND.plural)?;
    let node = resource::path(kind, Place::All, Some(node));
    Ok(format!("{node}/agent{target}"))
}

/// What the agent behind a socket answers.
pub(crate) fn by_socket(
    socket: &Path,
    path: &str,
    query: &[(&str, &str)],
) -> anyhow::Result<Value> {
    answered(socket, "GET", &target(path, query), &[])
}

fn answered(socket: &Path, method: &str, target: &str, body: &[u8]) -> anyhow::Result<Value> {
    let (status, body) = exchange(socket, method, target, body)
        .with_context(|| format!("{}: is the agent running?", socket.display()))?;
    if status == 200 {
        return serde_json::from_slice(&body).context("the answer is not JSON");
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => bail!("{} ({status}, {method} {target})", refusal.error),
        Err(_) => bail!("the agent answers {status} to {method} {target}"),
    }
}

fn target(path: &str, query: &[(&str, &str)]) -> String {
    let mut target = path.to_owned();
    for (at, (name, value)) in query.iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        resource::push_escaped(&mut target, value);
    }
    target
}

/// One request by HTTP/1.0: the answer is whole, and ends with the connection.
fn exchange(
    socket: &Path,
    method: &str,
    target: &str,
    body: &[u8],
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket).context("cannot connect")?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    let mut request =
        format!("{method} {target} HTTP/1.0\r\nHost: agent\r\nAccept: application/json\r\n");
    if !body.is_empty() {
        request.push_str("Content-Type: application/json\r\n");
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    // In one piece: an agent may answer, and close, before it has read all.
    stream.write_all(&[request.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    let bytes = stream.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut answer)? as u64;
    if bytes > ANSWER_BYTES_MAX {
        bail!("the answer is larger than {ANSWER_BYTES_MAX} bytes");
    }
    split(&answer).context("the answer is not HTTP")
}

/// The status and the body of an answer.
fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)?;
    let (head, rest) = answer.split_at(end);
    let head = std::str::from_utf8(head).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, rest.get(END_OF_HEAD.len()..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = b"HTTP/1.0 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(split(answer), Some((404, b"{}".to_vec())));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for answer in ["", "\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200 OK"]
        {
            assert_eq!(split(answer.as_bytes()), None, "{answer:?}");
        }
    }
}
