//! [`Limiter`]: how many records somebody can cause that change nothing.
//!
//! Each actor has a bucket of tokens, and all together have one; what finds it empty is counted and
//! said with the next record that passes. Sans-IO: takes `now`.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::limits;

/// Buckets of tokens, by actor.
#[derive(Debug)]
pub(crate) struct Limiter {
    all: Bucket,
    actors: HashMap<String, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a record.
    tokens: i64,
    burst: i64,
    per_second: i64,
    filled: Timestamp,
    suppressed: u16,
}

/// Whether a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It is not, but counted.
    Suppress,
    /// It is, and so many before it were not.
    Write(u16),
}

const TOKEN: i64 = 1000;

impl Limiter {
    pub(crate) fn new(now: Timestamp) -> Self {
        let all = Bucket::new(limits::AUDIT_BURST, limits::AUDIT_PER_SECOND, now);
        Self { all, actors: HashMap::new() }
    }

    /// Whether a record of `actor` is written at `now`.
    pub(crate) fn ask(&mut self, actor: &str, now: Timestamp) -> Pass {
        let Some((all, own)) = self.buckets(actor, now) else { return Pass::Suppress };
        if own.take(now) && all.take(now) {
            Pass::Write(std::mem::take(&mut own.suppressed))
        } else {
            own.suppressed = own.suppressed.saturating_add(1);
            Pass::Suppress
        }
    }

    /// Counts a record of `actor` that cannot be written.
    pub(crate) fn suppress(&mut self, actor: &str, now: Timestamp) {
        if let Some((_, own)) = self.buckets(actor, now) {
            own.suppressed = own.suppressed.saturating_add(1);
        }
    }

    /// Everybody's bucket, and that of `actor`.
    fn buckets(&mut self, actor: &str, now: Timestamp) -> Option<(&mut Bucket, &mut Bucket)> {
        if !self.actors.contains_key(actor) {
            if self.actors.len() >= limits::AUDIT_ACTORS {
                // Whose bucket is full again has nothing to be remembered for.
                self.actors.retain(|_, bucket| !bucket.is_full(now));
            }
            // Too many at once share one bucket.
            let name = if self.actors.len() >= limits::AUDIT_ACTORS { "" } else { actor };
            let (burst, rate) = (limits::AUDIT_BURST_OF_ACTOR, limits::AUDIT_PER_SECOND_OF_ACTOR);
            self.actors.entry(name.to_owned()).or_insert_with(|| Bucket::new(burst, rate, now));
        }
        let known = if self.actors.contains_key(actor) { actor } else { "" };
        self.actors.get_mut(known).map(|own| (&mut self.all, own))
    }
}

impl Bucket {
    fn new(burst: i64, per_second: i64, now: Timestamp) -> Self {
        let burst = burst * TOKEN;
        Self { tokens: burst, burst, per_second, filled: now, suppressed: 0 }
    }

    fn fill(&mut self, now: Timestamp) {
        let elapsed_ms = now.duration_since(self.filled).as_millis().clamp(0, 1_000_000);
        let elapsed_ms = i64::try_from(elapsed_ms).unwrap_or_default();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + elapsed_ms * self.per_second).min(self.burst);
    }

    fn take(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        let has = self.tokens >= TOKEN;
        if has {
            self.tokens -= TOKEN;
        }
        has
    }

    fn is_full(&self, now: Timestamp) -> bool {
        let mut later = *self;
        later.fill(now);
        later.tokens == later.burst && later.suppressed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn written(limiter: &mut Limiter, actor: &str, now: Timestamp) -> i64 {
        let asks = (0..1000).filter(|_| limiter.ask(actor, now) != Pass::Suppress);
        i64::try_from(asks.count()).unwrap()
    }

    #[test]
    fn one_actor_has_a_burst_and_then_a_rate_and_what_is_left_out_is_counted() {
        let mut limiter = Limiter::new(at(0));
        assert_eq!(written(&mut limiter, "mallory", at(0)), limits::AUDIT_BURST_OF_ACTOR);
        assert_eq!(written(&mut limiter, "alice", at(0)), limits::AUDIT_BURST_OF_ACTOR);

        let left_out = u16::try_from(1000 - limits::AUDIT_BURST_OF_ACTOR).unwrap();
        assert_eq!(limiter.ask("mallory", at(1)), Pass::Write(left_out));
        assert_eq!(limiter.ask("mallory", at(1)), Pass::Write(0));
        let rest = limits::AUDIT_PER_SECOND_OF_ACTOR - 2;
        assert_eq!(written(&mut limiter, "mallory", at(1)), rest);
    }

    #[test]
    fn what_cannot_be_written_is_said_by_the_next_one_that_is() {
        let mut limiter = Limiter::new(at(0));
        limiter.suppress("alice", at(0));
        limiter.suppress("alice", at(0));

        assert_eq!(limiter.ask("alice", at(0)), Pass::Write(2));
        assert_eq!(limiter.ask("bob", at(0)), Pass::Write(0));
    }

    #[test]
    fn all_together_have_a_limit_and_actors_beyond_the_last_share() {
        let mut limiter = Limiter::new(at(0));
        let passed = (0..limits::AUDIT_ACTORS + 10)
            .filter(|number| limiter.ask(&number.to_string(), at(0)) != Pass::Suppress);

        assert_eq!(i64::try_from(passed.count()).unwrap(), limits::AUDIT_BURST);
        assert!(limiter.actors.len() <= limits::AUDIT_ACTORS + 1);
        // Long after, those who caused nothing more are forgotten.
        limiter.actors.values_mut().for_each(|bucket| bucket.suppressed = 0);
        limiter.ask("somebody new", at(1000));
        assert!(limiter.actors.len() < 10);
    }
}
