//! What can go wrong with a data plane, and what then still holds.

use std::{io, path::PathBuf};

use aya::{EbpfError, programs::ProgramError};

use crate::{canary::CanaryError, links::LinkError, maps::MapFailure, plan::TablesError};

/// The data plane cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder for pins cannot be used.
    #[error("cannot pin below {path}")]
    Pin {
        /// The folder.
        path: PathBuf,
        #[source]
        #[expect(missing_docs, reason = "the cause")]
        source: io::Error,
    },
    /// The kernel refused the object.
    #[error("cannot load the programs' maps")]
    Load(#[source] EbpfError),
    /// The kernel refused a program.
    #[error("cannot load the programs")]
    Program(#[source] ProgramError),
    /// A map cannot be used.
    #[error(transparent)]
    Map(#[from] MapFailure),
    /// An interface cannot be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Netlink failed.
    #[error("cannot talk to the kernel's network configuration")]
    Netlink(#[source] io::Error),
    /// Ceilings cannot be divided over the cores.
    #[error("cannot learn of the cores that share ceilings")]
    Ceilings(#[source] io::Error),
    /// The health checks' program cannot be attached.
    #[error("cannot attach the probe program to {interface}")]
    Probe {
        /// To which interface.
        interface: String,
        #[source]
        #[expect(missing_docs, reason = "the cause")]
        source: io::Error,
    },
}

/// Tables were not put in force: what was in force still is. Applying them again may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// They contradict themselves, or are too much.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// A map cannot be written.
    #[error(transparent)]
    Map(#[from] MapFailure),
    /// A predecessor's link cannot be taken over: its program forwards from its own maps.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What was written would not forward as the tables say.
    #[error("the tables failed the trial before they were put in force")]
    Canary(#[from] CanaryError),
    /// The loopback cannot be changed.
    #[error("cannot configure service addresses")]
    Loopback(#[source] io::Error),
    /// The end of the programs that read the previous tables cannot be awaited.
    #[error("cannot wait for readers of the previous tables")]
    Readers(#[source] io::Error),
}

/// The data plane does not forward what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotInForce {
    /// An interface runs something else.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A map cannot be read.
    #[error(transparent)]
    Map(#[from] MapFailure),
    /// The program cannot be identified.
    #[error("cannot identify the program")]
    Program(#[from] ProgramError),
    /// Somebody else changed the generation.
    #[error("generation {found} is in force, not {expected}")]
    Generation {
        /// What the kernel has.
        found: u32,
        /// What was put in force from here.
        expected: u32,
    },
    /// Nothing was put in force yet.
    #[error("nothing is in force")]
    Nothing,
}
