//! Every bound of the control plane, by name.

/// Writes that wait for the sequencer; further writers wait in their own tasks.
pub(crate) const WRITE_QUEUE: usize = 1024;
/// Writes that become durable together.
pub(crate) const WRITE_BATCH: usize = 1024;
/// Commits that watchers can resume from without listing again.
pub(crate) const WATCH_TAIL_COMMITS: usize = 8192;
/// Commits a watcher reads at once.
pub(crate) const WATCH_BATCH_COMMITS: usize = 256;
/// Revisions the log keeps on disk.
pub(crate) const LOG_REVISIONS: u64 = 1_000_000;
/// Revisions forgotten at once, so that no writer waits long behind it.
pub(crate) const LOG_TRUNCATE_SLICE: u64 = 256;
