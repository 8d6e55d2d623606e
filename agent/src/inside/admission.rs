//! Source lists and ceilings as words: whether a packet is let in.

use isocast_api::agent::local::dataplane::{CeilingsView, GuardView, SourceView};
use isocast_dataplane::{Ceilings, Guard, Level};

/// What the service asks of a packet.
pub(super) fn view(guard: &Guard) -> GuardView {
    let source = guard.source.map(|verdict| SourceView {
        allowed: verdict.allowed,
        rule: verdict.rule.map(|prefix| prefix.to_string()),
    });
    let ceilings = |it: Ceilings| CeilingsView {
        packets_per_second: it.packets_per_second,
        new_flows_per_second: it.new_flows_per_second,
    };
    let level = match guard.level {
        Level::Within => "within",
        Level::Challenged => "challenged",
        Level::Over(_) => "over",
    };
    GuardView {
        source,
        ceilings: guard.ceilings.map(ceilings),
        tenant_ceilings: guard.tenant.map(ceilings),
        may_challenge: guard.may_challenge,
        level: level.to_owned(),
    }
}

/// The same in one line.
pub(super) fn says(guard: &GuardView) -> String {
    let mut says = Vec::new();
    if let Some(SourceView { allowed, rule }) = &guard.source {
        let verdict = if *allowed { "let in" } else { "kept out" };
        says.push(match rule {
            Some(rule) => format!("source {verdict} by {rule}"),
            None => format!("source {verdict}: no prefix of the list covers it"),
        });
        if !allowed {
            return says.join("; ");
        }
    }
    let limits = [(&guard.ceilings, "ceiling"), (&guard.tenant_ceilings, "ceiling of the tenant")];
    for (ceilings, whose) in limits {
        says.extend(ceilings.as_ref().map(|ceilings| format!("{whose} {}", figures(ceilings))));
    }
    if guard.ceilings.is_some() || guard.tenant_ceilings.is_some() {
        let level = match (guard.level.as_str(), guard.may_challenge) {
            ("over", _) => "found full: dropped",
            ("challenged", _) => "found full: the client has to prove its address (SYN cookie)",
            (_, true) => "supposed not to be full; else the client proves its address (SYN cookie)",
            (_, false) => "supposed not to be full; else dropped",
        };
        says.push(level.to_owned());
    }
    says.join("; ")
}

fn figures(ceilings: &CeilingsView) -> String {
    let packets = ceilings.packets_per_second.map(|n| format!("{n} packets/s"));
    let flows = ceilings.new_flows_per_second.map(|n| format!("{n} new flows/s"));
    let figures: Vec<_> = packets.into_iter().chain(flows).collect();
    // A predecessor's: this process has not been told yet.
    if figures.is_empty() { "not known yet".to_owned() } else { figures.join(" and ") }
}

#[cfg(test)]
mod tests {
    use isocast_dataplane::{Outcome, SourceVerdict};

    use super::*;

    fn guard() -> Guard {
        let verdict = |rule: &str| SourceVerdict { allowed: true, rule: rule.parse().ok() };
        Guard {
            source: Some(verdict("198.51.100.0/24")),
            ceilings: Some(Ceilings {
                packets_per_second: Some(1000),
                new_flows_per_second: Some(10),
            }),
            tenant: Some(Ceilings::default()),
            may_challenge: true,
            level: Level::Within,
        }
    }

    #[test]
    fn what_is_supposed_is_told_from_what_was_found() {
        let limits = "source let in by 198.51.100.0/24; ceiling 1000 packets/s and 10 new flows/s; \
                      ceiling of the tenant not known yet; ";
        for (level, may_challenge, rest) in [
            (Level::Within, false, "supposed not to be full; else dropped"),
            (
                Level::Within,
                true,
                "supposed not to be full; else the client proves its address (SYN cookie)",
            ),
            (
                Level::Challenged,
                true,
                "found full: the client has to prove its address (SYN cookie)",
            ),
            (Level::Over(Outcome::OverTenantRate), true, "found full: dropped"),
        ] {
            let guard = Guard { level, may_challenge, ..guard() };
            assert_eq!(says(&view(&guard)), format!("{limits}{rest}"));
        }
    }

    #[test]
    fn source_that_is_kept_out_finds_no_ceiling() {
        let kept_out = |rule: Option<&str>| {
            let rule = rule.map(|rule| rule.parse().unwrap());
            let source = Some(SourceVerdict { allowed: false, rule });
            says(&view(&Guard { source, ..guard() }))
        };

        assert_eq!(kept_out(Some("198.51.0.0/16")), "source kept out by 198.51.0.0/16");
        assert_eq!(kept_out(None), "source kept out: no prefix of the list covers it");
    }
}
