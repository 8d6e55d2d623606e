//! [`Announcements`]: what the speaker originates, from its file and from its API.
//!
//! A prefix has one owner. The file's announcements change with the file alone, the API's with
//! requests alone; a reload never touches what was asked for through the API, and a request never
//! undoes what the file says. Whoever asks, withdrawals stay within the budget of
//! [`OwnAnnouncements`]. What a reload may not take away stays announced and becomes the API's, to
//! be withdrawn by a request that confirms it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use isocast_bgp::limits::ADVERTISEMENTS_MAX;
use isocast_bgp::origination::{self, Author, Budget, Moment, OwnAnnouncements};
use isocast_bgp::wire::community::Communities;
use thiserror::Error;

use super::file::{Announce, NextHop};
use crate::bgp::Advertisement;

/// Who asked for an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Api,
    File,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Announcements {
    own: OwnAnnouncements<Announcement>,
}

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) owner: Owner,
    /// None: each session's own.
    pub(super) next_hop: Option<IpAddr>,
    pub(super) communities: Communities,
}

/// What a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    None,
    Replaced,
}

/// Why a request is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Refusal {
    #[error("{0} is announced by the configuration file, and by it alone")]
    FileOwned(IpNet),
    #[error("the next hop {next_hop} cannot serve {prefix}: IPv6 prefixes need an IPv6 next hop")]
    NextHop { prefix: IpNet, next_hop: IpAddr },
    #[error("{0} is not announced")]
    NotAnnounced(IpNet),
    #[error("{ADVERTISEMENTS_MAX} prefixes are announced already, which is the most there may be")]
    TooMany,
    #[error(transparent)]
    Unsafe(#[from] origination::Refusal),
}

// === impl Announcements ===

impl Announcements {
    /// What a file says when the speaker starts.
    pub(super) fn new(all: impl IntoIterator<Item = (IpNet, Announcement)>) -> Self {
        let mut own = OwnAnnouncements::new(Budget::WITHDRAWALS);
        for (prefix, announcement) in all {
            own.announce(prefix, announcement);
        }
        Self { own }
    }

    /// Takes what the file says now. A prefix that the API announced becomes the file's.
    ///
    /// # Errors
    /// More would go than may: then it stays, as the API's, and the rest is done.
    pub(super) fn set_file(
        &mut self,
        now: Moment,
        all: BTreeMap<IpNet, Announcement>,
    ) -> Result<(), origination::Refusal> {
        let missing = |(prefix, known): &(&IpNet, &Announcement)| {
            known.owner == Owner::File && !all.contains_key(*prefix)
        };
        let going: Vec<IpNet> =
            self.own.announced().iter().filter(missing).map(|(prefix, _)| *prefix).collect();
        // A file that lost all of its announcements is more likely a slip than an order.
        let author = if all.is_empty() { Author::Automation } else { Author::Operator };
        let outcome = self.own.withdraw(now, going.iter().copied(), author, None, |_| false);
        if outcome.is_err() {
            for prefix in going {
                if let Some(mut held) = self.own.announced().get(&prefix).cloned() {
                    held.owner = Owner::Api;
                    self.own.announce(prefix, held);
                }
            }
        }
        for (prefix, announcement) in all {
            self.own.announce(prefix, announcement);
        }
        outcome.map(drop)
    }

    /// Announces a prefix for the API.
    ///
    /// # Errors
    /// The prefix is the file's and announced otherwise, or there is no room.
    pub(super) fn announce(
        &mut self,
        prefix: IpNet,
        wanted: Announcement,
    ) -> Result<Change, Refusal> {
        let change = match self.own.announced().get(&prefix) {
            None if self.own.announced().len() >= ADVERTISEMENTS_MAX => {
                return Err(Refusal::TooMany);
            }
            None => Change::Created,
            Some(known) if known.same_route(&wanted) => return Ok(Change::None),
            Some(known) if known.owner == Owner::File => return Err(Refusal::FileOwned(prefix)),
            Some(_) => Change::Replaced,
        };
        self.own.announce(prefix, wanted);
        Ok(change)
    }

    /// Withdraws a prefix of the API. `confirmed`: how many withdrawals the caller says this is,
    /// which lifts the budget.
    ///
    /// # Errors
    /// The prefix is the file's or nobody's, or too many went lately.
    pub(super) fn withdraw(
        &mut self,
        now: Moment,
        prefix: IpNet,
        confirmed: Option<usize>,
    ) -> Result<Announcement, Refusal> {
        let known = match self.own.announced().get(&prefix) {
            None => return Err(Refusal::NotAnnounced(prefix)),
            Some(known) if known.owner == Owner::File => return Err(Refusal::FileOwned(prefix)),
            Some(known) => known.clone(),
        };
        self.own.withdraw(now, [prefix], Author::Operator, confirmed, |_| false)?;
        Ok(known)
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&IpNet, &Announcement)> {
        self.own.announced().iter()
    }

    /// All of them, as the speaker takes them.
    pub(super) fn advertisements(&self) -> Vec<Advertisement> {
        let advertisement = |(prefix, announcement): (&IpNet, &Announcement)| Advertisement {
            prefix: *prefix,
            next_hop: announcement.next_hop,
            communities: announcement.communities.clone(),
        };
        self.iter().map(advertisement).collect()
    }
}

// === impl Announcement ===

impl Announcement {
    /// Reads what was written.
    ///
    /// # Errors
    /// A next hop that cannot serve the prefix.
    pub(super) fn new(owner: Owner, written: Announce) -> Result<(IpNet, Self), Refusal> {
        let Announce { prefix, next_hop, communities } = written;
        let next_hop = match next_hop {
            NextHop::Own => None,
            // RFC 8950 has IPv6 next hops for IPv4 prefixes; nothing has the reverse.
            NextHop::Address(next_hop) if next_hop.is_ipv4() && matches!(prefix, IpNet::V6(_)) => {
                return Err(Refusal::NextHop { prefix, next_hop });
            }
            NextHop::Address(next_hop) => Some(next_hop),
        };
        Ok((prefix, Self { owner, next_hop, communities }))
    }

    fn same_route(&self, other: &Self) -> bool {
        self.next_hop == other.next_hop && self.communities == other.communities
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const NOW: Moment = Moment(0);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn host(n: usize) -> IpNet {
        IpNet::from(IpAddr::V4(Ipv4Addr::from(u32::try_from(n).unwrap())))
    }

    fn announcement(owner: Owner, communities: &[&str]) -> Announcement {
        let communities = Communities::parse(communities.iter().copied()).unwrap();
        Announcement { owner, next_hop: None, communities }
    }

    fn of_file(count: usize) -> BTreeMap<IpNet, Announcement> {
        (0..count).map(|n| (host(n), announcement(Owner::File, &[]))).collect()
    }

    #[test]
    fn the_same_request_twice_changes_nothing_the_second_time() {
        let mut all = Announcements::new([]);
        let wanted = announcement(Owner::Api, &["65010:1"]);

        assert_eq!(all.announce(net("192.0.2.1/32"), wanted.clone()), Ok(Change::Created));
        assert_eq!(all.announce(net("192.0.2.1/32"), wanted), Ok(Change::None));
        let other = announcement(Owner::Api, &["65010:2"]);
        assert_eq!(all.announce(net("192.0.2.1/32"), other), Ok(Change::Replaced));
        assert!(all.withdraw(NOW, net("192.0.2.1/32"), None).is_ok());
        let again = all.withdraw(NOW, net("192.0.2.1/32"), None);
        assert_eq!(again, Err(Refusal::NotAnnounced(net("192.0.2.1/32"))));
    }

    #[test]
    fn what_the_file_says_is_not_undone_by_a_request_nor_the_reverse() {
        let (ours, theirs) = (host(0), net("192.0.2.2/32"));
        let mut all = Announcements::new(of_file(2));
        all.announce(theirs, announcement(Owner::Api, &[])).unwrap();

        assert_eq!(all.withdraw(NOW, ours, None), Err(Refusal::FileOwned(ours)));
        let otherwise = announcement(Owner::Api, &["65010:1"]);
        assert_eq!(all.announce(ours, otherwise), Err(Refusal::FileOwned(ours)));
        assert_eq!(all.announce(ours, announcement(Owner::Api, &[])), Ok(Change::None));

        all.set_file(NOW, of_file(1)).unwrap();
        assert!(all.iter().map(|(prefix, _)| *prefix).eq([ours, theirs]));
    }

    #[test]
    fn a_file_that_lost_its_announcements_withdraws_none_and_a_confirmed_request_does() {
        let mut all = Announcements::new(of_file(3));

        all.set_file(NOW, BTreeMap::new()).unwrap_err();

        assert_eq!(all.iter().count(), 3);
        assert!(all.withdraw(NOW, host(0), Some(1)).is_ok());
        assert_eq!(all.iter().count(), 2);
    }

    #[test]
    fn a_reload_that_would_withdraw_too_many_withdraws_none_and_announces_what_is_new() {
        let mut all = Announcements::new(of_file(20));
        let mut shorter = of_file(10);
        shorter.insert(net("192.0.2.9/32"), announcement(Owner::File, &[]));

        all.set_file(NOW, shorter).unwrap_err();

        assert_eq!(all.iter().count(), 21);
    }

    #[test]
    fn one_request_too_many_within_a_minute_is_refused_until_it_is_confirmed_or_later() {
        let mut all = Announcements::new([]);
        for n in 0..10 {
            all.announce(host(n), announcement(Owner::Api, &[])).unwrap();
        }
        for n in 0..5 {
            all.withdraw(NOW, host(n), None).unwrap();
        }

        assert!(matches!(all.withdraw(NOW, host(5), None), Err(Refusal::Unsafe(_))));
        assert!(all.withdraw(NOW, host(5), Some(1)).is_ok());
        assert!(all.withdraw(Moment(61_000), host(6), None).is_ok());
    }

    #[test]
    fn the_limit_is_allowed_and_one_more_is_not() {
        let mut all = Announcements::new(of_file(ADVERTISEMENTS_MAX));

        let one_more = all.announce(host(ADVERTISEMENTS_MAX), announcement(Owner::Api, &[]));

        assert_eq!(one_more, Err(Refusal::TooMany));
        assert_eq!(all.announce(host(0), announcement(Owner::Api, &[])), Ok(Change::None));
    }

    #[test]
    fn an_ipv6_prefix_takes_no_ipv4_next_hop() {
        let written = |prefix, hop: &str| Announce {
            prefix: net(prefix),
            next_hop: NextHop::Address(hop.parse().unwrap()),
            communities: Communities::default(),
        };

        assert!(Announcement::new(Owner::Api, written("192.0.2.0/24", "2001:db8::1")).is_ok());
        assert!(Announcement::new(Owner::Api, written("2001:db8::/32", "192.0.2.1")).is_err());
    }
}
