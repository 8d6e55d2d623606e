//! Following an object on the server until it is as wanted.
//!
//! What is waited for goes on by itself: who gives up has stopped nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use isocast_api::text;
use serde_json::Value;

use crate::client::Client;

/// What a look at the object shows.
#[derive(Debug)]
pub(crate) enum Look {
    Done,
    /// It goes on, for this reason.
    NotYet(String),
}

/// Between two looks: what is followed changes a few times in a minute.
const INTERVAL: Duration = Duration::from_millis(500);

/// The object at `path` once `look` finds that it is done. `undone` says what is the case if that
/// takes longer than `timeout`.
pub(crate) fn until_done(
    client: &Client,
    path: &str,
    timeout: text::Duration,
    undone: &str,
    mut look: impl FnMut(&Value) -> anyhow::Result<Look>,
) -> anyhow::Result<Value> {
    let deadline = Instant::now() + timeout.get();
    loop {
        let value = client.get(path)?;
        match look(&value)? {
            Look::Done => return Ok(value),
            Look::NotYet(why) if Instant::now() >= deadline => {
                bail!("{undone} after {timeout} and goes on: {why}");
            }
            Look::NotYet(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server is asked again at this pace, until it is done or the time is over"
)]
fn pause() {
    thread::sleep(INTERVAL);
}
