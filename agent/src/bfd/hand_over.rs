//! Who answers a session's peer: this process, or the XDP program.
//!
//! | from | when | to |
//! |---|---|---|
//! | agent | the session is at peace | offered |
//! | offered | the program answered a packet | program |
//! | offered | it answered none for a while | refused |
//! | program | a packet that it should have answered came up | offered |
//! | program | each of its answers is answered | refused |
//! | any but refused | the session is not at peace | agent |
//!
//! While a session is offered both may answer; the peer does not mind. Refused is for good: the
//! program does not run there, or the peer has one of the kind itself, and two that only answer
//! would fall silent together.
//!
//! Pure: says which entry the kernel is to have, and reads no clock.

use std::time::{Duration, Instant};

use isocast_dataplane::bfd::{Heard, Reflection};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct HandOver {
    hand: Hand,
    echoes: Echoes,
}

#[derive(Debug, Default)]
enum Hand {
    #[default]
    Agent,
    Offered {
        entry: Reflection,
        /// When it is refused.
        until: Instant,
        /// What the program had answered before.
        answered: u64,
    },
    Program {
        entry: Reflection,
    },
    Refused,
}

/// Answers of ours that came back as packets.
#[derive(Debug, Default)]
struct Echoes {
    in_a_row: u32,
    answered: u64,
}

/// What the kernel's map is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing.
    Keep,
    /// To hold this entry.
    Put(Reflection),
    /// To hold none for the session.
    Remove,
}

impl HandOver {
    /// A session that a predecessor handed over.
    pub(super) fn adopted(entry: Reflection) -> Self {
        Self { hand: Hand::Program { entry }, echoes: Echoes::default() }
    }

    /// The exchange that repeats itself now, if there is one; `heard` is what the program saw.
    pub(super) fn wish(
        &mut self,
        now: Instant,
        wanted: Option<Reflection>,
        heard: Option<Heard>,
    ) -> Order {
        match (self.entry(), wanted) {
            (None, None) => Order::Keep,
            (Some(entry), Some(wanted)) if *entry == wanted => Order::Keep,
            (_, Some(_)) if self.is_refused() => Order::Keep,
            (_, Some(wanted)) => {
                self.offer(now, wanted, heard);
                Order::Put(wanted)
            }
            (Some(_), None) => {
                self.hand = Hand::Agent;
                Order::Remove
            }
        }
    }

    /// What the program saw, looked at `now`.
    pub(super) fn look(&mut self, now: Instant, heard: Option<Heard>) -> Order {
        let Hand::Offered { entry, until, answered } = &self.hand else { return Order::Keep };
        if count(heard) > *answered {
            self.hand = Hand::Program { entry: *entry };
        } else if *until <= now {
            return self.refuse();
        }
        Order::Keep
    }

    /// The packet that the program should have answered came up, `since_answer` after its last
    /// answer.
    pub(super) fn passed_up(
        &mut self,
        now: Instant,
        since_answer: Option<Duration>,
        heard: Option<Heard>,
    ) -> Order {
        let Hand::Program { entry } = self.hand else { return Order::Keep };
        if since_answer.is_none_or(|since| since >= entry.gap) {
            self.offer(now, entry, heard);
            return Order::Keep;
        }
        let answered = count(heard);
        let is_next = answered == self.echoes.answered.wrapping_add(1);
        let in_a_row = if is_next { self.echoes.in_a_row.saturating_add(1) } else { 1 };
        self.echoes = Echoes { in_a_row, answered };
        if in_a_row < ECHOES_MAX { Order::Keep } else { self.refuse() }
    }

    /// The program answers the peer.
    pub(super) const fn is_programs(&self) -> bool {
        matches!(self.hand, Hand::Program { .. })
    }

    /// The program is not to be offered the session again.
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self.hand, Hand::Refused)
    }

    /// The entry that the kernel has.
    pub(super) const fn entry(&self) -> Option<&Reflection> {
        match &self.hand {
            Hand::Offered { entry, .. } | Hand::Program { entry } => Some(entry),
            Hand::Agent | Hand::Refused => None,
        }
    }

    fn offer(&mut self, now: Instant, entry: Reflection, heard: Option<Heard>) {
        let wait = entry.gap.saturating_mul(OFFER_GAPS).max(OFFER_WAIT_MIN);
        let until = now.checked_add(wait).unwrap_or(now);
        self.hand = Hand::Offered { entry, until, answered: count(heard) };
    }

    fn refuse(&mut self) -> Order {
        self.hand = Hand::Refused;
        Order::Remove
    }
}

fn count(heard: Option<Heard>) -> u64 {
    heard.map_or(0, |heard| heard.answered)
}

/// Packets that follow each answer at once, before the peer is taken for a program. A peer's own
/// timer may bunch two packets, not so many after as many answers.
const ECHOES_MAX: u32 = 4;
/// A session whose packets the program does not take is refused after so many of them,
const OFFER_GAPS: u32 = 20;
/// and not before.
const OFFER_WAIT_MIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const GAP: Duration = Duration::from_millis(25);

    fn entry(source_port: u16) -> Reflection {
        let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        Reflection {
            peer: address(1),
            local: address(2),
            interface: 3,
            source_port,
            expected: [1; 24],
            answer: [2; 24],
            gap: GAP,
        }
    }

    fn heard(answered: u64) -> Option<Heard> {
        Some(Heard { at: Duration::ZERO, answered })
    }

    /// In the program's hands after seven answers.
    fn handed_over(now: Instant) -> HandOver {
        let mut hand_over = HandOver::default();
        assert_eq!(hand_over.wish(now, Some(entry(1)), heard(6)), Order::Put(entry(1)));
        assert_eq!(hand_over.look(now, heard(7)), Order::Keep);
        assert!(hand_over.is_programs());
        hand_over
    }

    #[test]
    fn the_program_has_a_session_once_it_answered() {
        let now = Instant::now();
        let mut hand_over = HandOver::default();

        hand_over.wish(now, Some(entry(1)), heard(6));
        hand_over.look(now, heard(6));

        assert!(!hand_over.is_programs(), "an old answer proves nothing");
        hand_over.look(now, heard(7));
        assert!(hand_over.is_programs());
        assert_eq!(hand_over.wish(now, Some(entry(1)), heard(9)), Order::Keep);
    }

    #[test]
    fn a_session_that_is_not_at_peace_comes_back_and_may_go_again() {
        let now = Instant::now();
        let mut hand_over = handed_over(now);

        assert_eq!(hand_over.wish(now, None, heard(8)), Order::Remove);
        assert!(hand_over.entry().is_none());
        assert_eq!(hand_over.wish(now, None, heard(8)), Order::Keep);
        assert_eq!(hand_over.wish(now, Some(entry(2)), None), Order::Put(entry(2)));
    }

    #[test]
    fn a_program_that_answers_nothing_is_refused_for_good() {
        let now = Instant::now();
        let mut hand_over = HandOver::default();
        hand_over.wish(now, Some(entry(1)), None);

        let early = hand_over.look(now + OFFER_WAIT_MIN / 2, None);
        let late = hand_over.look(now + OFFER_WAIT_MIN, None);

        assert_eq!((early, late), (Order::Keep, Order::Remove));
        assert_eq!(hand_over.wish(now, Some(entry(1)), None), Order::Keep);
        assert!(hand_over.is_refused());
    }

    #[test]
    fn a_packet_that_came_up_in_time_takes_the_session_back() {
        let now = Instant::now();
        let mut hand_over = handed_over(now);

        assert_eq!(hand_over.passed_up(now, Some(GAP), heard(7)), Order::Keep);

        assert!(!hand_over.is_programs());
        assert_eq!(hand_over.entry(), Some(&entry(1)), "it may still come round");
    }

    #[test]
    fn a_peer_that_only_answers_is_kept_by_the_agent() {
        let now = Instant::now();
        let mut hand_over = handed_over(now);
        let early = Some(GAP / 10);

        for answered in 8..11 {
            assert_eq!(hand_over.passed_up(now, early, heard(answered)), Order::Keep);
            assert!(hand_over.is_programs());
        }
        assert_eq!(hand_over.passed_up(now, early, heard(11)), Order::Remove);
        assert!(hand_over.is_refused());
    }

    #[test]
    fn packets_that_are_bunched_now_and_then_are_no_echoes() {
        let now = Instant::now();
        let mut hand_over = handed_over(now);

        for answered in (8..100).step_by(2) {
            hand_over.passed_up(now, Some(GAP / 10), heard(answered));
        }

        assert!(hand_over.is_programs());
    }
}
