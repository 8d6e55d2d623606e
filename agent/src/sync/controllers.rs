//! [`Controllers`]: the controllers a node may talk to, and whose turn it is.
//!
//! Owns the list and the turn. Each attempt that fails passes the turn on, so that of `n` addresses
//! each is tried within `n` attempts; nodes begin at different ones, so that they share the work.

use std::{
    io::{Error, ErrorKind},
    net::SocketAddr,
};

use tokio::net::lookup_host;

use super::error::LinkError;

/// Where controllers are.
#[derive(Debug)]
pub(super) struct Controllers {
    /// Hosts and ports, with commas between.
    names: String,
    turn: usize,
}

impl Controllers {
    /// Controllers by `names`; `random` says with which one to begin.
    pub(super) fn new(names: String, random: usize) -> Self {
        Self { names, turn: random }
    }

    /// The names as they were given.
    pub(super) fn names(&self) -> &str {
        &self.names
    }

    /// The one at this address was of no use.
    pub(super) fn pass(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// The address whose turn it is. Names are looked up each time, and one that cannot be looked up
    /// is no loss while another can.
    pub(super) async fn address(&self) -> Result<SocketAddr, LinkError> {
        let mut found = Vec::new();
        let mut failed = None;
        for name in self.names.split(',') {
            match lookup_host(name.trim()).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => failed = Some(error),
            }
        }
        let missing = || failed.unwrap_or_else(|| Error::from(ErrorKind::NotFound));
        choose(found, self.turn)
            .ok_or_else(|| LinkError::Resolve { controller: self.names.clone(), source: missing() })
    }
}

/// In a fixed order, because servers of names like to answer in another one each time.
fn choose(mut addresses: Vec<SocketAddr>, turn: usize) -> Option<SocketAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    let place = turn.checked_rem(addresses.len())?;
    addresses.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_attempts_as_addresses_try_each_once_in_whatever_order_they_are_found() {
        let addresses: Vec<SocketAddr> =
            ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"].map(|it| it.parse().unwrap()).into();
        let mut tried: Vec<SocketAddr> = Vec::new();

        for turn in 7..10 {
            let mut answered = addresses.clone();
            answered.rotate_left(turn % 2);
            answered.push(addresses[0]);
            tried.extend(choose(answered, turn));
        }

        tried.sort_unstable();
        assert_eq!(tried, addresses);
        assert_eq!(choose(Vec::new(), 3), None);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_looked_up_is_no_loss_while_another_can() {
        let mut controllers =
            Controllers::new("no port, 192.0.2.1:1,192.0.2.2:1".into(), usize::MAX);
        let second: SocketAddr = "192.0.2.2:1".parse().unwrap();
        assert_eq!(controllers.address().await.unwrap(), second);

        controllers.pass();
        let first: SocketAddr = "192.0.2.1:1".parse().unwrap();
        assert_eq!(controllers.address().await.unwrap(), first);

        let none = Controllers::new("no port".into(), 0);
        assert!(none.address().await.unwrap_err().to_string().contains("no port"));
    }
}
