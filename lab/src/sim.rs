//! A network of BGP speakers in virtual time: many sites in one thread, and no waiting.
//!
//! Runs the sans-IO [`Speaker`]s that agents run, on wires with latency that can be cut and mended,
//! and on nodes that lose their process or their power. Time only passes from event to event, so an
//! hour costs what happens in it. Nothing is read from outside: equal calls play equally.
//!
//! Wires behave as TCP over a cable does: bytes arrive in order or not at all, one chunk is under way
//! at a time in each direction, and a cut says nothing. Whoever is at its end finds out by a hold
//! timer; what was sent meanwhile arrives when the wire is mended, if anybody still wants it.

mod event;
mod network;
mod view;

pub use self::{
    network::{Loss, NodeId, Simulator},
    view::Reach,
};
