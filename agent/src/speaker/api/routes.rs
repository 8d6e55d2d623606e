//! `GET /v1/routes`: the table as it stands, as one JSON array.
//!
//! Streamed page by page: a page is asked for when the client has taken the last one, so that a
//! million routes cost neither memory here nor time there where routes are made. What changes
//! meanwhile may be seen before or after its change.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use ipnet::IpNet;
use isocast_bgp::types::Family;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Context;
use super::error::{self, ApiError};
use super::views::RouteView;
use crate::bgp::{Cursor, RoutesPage, RoutesQuery, words::FamilyName};

/// Which routes are asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    family: Option<FamilyName>,
    prefix: Option<IpNet>,
    peer: Option<String>,
}

/// A listing under way.
struct Listing {
    context: Context,
    peer: Option<String>,
    /// What is still to be asked for, the next one last.
    queries: Vec<RoutesQuery>,
    place: Place,
    /// One listing of the few there may be at a time.
    _permit: OwnedSemaphorePermit,
}

/// How far the array has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    /// Nothing is in it yet.
    Empty,
    Inside,
    End,
}

pub(super) async fn list(
    State(context): State<Context>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(Filter { family, prefix, peer }) = filter.map_err(error::of_query)?;
    let families = families(family, prefix)?;
    let permit = context.listings.clone().try_acquire_owned().map_err(|_full| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many listings at a time; try again")
    })?;
    let query = |family| RoutesQuery { family, prefix, from: Cursor::default() };
    let queries = families.into_iter().rev().map(query).collect();
    let listing = Listing { context, peer, queries, place: Place::Start, _permit: permit };
    let body = Body::from_stream(stream::unfold(listing, |mut listing| async move {
        let chunk = listing.next().await?;
        Some((Ok::<_, Infallible>(chunk), listing))
    }));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// A prefix has one family; without either, all of them.
fn families(name: Option<FamilyName>, prefix: Option<IpNet>) -> Result<Vec<Family>, ApiError> {
    let named = name.map(Family::from);
    match (named, prefix.map(|prefix| Family::of(&prefix))) {
        (Some(named), Some(of_prefix)) if named != of_prefix => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "the prefix is not of the family that is asked for",
        )),
        (Some(family), _) | (None, Some(family)) => Ok(vec![family]),
        (None, None) => Ok(Family::ALL.to_vec()),
    }
}

impl Listing {
    /// The next part of the array; nothing after its end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut text = Vec::new();
        match self.place {
            Place::End => return None,
            Place::Start => {
                text.push(b'[');
                self.place = Place::Empty;
            }
            Place::Empty | Place::Inside => {}
        }
        match self.queries.pop() {
            Some(query) => self.page(query, &mut text).await,
            None => {
                text.extend_from_slice(b"\n]\n");
                self.place = Place::End;
            }
        }
        Some(text.into())
    }

    async fn page(&mut self, query: RoutesQuery, text: &mut Vec<u8>) {
        // A speaker that is gone leaves an array without an end, which no client takes for whole.
        let Ok(RoutesPage { routes, next }) = self.context.routing.routes(query.clone()).await
        else {
            self.place = Place::End;
            return;
        };
        let wanted = |peer: &str| self.peer.as_deref().is_none_or(|wanted| wanted == peer);
        for view in routes.into_iter().map(RouteView::new).filter(|view| wanted(view.peer())) {
            let separator: &[u8] = if self.place == Place::Inside { b",\n" } else { b"\n" };
            text.extend_from_slice(separator);
            self.place = Place::Inside;
            if let Err(error) = serde_json::to_writer(&mut *text, &view) {
                tracing::error!(%error, "a route cannot be shown");
            }
        }
        self.queries.extend(next.map(|from| RoutesQuery { from, ..query }));
    }
}
