//! Metrics of the keys: how far a rotation has come, and whom it waits for, as it is when asked for.
//!
//! What they say follows from what is ordered, from the keys on disk and from what nodes report; nothing
//! is counted here.

use std::fmt;

use isocast_api::network::KeyRotationPhase;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};

use super::rotation::Progress;

/// Adds the figures of what `look` finds to `registry`.
pub(super) fn register(
    registry: &mut Registry,
    look: impl Fn() -> Progress + Send + Sync + 'static,
) {
    let registry = registry.sub_registry_with_prefix("isocast_fleet");
    registry.register_collector(Box::new(View(look)));
}

struct View<F>(F);

/// Phases that take time.
const PHASES: [KeyRotationPhase; 3] =
    [KeyRotationPhase::Distributing, KeyRotationPhase::Switching, KeyRotationPhase::Retiring];

impl<F: Fn() -> Progress + Send + Sync + 'static> Collector for View<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Progress { epoch, phase, waiting_for, pending, formers } = (self.0)();
        for (name, help, value) in [
            ("key_epoch", "Epoch of the key that nodes send by", epoch),
            ("key_rotation_waiting_nodes", "Nodes that a rotation waits for", count(waiting_for)),
            ("key_rotations_pending", "Rotations that have yet to begin", count(pending)),
            ("former_flow_keys", "Former secrets that flows are looked for by", count(formers)),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let (name, help) = ("key_rotation_phase", "1 if a rotation is in the phase");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for it in PHASES {
            let labels = [("phase", it.as_str())];
            let is_it = u64::from(phase == Some(it));
            ConstGauge::new(is_it).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl<F> fmt::Debug for View<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View(keys)")
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(progress: Progress) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        register(&mut registry, move || progress);
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn figures_say_which_phase_it_is_and_how_many_are_waited_for() {
        let phase = Some(KeyRotationPhase::Switching);
        let text = text(Progress { epoch: 7, phase, waiting_for: 2, pending: 1, formers: 0 });

        for line in [
            "isocast_fleet_key_epoch 7",
            "isocast_fleet_key_rotation_waiting_nodes 2",
            "isocast_fleet_key_rotations_pending 1",
            "isocast_fleet_former_flow_keys 0",
            "isocast_fleet_key_rotation_phase{phase=\"Distributing\"} 0",
            "isocast_fleet_key_rotation_phase{phase=\"Switching\"} 1",
            "isocast_fleet_key_rotation_phase{phase=\"Retiring\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn where_no_key_moves_every_phase_is_zero() {
        let rest = Progress { epoch: 0, phase: None, waiting_for: 0, pending: 0, formers: 1 };
        let text = text(rest);
        let phases = text.lines().filter(|it| it.contains("key_rotation_phase{"));
        assert!(phases.clone().count() == 3 && phases.clone().all(|it| it.ends_with(" 0")));
    }
}
