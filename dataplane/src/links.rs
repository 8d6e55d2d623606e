//! Which interfaces run the program: pinned links, adopted from a predecessor where there are any.
//!
//! A link that is pinned keeps its program attached without any process. A predecessor of the
//! same layout of maps hands over at once; one of another layout keeps forwarding from its own
//! maps until this one has something to say, see [`Links::take_over`].

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use crate::{
    bpf::{self, Hook, XdpFlags},
    netlink::interface_index,
};

/// An interface that traffic arrives by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub interface: String,
    /// How the program runs there.
    pub mode: Mode,
    /// Longest IP packet that may leave by it, where the operator knows better than the interface.
    pub mtu: Option<u32>,
}

/// How an XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the driver if it can, otherwise in the stack.
    #[default]
    Auto,
    /// In the stack, whatever the driver can: slow, for everything.
    Generic,
    /// In the driver, or not at all.
    Native,
}

/// An interface that cannot run the program.
#[derive(Debug, thiserror::Error)]
#[error("interface {interface}: cannot {what}")]
pub struct LinkError {
    interface: String,
    what: &'static str,
    #[source]
    source: io::Error,
}

pub(crate) struct Links {
    dir: PathBuf,
    links: Vec<Attached>,
    /// Links of predecessors with other maps.
    foreign: Vec<Attached>,
}

struct Attached {
    interface: String,
    fd: OwnedFd,
    path: PathBuf,
}

impl Links {
    /// Attaches `program` to the uplinks, or takes their links over from a predecessor that used
    /// the same `dir`. Links in `dir` for other interfaces are given up.
    pub(crate) fn open(
        uplinks: &[Uplink],
        dir: &Path,
        predecessors: &[PathBuf],
        program: BorrowedFd<'_>,
    ) -> Result<Self, LinkError> {
        let mut links = Self { dir: dir.to_owned(), links: Vec::new(), foreign: Vec::new() };
        for uplink in uplinks {
            let name = &uplink.interface;
            let failed = |what| {
                let interface = name.clone();
                move |source| LinkError { interface, what, source }
            };
            let index = interface_index(name).map_err(failed("find it"))?;
            let path = link_path(dir, name);
            if let Some(fd) = adoptable(&path, index) {
                bpf::update_link(fd.as_fd(), program).map_err(failed("replace its program"))?;
                links.links.push(Attached { interface: name.clone(), fd, path });
                continue;
            }
            let foreign = predecessors.iter().find_map(|dir| {
                let path = link_path(dir, name);
                Some((adoptable(&path, index)?, path))
            });
            if let Some((fd, path)) = foreign {
                links.foreign.push(Attached { interface: name.clone(), fd, path });
                continue;
            }
            let fd = attach(program, index, uplink.mode).map_err(failed("attach the program"))?;
            bpf::pin(fd.as_fd(), &path).map_err(failed("pin the link"))?;
            links.links.push(Attached { interface: name.clone(), fd, path });
        }
        links.give_up_others();
        Ok(links)
    }

    /// Whether a predecessor with other maps still forwards.
    pub(crate) const fn has_foreign(&self) -> bool {
        !self.foreign.is_empty()
    }

    /// Takes over from predecessors with other maps, once this one's are filled.
    pub(crate) fn take_over(&mut self, program: BorrowedFd<'_>) -> Result<(), LinkError> {
        while let Some(link) = self.foreign.pop() {
            let failed = |what| {
                let interface = link.interface.clone();
                move |source| LinkError { interface, what, source }
            };
            let path = link_path(&self.dir, &link.interface);
            bpf::update_link(link.fd.as_fd(), program).map_err(failed("replace its program"))?;
            bpf::pin(link.fd.as_fd(), &path).map_err(failed("pin the link"))?;
            fs::remove_file(&link.path).map_err(failed("unpin its old link"))?;
            self.links.push(Attached { path, ..link });
        }
        Ok(())
    }

    /// Whether every link is pinned, on its interface, with this program.
    pub(crate) fn verify(&self, program_id: u32) -> Result<(), LinkError> {
        for link in &self.links {
            let failed = |what| {
                let interface = link.interface.clone();
                move |source| LinkError { interface, what, source }
            };
            let index = interface_index(&link.interface).map_err(failed("find it"))?;
            let pinned = bpf::open_pin(&link.path).map_err(failed("open the pinned link"))?;
            let info = bpf::xdp_link_info(pinned.as_fd()).map_err(failed("ask for the link"))?;
            if info.interface != index || info.program_id != program_id {
                let source = io::Error::other("another program or interface");
                return Err(failed("recognise the link")(source));
            }
        }
        Ok(())
    }

    fn give_up_others(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let ours = self.links.iter().any(|link| link.path == path);
            if !ours && entry.file_name().to_string_lossy().starts_with(PREFIX) {
                tracing::info!(path = %path.display(), "giving up a link");
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot unpin a link");
                }
            }
        }
    }
}

const PREFIX: &str = "link-";

fn link_path(dir: &Path, interface: &str) -> PathBuf {
    // An interface's name may have a dot, a file's in bpffs may not.
    let name = interface.replace('%', "%25").replace('.', "%2E");
    dir.join(format!("{PREFIX}{name}"))
}

/// A pinned link that is still on the interface: one whose interface was deleted is not.
fn adoptable(path: &Path, index: u32) -> Option<OwnedFd> {
    let fd = bpf::open_pin(path).ok()?;
    let info = bpf::xdp_link_info(fd.as_fd()).ok()?;
    if info.interface == index {
        return Some(fd);
    }
    tracing::info!(path = %path.display(), "pinned link has lost its interface");
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot unpin a link");
    }
    None
}

fn attach(program: BorrowedFd<'_>, interface: u32, mode: Mode) -> io::Result<OwnedFd> {
    let attach = |flags| bpf::create_link(program, interface, Hook::Xdp(flags));
    match mode {
        Mode::Native => attach(XdpFlags::Native),
        Mode::Generic => attach(XdpFlags::Generic),
        Mode::Auto => attach(XdpFlags::Native).or_else(|error| {
            tracing::warn!(interface, %error, "no native XDP; falling back to generic");
            attach(XdpFlags::Generic)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_interfaces_have_no_dots_and_no_namesakes() {
        let path = |name| link_path(Path::new("/pins"), name);
        assert_eq!(path("eth0.100"), Path::new("/pins/link-eth0%2E100"));
        assert_ne!(path("eth0.100"), path("eth0%2E100"));
    }
}
