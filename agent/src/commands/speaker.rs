//! `isocast-agent speaker`: the BGP speaker on its own.

use super::run::init_log;
use crate::{options::SpeakerOptions, speaker};

/// Runs the speaker until SIGTERM or SIGINT, or only checks its configuration.
///
/// # Errors
/// A configuration that cannot be run with, and whatever else keeps it from starting.
pub fn speaker(options: &SpeakerOptions) -> anyhow::Result<()> {
    if options.check {
        return speaker::check(&options.config);
    }
    init_log(options.log_format);
    // The sessions have a thread of their own; this one answers requests and signals.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(speaker::run(&options.config))
}
