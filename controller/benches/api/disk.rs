//! The floor under every durable write: how long the disk takes to keep one page.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

const PAGE: [u8; 4096] = [7; 4096];
const ROUNDS: usize = 300;

/// The median time of an `fdatasync` after one page was overwritten, back to back, in milliseconds.
pub(crate) fn fdatasync_ms() -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let file = File::create(folder.path().join("page")).expect("a file");
    let once = || -> Duration {
        file.write_all_at(&PAGE, 0).expect("room");
        let began = Instant::now();
        file.sync_data().expect("a disk");
        began.elapsed()
    };
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| once()).collect();
    times.sort();
    times[ROUNDS / 2].as_secs_f64() * 1e3
}
