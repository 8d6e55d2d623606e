//! The data plane against the kernel: needs root, BPF, and network namespaces.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod bfd;
#[cfg(test)]
mod capture;
#[cfg(test)]
mod ceilings;
#[cfg(test)]
mod closed;
#[cfg(test)]
mod decap;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod end_to_end;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod fragment;
#[cfg(test)]
mod helpers;
#[cfg(test)]
mod icmp;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod mss;
#[cfg(test)]
mod mtu;
#[cfg(test)]
mod pass;
#[cfg(test)]
mod path_mtu;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod support;
#[cfg(test)]
mod syncookie;
#[cfg(test)]
mod tracking;
#[cfg(test)]
mod vlan;
