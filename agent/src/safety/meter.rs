//! [`Meter`]: whether traffic for a service has ceased, from two readings of its counter.

use std::{collections::BTreeMap, time::Duration};

use isocast_bgp::origination::{Moment, Traffic};

use crate::model::Uid;

/// Fewer packets a second than this are a trickle: keepalives of connections that nobody uses.
const QUIET_PER_SECOND: u64 = 10;
/// Two readings closer together than this say nothing.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Remembers the readings.
#[derive(Debug, Default)]
pub struct Meter {
    read: BTreeMap<Uid, (Moment, u64)>,
    traffic: BTreeMap<Uid, Traffic>,
}

impl Meter {
    /// Takes the packet counters of all services in.
    pub fn read(&mut self, now: Moment, packets: impl IntoIterator<Item = (Uid, u64)>) {
        let before = std::mem::take(&mut self.read);
        let traffic = std::mem::take(&mut self.traffic);
        for (service, count) in packets {
            let (reading, verdict) = match before.get(&service) {
                Some((at, earlier)) if now.since(*at) >= INTERVAL_MIN && count >= *earlier => {
                    let millis = u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX);
                    let rate = (count - earlier).saturating_mul(1000) / millis.max(1);
                    let is_quiet = rate < QUIET_PER_SECOND;
                    ((now, count), if is_quiet { Traffic::Quiet } else { Traffic::Busy })
                }
                Some(reading) if count >= reading.1 => {
                    (*reading, traffic.get(&service).copied().unwrap_or(Traffic::Unknown))
                }
                // A counter that went back counts anew.
                _ => ((now, count), Traffic::Unknown),
            };
            self.read.insert(service.clone(), reading);
            self.traffic.insert(service, verdict);
        }
    }

    /// What is known of each service.
    #[must_use]
    pub const fn traffic(&self) -> &BTreeMap<Uid, Traffic> {
        &self.traffic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(meter: &mut Meter, millis: u64, packets: u64) -> Traffic {
        meter.read(Moment(millis), [(Uid::from("s"), packets)]);
        meter.traffic()["s"]
    }

    #[test]
    fn one_reading_says_nothing_and_two_say_how_much() {
        let mut meter = Meter::default();

        assert_eq!(reading(&mut meter, 0, 1000), Traffic::Unknown);
        assert_eq!(reading(&mut meter, 1000, 2000), Traffic::Busy);
        assert_eq!(reading(&mut meter, 2000, 2009), Traffic::Quiet);
    }

    #[test]
    fn readings_too_close_together_change_nothing() {
        let mut meter = Meter::default();
        reading(&mut meter, 0, 0);
        reading(&mut meter, 1000, 500);

        assert_eq!(reading(&mut meter, 1001, 500), Traffic::Busy);
        assert_eq!(reading(&mut meter, 2000, 501), Traffic::Quiet);
    }

    #[test]
    fn a_counter_that_starts_anew_says_nothing() {
        let mut meter = Meter::default();
        reading(&mut meter, 0, 1000);

        assert_eq!(reading(&mut meter, 1000, 5), Traffic::Unknown);
    }
}
