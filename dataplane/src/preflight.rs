//! What the kernel must be able to do, tried out: every probe only reads, or cleans up after
//! itself, and what needs interfaces happens in a network namespace of its own.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    thread,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage},
};

use crate::{
    bpf::{self, Hook, ProgramType, XdpFlags},
    netlink::{Answer, Netlink, interface_index},
};

/// One thing that the kernel must be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub ok: bool,
    /// What does not work without it.
    pub cost_if_missing: &'static str,
    /// What was found.
    pub detail: String,
}

/// Tries everything out.
#[must_use]
pub fn preflight() -> Vec<Need> {
    let scratch = in_scratch_namespace(|| {
        [
            need("xdp-native-veth", "slow generic XDP only; no lab", native_xdp()),
            need("xdp-generic", "no load balancing", generic_xdp()),
            need("tcx", "no health checks through the tunnel: Linux 6.6", tcx()),
        ]
    });
    let mut needs = vec![
        need("bpf", "no data plane at all", load(ProgramType::Xdp).map(|_| "loads".to_owned())),
        need("bpffs", "the data plane ends with the agent", bpffs()),
        capability("cap-bpf", "programs and maps cannot be loaded", 39),
        capability(
            "cap-perfmon",
            "the verifier refuses what the compiler makes of the programs",
            38,
        ),
        capability("cap-net-admin", "programs cannot be attached, addresses not be set", 12),
        capability("cap-net-raw", "probes cannot mark their packets", 13),
        capability("cap-net-bind-service", "no BGP sessions that peers open", 10),
        need("btf", "kernel structures cannot be read by name", btf()),
        need("membarrier", "tables cannot be replaced safely", membarrier()),
    ];
    match scratch {
        Ok(tried) => {
            needs.push(need("netns", "no lab", Ok("made and left".to_owned())));
            needs.extend(tried);
        }
        Err(error) => needs.push(need("netns", "no lab; XDP and tcx were not tried", Err(error))),
    }
    needs
}

fn need(name: &'static str, cost_if_missing: &'static str, found: io::Result<String>) -> Need {
    let (ok, detail) = match found {
        Ok(detail) => (true, detail),
        Err(error) => (false, error.to_string()),
    };
    Need { name, ok, cost_if_missing, detail }
}

fn load(program_type: ProgramType) -> io::Result<OwnedFd> {
    // r0 = 2 (XDP_PASS; the classifier is never run); exit
    bpf::load_program(program_type, "isocast_need", &[0x2_0000_00b7, 0x95])
}

fn bpffs() -> io::Result<String> {
    let path = "/sys/fs/bpf";
    if statfs(path)?.filesystem_type() == BPF_FS_MAGIC {
        return Ok(path.to_owned());
    }
    Err(io::Error::other("not mounted: `mount -t bpf bpf /sys/fs/bpf`"))
}

fn btf() -> io::Result<String> {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    Ok(format!("{} bytes", fs::metadata(path)?.len()))
}

fn membarrier() -> io::Result<String> {
    bpf::wait_for_readers().map(|()| "waits for readers".to_owned())
}

fn capability(name: &'static str, cost_if_missing: &'static str, bit: u32) -> Need {
    let found = effective_capabilities().and_then(|mask| match mask >> bit & 1 {
        1 => Ok("effective".to_owned()),
        _ => Err(io::Error::other("not effective")),
    });
    need(name, cost_if_missing, found)
}

fn effective_capabilities() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    u64::from_str_radix(mask.unwrap_or_default().trim(), 16).map_err(io::Error::other)
}

fn native_xdp() -> io::Result<String> {
    attach(ProgramType::Xdp, Hook::Xdp(XdpFlags::Native))
}

fn generic_xdp() -> io::Result<String> {
    attach(ProgramType::Xdp, Hook::Xdp(XdpFlags::Generic))
}

fn tcx() -> io::Result<String> {
    attach(ProgramType::Classifier, Hook::TcxEgress)
}

/// Attaches to an interface of the scratch namespace, and lets go.
fn attach(program_type: ProgramType, hook: Hook) -> io::Result<String> {
    let program = load(program_type)?;
    bpf::create_link(program.as_fd(), interface_index(VETH)?, hook)?;
    Ok("attaches to veth".to_owned())
}

const VETH: &str = "need0";
const VETH_PEER: &str = "need1";

/// Runs `body` on a thread with a network namespace of its own, which ends with the thread.
fn in_scratch_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> io::Result<T> {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        make_veth()?;
        Ok(body())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
    })
}

fn make_veth() -> io::Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(VETH_PEER.to_owned()));
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(VETH.to_owned()));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let flags = rtnetlink::packet_core::NLM_F_CREATE | rtnetlink::packet_core::NLM_F_EXCL;
    Netlink::open()?.request(RouteNetlinkMessage::NewLink(link), flags, Answer::One)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_says_what_it_costs_and_what_was_found() {
        for need in preflight() {
            assert!(!need.cost_if_missing.is_empty() && !need.detail.is_empty(), "{need:?}");
            assert!(need.ok, "{need:?}: this machine cannot run the other tests");
        }
    }
}
