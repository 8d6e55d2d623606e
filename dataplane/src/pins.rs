//! Where things are pinned: one folder per layout of the maps, below the agent's folder in bpffs.
//!
//! The folder's name is a hash of everything that two versions must agree on to share maps. A
//! version with another layout builds its own folder first and takes the links over last.
//!
//! The maps of BFD have a folder of their own, named by their own hash: a version that changes the
//! layout of tables answers the same sessions from the same entries, and no router sees a change.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use isocast_dataplane_common::{
    Outcome,
    answers::AnsweredFlow,
    bfd, directory, limits, policy,
    slot::RING_SLOTS_MIN,
    tables::{Chain, Counter, Name, RingLine, Root, Target},
    tracking,
};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Changes whenever the meaning of a map changes and no size does.
const LAYOUT: u32 = 8;

/// The same for the maps of BFD.
const BFD_LAYOUT: u32 = 1;
const BFD_PREFIX: &str = "bfd-";

/// The folder of this version's layout.
pub(crate) fn layout_dir(pin_dir: &Path) -> PathBuf {
    let outcomes: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    let layout = (
        LAYOUT,
        [size_of::<directory::Entry>(), limits::DIRECTORY_BUCKETS, limits::DIRECTORY_PLACES],
        [size_of::<Root>(), size_of::<Target>(), limits::TARGET_POOL],
        [size_of::<RingLine>(), RING_SLOTS_MIN, limits::RING_BLOCK_POOL, limits::BLOCKS_PER_CHUNK],
        [size_of::<Chain>(), limits::CHAIN_POOL, limits::CPUS_MAX],
        [size_of::<AnsweredFlow>(), limits::ANSWERED_FLOWS],
        [size_of::<tracking::Line>(), tracking::LINES],
        [size_of::<Name>(), size_of::<Counter>(), limits::SERVICE_POOL],
        [size_of::<policy::Policy>(), size_of::<policy::SourceKey>(), policy::SOURCE_POOL],
        [size_of::<policy::Rates>(), size_of::<policy::Levels>(), size_of::<policy::Refused>()],
        outcomes,
    );
    pin_dir.join(short_hash(&format!("{layout:?}")))
}

/// The folder of this version's maps of BFD.
pub(crate) fn bfd_dir(pin_dir: &Path) -> PathBuf {
    let layout = (BFD_LAYOUT, size_of::<bfd::Session>(), size_of::<bfd::Seen>(), bfd::SESSIONS);
    pin_dir.join(format!("{BFD_PREFIX}{}", short_hash(&format!("{layout:?}"))))
}

fn short_hash(layout: &str) -> String {
    let hash = blake3::hash(layout.as_bytes()).to_hex();
    hash.as_str().get(..16).unwrap_or_default().to_owned()
}

/// Makes the folder; refuses where nothing can be pinned.
pub(crate) fn create(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if statfs(dir)?.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    Err(io::Error::other("not on a BPF file system: `mount -t bpf bpf /sys/fs/bpf`"))
}

/// Folders of other layouts, those of BFD included.
pub(crate) fn predecessors(pin_dir: &Path) -> Vec<PathBuf> {
    let own = [layout_dir(pin_dir), bfd_dir(pin_dir)];
    let entries = fs::read_dir(pin_dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| !own.contains(path) && path.is_dir()).collect()
}

/// Unpins everything in a folder, and the folder itself.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { remove(&path)? } else { fs::remove_file(&path)? }
    }
    fs::remove_dir(dir)
}
