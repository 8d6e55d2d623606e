//! What another import policy would change of what routers have told this node. Changes nothing.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use isocast_api::agent::local::{ChangedPrefixes, ImportPreviewPeer, ImportPreviewView};
use isocast_bgp::{
    policy::{Policy, Term},
    speaker::ImportChange,
    types::Family,
};
use serde::Deserialize;

use super::{Views, error::Refused};
use crate::bgp::{Cursor, Desk, ImportQuery};

/// Prefixes that are named of each kind of change; all are counted.
const NAMED_MAX: usize = 1000;

/// A BGPPolicy, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Candidate {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Spec {
    terms: Vec<Term>,
}

pub(super) async fn imports(
    State(views): State<Views>,
    candidate: Result<Json<Candidate>, JsonRejection>,
) -> Result<Json<ImportPreviewView>, Refused> {
    let Json(Candidate { metadata, spec }) =
        candidate.map_err(|rejection| Refused::bad(rejection.body_text()))?;
    let policy = Policy::compile(&metadata.name, &spec.terms);
    let policy = policy.map_err(|error| Refused::bad(error.to_string()))?;
    let Some(desk) = views.inquirer.ask(None).await?.desk else {
        return Ok(Json(ImportPreviewView::default()));
    };
    let mut view = ImportPreviewView::default();
    for peer in desk.peers().await? {
        if peer.import_policy == metadata.name {
            view.peers.push(preview(&desk, &policy, peer.status.name).await?);
        }
    }
    view.peers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(view))
}

/// Page by page, so that no session waits for it.
async fn preview(desk: &Desk, policy: &Policy, name: String) -> Result<ImportPreviewPeer, Refused> {
    let mut view = ImportPreviewPeer { name, known: true, ..ImportPreviewPeer::default() };
    for family in Family::ALL {
        let mut from = Some(Cursor::default());
        while let Some(at) = from {
            let (policy, peer) = (policy.clone(), view.name.clone());
            let query = ImportQuery { policy, peer, family, from: at };
            let Some(page) = desk.preview_import(query).await? else {
                return Ok(ImportPreviewPeer { name: view.name, ..ImportPreviewPeer::default() });
            };
            from = page.next;
            for (prefix, change) in page.entries {
                let list = match change {
                    ImportChange::Gained => &mut view.gained,
                    ImportChange::Lost => &mut view.lost,
                    ImportChange::Changed => &mut view.changed,
                };
                note(list, prefix);
            }
        }
    }
    Ok(view)
}

fn note(list: &mut ChangedPrefixes, prefix: ipnet::IpNet) {
    list.count = list.count.saturating_add(1);
    if list.prefixes.len() < NAMED_MAX {
        list.prefixes.push(prefix);
    }
}
