//! [`Ramp`]: a backend that joins others gets its share of new flows in steps.
//!
//! Caches are cold and pools of connections empty where a process has just begun. Each step is
//! another ring, whose flows keep their hosts as after any change, so there are few steps.
//!
//! **Invariant:** nobody waits where nobody else serves: only who joins others begins small.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Member, UnixMs};
use crate::model::Uid;

/// Steps to the whole share.
const STEPS: u8 = Member::WHOLE;

/// When the backends joined whose share still grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ramp {
    joined: BTreeMap<Uid, UnixMs>,
}

impl Ramp {
    /// Gives `members` their shares of this moment, `before` being in the ring now, and says when
    /// that changes. It takes `span` from joining to the whole share; none, if it is zero.
    pub(super) fn weigh(
        &mut self,
        members: &mut [Member],
        before: &[Member],
        span: Duration,
        now: UnixMs,
    ) -> Option<UnixMs> {
        let step = u64::try_from(span.as_millis()).unwrap_or(u64::MAX) / u64::from(STEPS);
        if step == 0 {
            self.joined.clear();
            return None;
        }
        let serving: BTreeSet<&Uid> = before.iter().map(|member| &member.uid).collect();
        let wanted: BTreeSet<&Uid> = members.iter().map(|member| &member.uid).collect();
        self.joined.retain(|uid, _| wanted.contains(uid));
        if !serving.is_disjoint(&wanted) {
            for uid in wanted.difference(&serving) {
                self.joined.entry((*uid).clone()).or_insert(now);
            }
        }
        let mut wake_at: Option<UnixMs> = None;
        for member in members {
            let Some(since) = self.joined.get(&member.uid) else { continue };
            let steps = now.0.saturating_sub(since.0) / step;
            let share = u8::try_from(steps).unwrap_or(u8::MAX).saturating_add(1);
            if share >= STEPS {
                self.joined.remove(&member.uid);
                continue;
            }
            member.share = share;
            let next = since.after(Duration::from_millis(step.saturating_mul(share.into())));
            wake_at = Some(wake_at.map_or(next, |at| at.min(next)));
        }
        wake_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use isocast_dataplane::Encap;

    const SPAN: Duration = Duration::from_secs(50);

    fn members(uids: &[&str]) -> Vec<Member> {
        let member = |uid: &&str| Member {
            uid: Uid::from(*uid),
            tunnel_address: [192, 0, 2, 1].into(),
            weight: 100,
            share: Member::WHOLE,
            encap: Encap::Gue,
        };
        uids.iter().map(member).collect()
    }

    /// Shares of what is wanted, and the seconds after which they change.
    fn weigh(ramp: &mut Ramp, wanted: &[&str], before: &[&str], s: u64) -> (Vec<u8>, Option<u64>) {
        let mut wanted = members(wanted);
        let wake = ramp.weigh(&mut wanted, &members(before), SPAN, UnixMs(s * 1000));
        let shares = wanted.iter().map(|member| member.share).collect();
        (shares, wake.map(|at| at.0 / 1000))
    }

    #[test]
    fn who_joins_others_gets_the_whole_share_step_by_step() {
        let mut ramp = Ramp::default();
        let at = |ramp: &mut Ramp, s| weigh(ramp, &["a", "b"], &["a"], s);

        assert_eq!(at(&mut ramp, 100), (vec![5, 1], Some(110)));
        assert_eq!(at(&mut ramp, 109), (vec![5, 1], Some(110)));
        assert_eq!(at(&mut ramp, 110), (vec![5, 2], Some(120)));
        assert_eq!(at(&mut ramp, 139), (vec![5, 4], Some(140)));
        let joined = weigh(&mut ramp, &["a", "b"], &["a", "b"], 140);
        assert_eq!(joined, (vec![5, 5], None));
        assert_eq!(ramp, Ramp::default(), "nothing is remembered");
    }

    #[test]
    fn where_nobody_else_serves_shares_are_whole_at_once() {
        let mut ramp = Ramp::default();

        assert_eq!(weigh(&mut ramp, &["a", "b"], &[], 1), (vec![5, 5], None));
        assert_eq!(weigh(&mut ramp, &["c", "d"], &["a", "b"], 2), (vec![5, 5], None));
    }

    #[test]
    fn who_leaves_and_returns_begins_anew() {
        let mut ramp = Ramp::default();
        weigh(&mut ramp, &["a", "b"], &["a"], 100);
        weigh(&mut ramp, &["a"], &["a", "b"], 110);

        assert_eq!(weigh(&mut ramp, &["a", "b"], &["a"], 120), (vec![5, 1], Some(130)));
    }

    #[test]
    fn without_a_span_nobody_waits() {
        let mut ramp = Ramp::default();
        let mut wanted = members(&["a", "b"]);

        assert_eq!(ramp.weigh(&mut wanted, &members(&["a"]), Duration::ZERO, UnixMs(1)), None);

        assert!(wanted.iter().all(|member| member.share == Member::WHOLE));
    }
}
