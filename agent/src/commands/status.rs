//! `isocast-agent status`: asks the running agent on its socket and shows the answer.

use std::fmt::Write;

use isocast_api::agent::{NodeStatus, ServiceStatus, Verdict, local::STATUS_PATH};

use super::ask;
use crate::options::{OutputFormat, StatusOptions};

/// Shows what the running agent does.
///
/// # Errors
/// No agent answers on the socket.
pub fn status(options: &StatusOptions) -> anyhow::Result<()> {
    let answer = ask::ask(&options.admin_socket, STATUS_PATH)?;
    let text = match options.output {
        OutputFormat::Json => String::from_utf8_lossy(&answer).into_owned() + "\n",
        OutputFormat::Table => table(&serde_json::from_slice(&answer)?)?,
    };
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    {
        print!("{text}");
    }
    Ok(())
}

fn table(status: &NodeStatus) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let (revision, generation) = (status.revision, status.dataplane_generation);
    writeln!(text, "configuration revision {revision}, generation {generation} of the tables")?;
    writeln!(text, "\n{:<24} {:<14} {:>8}  LAST ERROR", "SESSION", "STATE", "PREFIXES")?;
    for peer in &status.peers {
        let (name, state, sent) = (&peer.name, &peer.state, peer.prefixes_sent);
        writeln!(text, "{name:<24} {state:<14} {sent:>8}  {}", peer.last_error)?;
    }
    writeln!(text, "\n{:<32} {:<9} HEALTHY", "SERVICE", "ANNOUNCED")?;
    for service in &status.services {
        let name = format!("{}/{}", service.namespace, service.name);
        let announced = if holds(service.announced.as_ref()) { "yes" } else { "no" };
        writeln!(text, "{name:<32} {announced:<9} {}", health(service))?;
    }
    writeln!(text, "\n{:<32} {:<24} {:<24} HEALTHY", "SERVICE", "POOL", "BACKEND")?;
    for service in &status.services {
        let name = format!("{}/{}", service.namespace, service.name);
        let pool = format!("{}/{}", service.namespace, service.pool);
        for backend in &service.backends {
            let healthy = if backend.healthy { "yes" } else { backend.reason.as_str() };
            writeln!(text, "{name:<32} {pool:<24} {:<24} {healthy}", backend.name)?;
        }
    }
    if !status.refused.is_empty() {
        writeln!(text, "\n{:<32} {:<18} MESSAGE", "REFUSED", "REASON")?;
    }
    for error in &status.refused {
        let kind = error.key.split('/').next().unwrap_or_default();
        let name = format!("{kind} {}", error.name);
        writeln!(text, "{name:<32} {:<18} {}", error.reason, error.message)?;
    }
    Ok(text)
}

fn health(service: &ServiceStatus) -> &str {
    service.healthy.as_ref().map_or("", |verdict| &verdict.message)
}

fn holds(verdict: Option<&Verdict>) -> bool {
    verdict.is_some_and(|verdict| verdict.status)
}

#[cfg(test)]
mod tests {
    use isocast_api::agent::{BackendHealth, EntryError, PeerStatus};

    use super::*;

    #[test]
    fn the_table_names_objects_as_people_do() {
        let peer = PeerStatus {
            uid: "5e0c".into(),
            name: "tor1".into(),
            state: "Idle".into(),
            ..PeerStatus::default()
        };
        let backend = BackendHealth { name: "be-1".into(), healthy: true, ..<_>::default() };
        let service = ServiceStatus {
            uid: "77aa".into(),
            namespace: "web-prod".into(),
            name: "www".into(),
            pool: "farm".into(),
            announced: Some(Verdict { status: true, ..Verdict::default() }),
            healthy: Some(Verdict { message: "2 of 2".into(), ..Verdict::default() }),
            backends: vec![backend],
            ..ServiceStatus::default()
        };
        let refused = EntryError {
            key: "service/9b".into(),
            name: "web-prod/api".into(),
            reason: "TooManyServices".into(),
            message: "at most 1".into(),
        };
        let status = NodeStatus {
            peers: vec![peer],
            services: vec![service],
            refused: vec![refused],
            ..NodeStatus::default()
        };

        let text = table(&status).unwrap();

        let has = |words: &[&str]| {
            let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            assert!(lines.any(|line| line == words), "{words:?} in\n{text}");
        };
        has(&["tor1", "Idle", "0"]);
        has(&["web-prod/www", "yes", "2", "of", "2"]);
        has(&["web-prod/www", "web-prod/farm", "be-1", "yes"]);
        has(&["service", "web-prod/api", "TooManyServices", "at", "most", "1"]);
        assert!(!text.contains("5e0c") && !text.contains("77aa"), "{text}");
    }
}
