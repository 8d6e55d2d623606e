//! Metrics of backends.

use std::fmt;

use isocast_dataplane::Counters;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use super::{Names, Part};

/// What was sent to each backend.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    names: &Names<'_>,
    counters: &Counters,
) -> fmt::Result {
    let metrics: [(&str, &str, Part); 2] = [
        ("backend_packets", "Packets sent to a backend", |counter| counter.packets),
        (
            "backend_bytes",
            "Bytes of IP packets sent to a backend, before encapsulation",
            |counter| counter.bytes,
        ),
    ];
    for (name, help, value) in metrics {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (backend, counter) in &counters.backends {
            let uid = backend.0.as_ref();
            let (namespace, pool, name) = names.backends.get(uid).copied().unwrap_or_default();
            let labels =
                [("namespace", namespace), ("pool", pool), ("backend", name), ("backend_uid", uid)];
            ConstCounter::new(value(counter)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
