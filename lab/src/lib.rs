//! Topologies of real routers and hosts in network namespaces, faults, load, and the demo.
//!
//! Reads containerlab topology files and realises them on one Linux machine without containers.

pub mod black_hole;
pub mod collector;
pub mod command;
pub mod demo;
pub mod flood;
pub mod forge;
pub mod inspect;
pub mod lab;
pub mod load;
pub mod netns;
pub mod plan;
pub mod process;
pub mod programs;
pub mod routers;
pub mod scenario;
pub mod sim;
pub mod state;
pub mod stream;
pub mod tools;
pub mod topology;
