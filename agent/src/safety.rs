//! Origination safety as the agent practises it.
//!
//! The decisions are pure and live elsewhere: what is announced in
//! [`isocast_bgp::origination`], under which gates in [`crate::steer`]. Here is what stands around
//! them: [`shield()`] against configurations that lost something, [`lost_exports()`] against policies
//! that would, [`Vigil`] over the gate-keepers,
//! [`Meter`] for traffic that should have ceased, and [`Metrics`].

mod exports;
mod meter;
mod metrics;
mod shield;
mod vigil;

pub use self::{
    exports::lost_exports,
    meter::Meter,
    metrics::Metrics,
    shield::{Shielded, shield},
    vigil::Vigil,
};
