//! Every edge at once: one question, an answer from each.

use std::{path::Path, thread};

use anyhow::{Context, bail};
use isocast_api::{
    network::{NodeRole, NodeSpec},
    object::{Object, Spec},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    client::Client,
    local::{self, At},
    resource::{self, Place},
};

/// Nodes that are asked together; the relay has room for more.
const TOGETHER: usize = 16;

/// Who is asked.
pub(crate) enum Fleet<'a> {
    /// Nodes, through the controller.
    Relayed(Client, Vec<String>),
    /// An agent, by its socket.
    Socket(&'a Path),
}

/// What one node answers.
pub(crate) struct Reply<T> {
    pub(crate) node: String,
    pub(crate) answer: anyhow::Result<T>,
}

impl<'a> Fleet<'a> {
    /// The node that was named; else every edge.
    pub(crate) fn of(
        at: &'a At,
        connect: impl FnOnce() -> anyhow::Result<Client>,
    ) -> anyhow::Result<Self> {
        Ok(match (&at.socket, &at.node) {
            (Some(socket), _) => Self::Socket(socket),
            (None, Some(node)) => Self::Relayed(connect()?, vec![node.clone()]),
            (None, None) => {
                let client = connect()?;
                let edges = edges(&client)?;
                Self::Relayed(client, edges)
            }
        })
    }

    /// Names of those that are asked.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Relayed(_, nodes) => nodes.clone(),
            Self::Socket(path) => vec![path.display().to_string()],
        }
    }

    /// What one of them answers to a GET of `path`.
    pub(crate) fn ask_one<T: DeserializeOwned>(
        &self,
        node: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let answer = match self {
            Self::Relayed(client, _) => local::relay(client, node, path, query)?,
            Self::Socket(socket) => local::by_socket(socket, path, query)?,
        };
        serde_json::from_value(answer).context("is this command too old?")
    }

    /// What all of them answer, in the order of their names.
    pub(crate) fn ask<T: DeserializeOwned + Send>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Vec<Reply<T>> {
        let mut replies = Vec::new();
        for nodes in self.names().chunks(TOGETHER) {
            thread::scope(|scope| {
                let asked: Vec<_> = nodes
                    .iter()
                    .map(|node| (node, scope.spawn(|| self.ask_one(node, path, query))))
                    .collect();
                for (node, thread) in asked {
                    let answer =
                        thread.join().unwrap_or_else(|_panic| bail!("the question failed"));
                    replies.push(Reply { node: node.clone(), answer });
                }
            });
        }
        replies
    }
}

/// Names of the nodes that balance.
fn edges(client: &Client) -> anyhow::Result<Vec<String>> {
    let path = resource::path(resource::find(NodeSpec::KIND.plural)?, Place::All, None);
    let answer = client.get(&path)?;
    let items = answer.get("items").and_then(Value::as_array);
    let items = items.with_context(|| format!("GET {path}: the answer is not a list"))?;
    let mut names = Vec::new();
    for item in items {
        let node = Object::<NodeSpec>::decode(item).context("is this command too old?")?;
        if node.spec.roles.contains(&NodeRole::Edge) {
            names.push(node.name().to_owned());
        }
    }
    if names.is_empty() {
        bail!("there is no node with the role Edge");
    }
    names.sort();
    Ok(names)
}
