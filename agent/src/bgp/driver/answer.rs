//! Answers of the [`Driver`].

use std::sync::Arc;

use ipnet::IpNet;
use isocast_bgp::speaker::{ImportChange, Page, PathView, PeerId, PrefixView, Verdict};

use super::Driver;
use crate::bgp::query::{
    ImportQuery, PAGE_PREFIXES, Passage, PeerReport, PrefixReport, Question, RouteReport,
    RoutesPage, RoutesQuery,
};

impl Driver {
    /// Answers a question. Whoever asked may be gone.
    pub(super) fn answer(&self, question: Question) {
        match question {
            Question::Peers(answer) => drop(answer.send(self.peer_reports())),
            Question::Prefix(prefix, answer) => drop(answer.send(self.prefix_report(&prefix))),
            Question::PreviewImport(query, answer) => {
                drop(answer.send(self.preview_import(&query)));
            }
            Question::Routes(query, answer) => drop(answer.send(self.routes_page(&query))),
        }
    }

    fn peer_reports(&self) -> Vec<PeerReport> {
        let report = |(id, peer): (PeerId, &super::peers::Peer)| {
            let view = self.speaker.peer(id)?;
            Some(PeerReport {
                status: peer.status.clone(),
                import_policy: peer.config.import.policy.name().to_owned(),
                address: view.address,
                uid: Arc::clone(&peer.config.uid),
                asn: view.session.negotiated().map(|agreed| agreed.peer_asn.0),
                router_id: view.session.negotiated().map(|agreed| agreed.peer_router_id),
                hold_time: view.session.negotiated().map(|agreed| agreed.hold_time),
                counters: view.counters,
                counts: view.counts,
            })
        };
        self.peers.iter().filter_map(report).collect()
    }

    fn prefix_report(&self, prefix: &IpNet) -> PrefixReport {
        let found = self.speaker.route(prefix);
        let best_by = found.as_ref().and_then(|view| view.reason);
        let paths = found.into_iter().flat_map(|view| view.paths);
        let passage = |(id, peer): (PeerId, &super::peers::Peer)| Passage {
            peer: peer.config.name.clone(),
            state: peer.status.state,
            sent: self.speaker.sent_prefix(id, prefix),
            policy: peer.config.export.policy.name().to_owned(),
            judgement: self.speaker.judge_export(id, *prefix),
        };
        PrefixReport {
            paths: paths.filter_map(|path| self.judged_report(*prefix, path)).collect(),
            best_by,
            permitted: self.speaker.is_permitted(*prefix),
            passages: self.peers.iter().map(passage).collect(),
        }
    }

    fn preview_import(&self, query: &ImportQuery) -> Option<Page<(IpNet, ImportChange)>> {
        let (id, _) = self.peers.iter().find(|(_, peer)| peer.config.name == query.peer)?;
        self.speaker.preview_import(id, &query.policy, query.family, query.from)
    }

    fn routes_page(&self, query: &RoutesQuery) -> RoutesPage {
        let Page { entries, next } = match &query.prefix {
            Some(prefix) => {
                let found = self.speaker.route(prefix);
                Page { entries: found.into_iter().collect(), next: None }
            }
            None => self.speaker.routes(query.family, query.from, PAGE_PREFIXES),
        };
        let routes = entries.into_iter().flat_map(|entry| self.route_reports(entry)).collect();
        RoutesPage { routes, next }
    }

    fn route_reports(&self, entry: PrefixView<PeerId>) -> impl Iterator<Item = RouteReport> {
        let PrefixView { prefix, paths, .. } = entry;
        let paths = paths.into_iter().filter(|path| path.verdict == Verdict::Accepted);
        paths.filter_map(move |path| self.route_report(prefix, path))
    }

    fn route_report(&self, prefix: IpNet, path: PathView<PeerId>) -> Option<RouteReport> {
        let peer = match path.peer {
            None => None,
            Some(id) => Some(Arc::from(self.peers.get(id)?.config.name.as_str())),
        };
        let PathView { best, multipath, stale, verdict, next_hop, attributes, .. } = path;
        let path = PathView { peer, best, multipath, stale, verdict, next_hop, attributes };
        Some(RouteReport { prefix, path, term: None })
    }

    fn judged_report(&self, prefix: IpNet, path: PathView<PeerId>) -> Option<RouteReport> {
        let judgement = path.peer.and_then(|id| self.speaker.judge_import(id, prefix));
        let term = judgement.map(|judgement| judgement.term);
        self.route_report(prefix, path).map(|report| RouteReport { term, ..report })
    }
}
