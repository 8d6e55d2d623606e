//! [`Space`]: which addresses of a pool are taken.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::IpAddr};

use isocast_api::{
    network::{AddressClaimSpec, Family, ReleasedAddress},
    text::{Prefix, Time},
};
use jiff::Timestamp;
use serde::Deserialize;

use super::super::lookup;
use crate::store::View;

/// The taken addresses of one pool.
#[derive(Debug)]
pub(super) struct Space {
    taken: BTreeMap<IpAddr, Taken>,
}

/// Why an address is not free.
#[derive(Debug)]
pub(super) enum Taken {
    /// A claim holds it.
    Held(Holder),
    /// It was released a short while ago.
    Resting(Time),
}

/// The claim that holds an address.
#[derive(Debug)]
pub(super) struct Holder {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

/// What matters of a claim.
#[derive(Deserialize)]
struct Claim<'a> {
    #[serde(borrow)]
    spec: ClaimSpec<'a>,
    status: ClaimStatus,
}

#[derive(Deserialize)]
struct ClaimSpec<'a> {
    #[serde(borrow)]
    pool: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ClaimStatus {
    address: Option<IpAddr>,
}

impl Space {
    /// What claims hold of `pool`.
    pub(super) fn of(view: &View, pool: &str) -> Self {
        let claims = lookup::all::<AddressClaimSpec>();
        let taken = view.range(&claims).filter_map(|claim| {
            // Two fields of each claim, and not all of it: this is every writer's time.
            let text = claim.document.text();
            let Claim { spec, status } = text.read().ok()?;
            let address = status.address.filter(|_| spec.pool == pool)?;
            let namespace = claim.key.container().unwrap_or_default().to_owned();
            Some((address, Taken::Held(Holder { namespace, name: claim.key.name().to_owned() })))
        });
        Self { taken: taken.collect() }
    }

    /// The same, and what rests beyond `now`.
    pub(super) fn resting(mut self, released: &[ReleasedAddress], now: Timestamp) -> Self {
        for released in released.iter().filter(|released| released.reusable_at.timestamp() > now) {
            self.taken.entry(released.address).or_insert(Taken::Resting(released.reusable_at));
        }
        self
    }

    /// Why `address` is not free, if it is not.
    pub(super) fn taken(&self, address: IpAddr) -> Option<&Taken> {
        self.taken.get(&address)
    }

    /// The addresses that claims hold.
    pub(super) fn held(&self) -> impl Iterator<Item = (IpAddr, &Holder)> {
        self.taken.iter().filter_map(|(address, taken)| match taken {
            Taken::Held(holder) => Some((*address, holder)),
            Taken::Resting(_) => None,
        })
    }

    /// The lowest free address of `family`, in the first of `prefixes` that has one.
    pub(super) fn lowest_free(&self, prefixes: &[Prefix], family: Family) -> Option<IpAddr> {
        prefixes
            .iter()
            .map(|prefix| prefix.get())
            .filter(|prefix| Family::of(prefix.addr()) == family)
            .find_map(|prefix| {
                let (first, last) = (prefix.network(), prefix.broadcast());
                let mut candidate = first;
                for address in self.taken.range(first..=last).map(|(address, _)| *address) {
                    if address != candidate {
                        break;
                    }
                    candidate = next(address).filter(|next| *next <= last)?;
                }
                Some(candidate)
            })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "addressclaim {:?} in namespace {:?}", self.name, self.namespace)
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            u32::from(address).checked_add(1).map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(address) => {
            u128::from(address).checked_add(1).map(|bits| IpAddr::V6(bits.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space(taken: impl IntoIterator<Item = IpAddr>) -> Space {
        let resting = || Taken::Resting(Timestamp::MAX.into());
        Space { taken: taken.into_iter().map(|address| (address, resting())).collect() }
    }

    proptest! {
        #[test]
        fn the_lowest_free_address_is_the_first_that_is_not_taken(
            taken in proptest::collection::btree_set(0_u8..=255, 0..=256),
        ) {
            let address = |last: u8| IpAddr::from([203, 0, 113, last]);
            let prefix: Prefix = "203.0.113.0/24".parse().unwrap();

            let found = space(taken.iter().map(|last| address(*last)))
                .lowest_free(&[prefix], Family::IPv4);

            let expected = (0..=255).find(|last| !taken.contains(last)).map(address);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_full_prefix_leads_to_the_next_of_the_same_family() {
        let prefixes =
            ["203.0.113.7/32", "2001:db8::/64", "198.51.100.4/31"].map(|it| it.parse().unwrap());
        let taken = space(["203.0.113.7", "198.51.100.4"].map(|it| it.parse().unwrap()));

        assert_eq!(
            taken.lowest_free(&prefixes, Family::IPv4),
            Some("198.51.100.5".parse().unwrap())
        );
        assert_eq!(taken.lowest_free(&prefixes, Family::IPv6), Some("2001:db8::".parse().unwrap()));
    }

    #[test]
    fn the_end_of_the_address_space_is_an_end() {
        let last: Prefix = "223.255.255.255/32".parse().unwrap();
        let taken = space(["223.255.255.255".parse().unwrap()]);

        assert_eq!(taken.lowest_free(&[last], Family::IPv4), None);
    }
}
