//! The programs of an object: which a node loads, and where they are attached besides the uplinks'
//! ingress.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, Xdp},
};

use super::Roles;
use crate::{
    bpf::{self, Hook},
    errors::OpenError,
    links::Uplink,
    netlink::interface_index,
    verified::load_verified,
};

pub(super) const XDP_PROGRAM: &str = "isocast";
pub(super) const PROBE_PROGRAM: &str = "isocast_probe";
pub(super) const MSS_PROGRAM: &str = "isocast_mss";
pub(super) const ANSWERS_PROGRAM: &str = "isocast_answers";

/// The program of the uplinks.
pub(super) fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    ebpf.program_mut(XDP_PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// A program for what leaves.
fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// Loads what a node of these roles runs.
pub(super) fn load(ebpf: &mut Ebpf, roles: Roles) -> Result<(), ProgramError> {
    let program = xdp(ebpf)?;
    load_verified(XDP_PROGRAM, || program.load())?;
    let at_egress: [(bool, &[&str]); 2] =
        [(roles.edge, &[PROBE_PROGRAM]), (roles.backend, &[MSS_PROGRAM, ANSWERS_PROGRAM])];
    for name in at_egress.into_iter().filter(|(wanted, _)| *wanted).flat_map(|(_, names)| names) {
        let program = classifier(ebpf, name)?;
        load_verified(name, || program.load())?;
    }
    Ok(())
}

/// Attaches a classifier at egress of all uplinks.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    name: &str,
    uplinks: &[Uplink],
) -> Result<Vec<OwnedFd>, OpenError> {
    let program = classifier(ebpf, name).map_err(OpenError::Program)?;
    let fd: BorrowedFd<'_> = program.fd().map_err(OpenError::Program)?.as_fd();
    let attach = |uplink: &Uplink| {
        interface_index(&uplink.interface)
            .and_then(|index| bpf::create_link(fd, index, Hook::TcxEgress))
            .map_err(|source| OpenError::Egress { interface: uplink.interface.clone(), source })
    };
    uplinks.iter().map(attach).collect()
}
