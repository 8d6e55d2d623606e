//! The route table from outside: speakers in memory, on a clock that moves when told, against a
//! naive model of what each of them must be told.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod agenda;
mod bounds;
mod exchange;
mod forwarding;
mod net;
mod network;
mod oracle;
mod procedures;
mod script;
mod view;
