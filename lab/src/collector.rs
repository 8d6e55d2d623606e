//! A passive BGP speaker on the management network that counts what the borders withdraw.

use ipnet::IpNet;
use thiserror::Error;

use crate::lab::Lab;

/// The collector.
#[derive(Debug)]
pub struct Collector {}

/// A collector that cannot be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CollectorError {}

impl Collector {
    /// Starts it.
    ///
    /// # Errors
    /// none
    pub fn start(
        _lab: &Lab,
        _prefixes: impl Iterator<Item = IpNet>,
    ) -> Result<Self, CollectorError> {
        Ok(Self {})
    }

    /// Begins a window.
    pub fn begin_window(&mut self) {}

    /// Count.
    pub fn withdrawals(&self) -> Option<u64> {
        None
    }
}
