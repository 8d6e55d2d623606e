//! What the agent answers about its routing. The shapes are [`isocast_api::agent::local`].

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use ipnet::IpNet;
use isocast_api::{
    agent::{
        PrefixStatus,
        local::{
            AdvertisementView, AdvertisementsView, ErrorView, PAGE_DEFAULT, PAGE_MAX, PassageView,
            PeerView, PeersView, RouteView, RoutesView, ToldView, WhyView,
        },
    },
    text::Time,
};
use isocast_bgp::{types::Family, wire::next_hop::NextHop};
use serde::Deserialize;

use super::{Views, error::Refused};
use crate::{
    bgp::{
        Cursor, Desk, Passage, PeerReport, PrefixReport, RouteReport, RoutesPage, RoutesQuery,
        words,
    },
    runtime::Answer,
};

type Answered<T> = Result<Json<T>, Refused>;

/// Which routes are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoutesFilter {
    family: Option<words::FamilyName>,
    prefix: Option<IpNet>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Which page is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Which prefix is asked about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    prefix: String,
}

pub(super) async fn peers(State(views): State<Views>) -> Answered<PeersView> {
    let Some(desk) = views.inquirer.ask(None).await?.desk else {
        return Ok(Json(PeersView::default()));
    };
    let reports = desk.peers().await?;
    let status = views.status.borrow().clone();
    let bfd = |uid: &str| {
        let known = status.peers.iter().find(|peer| peer.uid == uid)?;
        (!known.bfd.is_empty()).then(|| known.bfd.clone())
    };
    let mut peers: Vec<_> = reports.iter().map(|report| peer(report, bfd(&report.uid))).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(PeersView { peers }))
}

pub(super) async fn routes(
    State(views): State<Views>,
    filter: Result<Query<RoutesFilter>, QueryRejection>,
) -> Answered<RoutesView> {
    let Query(RoutesFilter { family, prefix, limit, cursor }) = filter?;
    let limit = page_size(limit)?;
    let mut place = match (cursor, family, prefix) {
        (Some(cursor), ..) => Place::parse(&cursor)?,
        (None, _, Some(prefix)) => Place { family: Family::of(&prefix), from: Cursor::default() },
        (None, Some(family), None) => Place::first(family.into()),
        (None, None, None) => Place::first(Family::Ipv4Unicast),
    };
    let Some(desk) = views.inquirer.ask(None).await?.desk else {
        return Ok(Json(RoutesView::default()));
    };
    let mut routes = Vec::new();
    loop {
        let page = ask(&desk, place, prefix).await?;
        routes.extend(page.routes.into_iter().map(route));
        let next = match page.next {
            Some(from) => Some(Place { from, ..place }),
            None if prefix.is_none() && family.is_none() => place.next_family(),
            None => None,
        };
        match next {
            // A prefix is never torn apart, so a page may be a little longer.
            Some(next) if routes.len() < limit => place = next,
            next => return Ok(Json(RoutesView { routes, next: next.map(Place::text) })),
        }
    }
}

async fn ask(desk: &Desk, place: Place, prefix: Option<IpNet>) -> Result<RoutesPage, Refused> {
    let query = RoutesQuery { family: place.family, prefix, from: place.from };
    Ok(desk.routes(query).await?)
}

pub(super) async fn advertisements(
    State(views): State<Views>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answered<AdvertisementsView> {
    let Query(Page { limit, cursor }) = page?;
    let limit = page_size(limit)?;
    let after = cursor.map(|text| text.parse::<IpNet>()).transpose();
    let after = after.map_err(|_invalid| Refused::bad("cursor: not one that a page ended with"))?;
    let status = views.status.borrow().clone();
    let known = status.prefixes.iter().filter_map(|it| Some((it.prefix.parse().ok()?, it)));
    let mut rest = known.filter(|(prefix, _)| after.is_none_or(|after| *prefix > after)).peekable();
    let page = rest.by_ref().take(limit);
    let advertisements: Vec<_> = page.map(|(prefix, it)| advertisement(prefix, it)).collect();
    let last = advertisements.last().map(|it: &AdvertisementView| it.prefix.to_string());
    let next = last.filter(|_| rest.peek().is_some());
    Ok(Json(AdvertisementsView { advertisements, next }))
}

pub(super) async fn why(
    State(views): State<Views>,
    about: Result<Query<About>, QueryRejection>,
) -> Answered<WhyView> {
    let Query(About { prefix }) = about?;
    let prefix = read_prefix(&prefix)?;
    let Answer { node, origin, desk } = views.inquirer.ask(Some(prefix)).await?;
    let report = match desk {
        Some(desk) => Some(desk.prefix(prefix).await?),
        None => None,
    };
    let status = views.status.borrow().clone();
    let text = prefix.to_string();
    let told = status.prefixes.iter().find(|it| it.prefix == text);
    let Some(PrefixReport { paths, best_by, permitted, passages }) = report else {
        return Ok(Json(WhyView {
            node,
            prefix,
            origin,
            paths: vec![],
            best_by: None,
            peers: vec![],
        }));
    };
    // The judge is the one before the wire.
    let origin = origin.map(|mut origin| {
        origin.permitted = permitted;
        origin
    });
    Ok(Json(WhyView {
        node,
        prefix,
        origin,
        paths: paths.into_iter().map(route).collect(),
        best_by: best_by.map(|reason| words::best_by(reason).to_owned()),
        peers: passages.into_iter().map(|it| passage(it, told)).collect(),
    }))
}

/// A prefix, or an address for its host route.
fn read_prefix(text: &str) -> Result<IpNet, Refused> {
    let prefix = text.parse::<IpNet>().ok();
    let prefix = prefix.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let prefix = prefix.ok_or_else(|| {
        Refused::bad("prefix: must be a prefix such as 203.0.113.10/32, or an address")
    })?;
    Ok(prefix.trunc())
}

fn page_size(limit: Option<usize>) -> Result<usize, Refused> {
    match limit {
        None => Ok(PAGE_DEFAULT),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Refused::bad(format!("limit: must be 1 to {PAGE_MAX}"))),
    }
}

/// Where a page of routes begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    family: Family,
    from: Cursor,
}

impl Place {
    fn first(family: Family) -> Self {
        Self { family, from: Cursor::default() }
    }

    fn next_family(self) -> Option<Self> {
        (self.family == Family::Ipv4Unicast).then(|| Self::first(Family::Ipv6Unicast))
    }

    fn text(self) -> String {
        let family = match self.family {
            Family::Ipv4Unicast => 4,
            Family::Ipv6Unicast => 6,
        };
        format!("{family}-{}", self.from.0)
    }

    fn parse(text: &str) -> Result<Self, Refused> {
        let read = || {
            let (family, from) = text.split_once('-')?;
            let family = match family {
                "4" => Family::Ipv4Unicast,
                "6" => Family::Ipv6Unicast,
                _ => return None,
            };
            Some(Self { family, from: Cursor(from.parse().ok()?) })
        };
        read().ok_or_else(|| Refused::bad("cursor: not one that a page ended with"))
    }
}

fn peer(report: &PeerReport, bfd: Option<String>) -> PeerView {
    let status = &report.status;
    let session = status.session.as_ref();
    let error = |message: &String| ErrorView {
        code: status.last_error_code.unwrap_or_default().to_owned(),
        message: message.clone(),
    };
    let waiting = report.counts.ipv4.waiting.saturating_add(report.counts.ipv6.waiting);
    PeerView {
        name: status.name.clone(),
        uid: report.uid.to_string(),
        address: report.address,
        local_address: session.and_then(|session| session.local_address),
        asn: report.asn,
        router_id: report.router_id,
        state: status.state.to_string(),
        since: Time::from_system_time(status.since),
        last_error: status.last_error.as_ref().map(error),
        families: session.map(|session| words::families(session.families)).unwrap_or_default(),
        hold_time_s: report.hold_time.map(|hold_time| hold_time.as_secs()),
        graceful_restart: status.graceful_restart().map(str::to_owned),
        bfd,
        prefixes_received: report.count(|counts| counts.received),
        prefixes_accepted: report.count(|counts| counts.accepted),
        prefixes_stale: report.count(|counts| counts.stale),
        prefixes_sent: report.count(|counts| counts.told),
        prefixes_withheld: status.withheld.len() as u64,
        waiting: waiting as u64,
        updates_received: report.counters.updates_in,
        updates_sent: report.counters.updates_out,
        flaps: status.flaps,
        faults: status.faults,
    }
}

fn route(report: RouteReport) -> RouteView {
    let RouteReport { prefix, path, term } = report;
    let attributes = path.attributes;
    RouteView {
        prefix,
        peer: path.peer.map(|name| name.to_string()),
        best: path.best,
        multipath: path.multipath,
        stale: path.stale,
        verdict: words::verdict(path.verdict).to_owned(),
        term,
        next_hop: path.next_hop.map(NextHop::address),
        as_path: attributes.as_path.0.iter().map(|asn| asn.0).collect(),
        origin: words::origin(attributes.origin).to_owned(),
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities: words::communities(&attributes.communities),
    }
}

fn advertisement(prefix: IpNet, status: &PrefixStatus) -> AdvertisementView {
    let told = |peer: &isocast_api::agent::PrefixPeer| ToldView {
        peer: peer.peer.clone(),
        since: since(peer.since_ms),
        withheld: Some(peer.withheld.clone()).filter(|why| !why.is_empty()),
    };
    AdvertisementView {
        prefix,
        announced: status.announced,
        reason: status.reason.clone(),
        message: status.message.clone(),
        services: status.services.clone(),
        communities: status.communities.clone(),
        peers: status.peers.iter().map(told).collect(),
    }
}

fn passage(passage: Passage, status: Option<&PrefixStatus>) -> PassageView {
    let Passage { peer, state, sent, policy, judgement } = passage;
    let told = sent.as_ref().is_some_and(|sent| sent.told);
    let known = status.and_then(|status| status.peers.iter().find(|it| it.peer == peer));
    let outcome = sent.as_ref().map(|sent| &sent.outcome);
    let withheld = match outcome {
        Some(Err(why)) => Some(words::withheld(*why)),
        Some(Ok(_)) => None,
        None => Some("NoRoute"),
    };
    PassageView {
        state: state.to_string(),
        told,
        since: known.filter(|_| told).and_then(|known| since(known.since_ms)),
        waiting: sent.as_ref().is_some_and(|sent| sent.waiting),
        next_hop: outcome.and_then(|outcome| outcome.as_ref().ok()).copied(),
        withheld: withheld.map(str::to_owned),
        policy,
        term: judgement.as_ref().map(|judgement| judgement.term.clone()),
        communities: judgement
            .filter(|judgement| judgement.accepted)
            .map(|judgement| words::communities(&judgement.communities))
            .unwrap_or_default(),
        peer,
    }
}

fn since(milliseconds: u64) -> Option<Time> {
    if milliseconds == 0 { None } else { Time::from_unix_ms(milliseconds) }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let place = Place { family: Family::Ipv6Unicast, from: Cursor(7) };

        assert_eq!(Place::parse(&place.text()).ok(), Some(place));
        for text in ["", "5-1", "4-", "4-x", "4"] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_means_its_host_route_and_host_bits_are_cut() {
        let read = |text| read_prefix(text).ok().map(|it| it.to_string());

        assert_eq!(read("203.0.113.10").as_deref(), Some("203.0.113.10/32"));
        assert_eq!(read("203.0.113.10/24").as_deref(), Some("203.0.113.0/24"));
        assert_eq!(read("2001:db8::1").as_deref(), Some("2001:db8::1/128"));
        assert_eq!(read("www"), None);
    }

    #[test]
    fn a_page_has_a_size_within_bounds() {
        assert_eq!(page_size(None).ok(), Some(PAGE_DEFAULT));
        assert_eq!(page_size(Some(PAGE_MAX)).ok(), Some(PAGE_MAX));
        assert!(page_size(Some(0)).is_err());
        assert!(page_size(Some(PAGE_MAX + 1)).is_err());
    }
}
