//! The bpf(2) calls that the library does not have, and the plain-old-data promise for map values.

#![expect(unsafe_code, reason = "system calls and plain-old-data promises")]

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use isocast_dataplane_common::{bfd, capture, directory, tables};

/// Types of the programs that are made here from a few instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProgramType {
    /// `BPF_PROG_TYPE_SCHED_CLS`
    Classifier = 3,
    /// `BPF_PROG_TYPE_XDP`
    Xdp = 6,
}

/// Loads a program of a few instructions.
pub(crate) fn load_program(
    program_type: ProgramType,
    name: &str,
    instructions: &[u64],
) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: i32 = 5;
    const NAME_LEN: usize = 16;
    #[repr(C)]
    struct Attributes {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; NAME_LEN],
    }
    let mut attributes = Attributes {
        program_type: program_type as u32,
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; NAME_LEN],
    };
    // The last byte stays zero.
    for (to, from) in attributes.name.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the attributes have the kernel's layout, and what they point to outlives the call.
    unsafe { call(BPF_PROG_LOAD, &mut attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Where programs are attached by a link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hook {
    /// `BPF_XDP`, with flags that choose the mode.
    Xdp(XdpFlags),
    /// `BPF_TCX_EGRESS`
    TcxEgress,
}

/// How an XDP program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum XdpFlags {
    /// `XDP_FLAGS_SKB_MODE`
    Generic = 1 << 1,
    /// `XDP_FLAGS_DRV_MODE`
    Native = 1 << 2,
}

/// Attaches a program to an interface; it stays as long as the link is open or pinned.
pub(crate) fn create_link(
    program: BorrowedFd<'_>,
    interface: u32,
    hook: Hook,
) -> io::Result<OwnedFd> {
    const BPF_LINK_CREATE: i32 = 28;
    const BPF_TCX_EGRESS: u32 = 47;
    const BPF_XDP: u32 = 37;
    #[repr(C)]
    struct Attributes {
        program: u32,
        interface: u32,
        attach_type: u32,
        flags: u32,
        relative_to: u64,
        expected_revision: u64,
    }
    let (attach_type, flags) = match hook {
        Hook::Xdp(flags) => (BPF_XDP, flags as u32),
        Hook::TcxEgress => (BPF_TCX_EGRESS, 0),
    };
    let mut attributes = Attributes {
        program: program.as_raw_fd().cast_unsigned(),
        interface,
        attach_type,
        flags,
        relative_to: 0,
        expected_revision: 0,
    };
    // SAFETY: the attributes have the kernel's layout; the descriptor returned is ours.
    unsafe { call(BPF_LINK_CREATE, &mut attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Replaces the program of a link; no packet sees none.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    const BPF_LINK_UPDATE: i32 = 29;
    #[repr(C)]
    struct Attributes {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    let mut attributes = Attributes {
        link: link.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: the attributes have the kernel's layout.
    unsafe { call(BPF_LINK_UPDATE, &mut attributes).map(drop) }
}

/// Pins an object: it outlives this process.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    const BPF_OBJ_PIN: i32 = 6;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes::new(&path, object.as_raw_fd().cast_unsigned());
    // SAFETY: the attributes have the kernel's layout, and the path outlives the call.
    unsafe { call(BPF_OBJ_PIN, &mut attributes).map(drop) }
}

/// Opens a pinned object.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    const BPF_OBJ_GET: i32 = 7;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes::new(&path, 0);
    // SAFETY: as above; the descriptor returned is ours.
    unsafe { call(BPF_OBJ_GET, &mut attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

#[repr(C)]
struct PinAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

impl PinAttributes {
    fn new(path: &CStr, fd: u32) -> Self {
        Self { path: path.as_ptr().expose_provenance() as u64, fd, flags: 0 }
    }
}

/// What the kernel says about an XDP link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct XdpLinkInfo {
    pub(crate) program_id: u32,
    /// 0 when the interface is gone.
    pub(crate) interface: u32,
}

/// Asks for the program and the interface of an XDP link.
pub(crate) fn xdp_link_info(link: BorrowedFd<'_>) -> io::Result<XdpLinkInfo> {
    const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        link_type: u32,
        id: u32,
        program_id: u32,
        padding: u32,
        interface: u32,
        rest: [u32; 3],
    }
    #[repr(C)]
    struct Attributes {
        fd: u32,
        len: u32,
        info: u64,
    }
    let mut info = Info::default();
    let mut attributes = Attributes {
        fd: link.as_raw_fd().cast_unsigned(),
        len: u32::try_from(size_of::<Info>()).map_err(io::Error::other)?,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the attributes have the kernel's layout and name the whole of `info`.
    unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(XdpLinkInfo { program_id: info.program_id, interface: info.interface })
}

/// Waits until every program that was running has ended: none reads anymore what was in force
/// before the last flip.
pub(crate) fn wait_for_readers() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: i32 = 1;
    // SAFETY: no memory is passed. The command is a full RCU grace period, and XDP and tc
    // programs run within a read-side section.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
/// `attributes` has the layout that `command` wants, and its pointers are valid.
unsafe fn call<T>(command: i32, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}

macro_rules! plain_old_data {
    ($($wrapper:ident($inner:ty);)*) => {
        $(
            /// A map value (the orphan rule asks for a type of our own).
            #[repr(transparent)]
            #[derive(Clone, Copy, Debug, PartialEq)]
            pub(crate) struct $wrapper(pub(crate) $inner);

            // SAFETY: integers and arrays of integers without padding: any bytes are a value.
            unsafe impl aya::Pod for $wrapper {}
        )*
    };
}

plain_old_data! {
    BfdSeenValue(bfd::Seen);
    BfdSessionValue(bfd::Session);
    ControlValue(capture::Control);
    CounterValue(tables::Counter);
    EntryValue(directory::Entry);
    NameValue(tables::Name);
    ProgressValue(capture::Progress);
    RingLineValue(tables::RingLine);
    RootValue(tables::Root);
    TargetValue(tables::Target);
}
