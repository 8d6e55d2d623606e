//! The bpf(2) calls that the library does not have, and the plain-old-data promise for map values.

#![expect(unsafe_code, reason = "system calls and plain-old-data promises")]

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use isocast_dataplane_common::{bfd, capture, policy, tables, tracking};

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
        name: object_name(name),
    };
    // SAFETY: the attributes have the kernel's layout, and what they point to outlives the call.
    unsafe { call(BPF_PROG_LOAD, &mut attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

const NAME_LEN: usize = 16;

/// A name as the kernel wants it: cut where it is too long, the last byte zero.
fn object_name(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    for (to, from) in bytes.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
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

/// Makes an array whose values can be mapped into memory.
pub(crate) fn create_mapped_array(
    name: &str,
    value_bytes: u32,
    values: u32,
) -> io::Result<OwnedFd> {
    const BPF_MAP_CREATE: i32 = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    const BPF_F_MMAPABLE: u32 = 1 << 10;
    const KEY_BYTES: u32 = 4;
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_bytes: u32,
        value_bytes: u32,
        values: u32,
        flags: u32,
        inner: u32,
        numa_node: u32,
        name: [u8; NAME_LEN],
    }
    let mut attributes = Attributes {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_bytes: KEY_BYTES,
        value_bytes,
        values,
        flags: BPF_F_MMAPABLE,
        inner: 0,
        numa_node: 0,
        name: object_name(name),
    };
    // SAFETY: the attributes have the kernel's layout; the descriptor returned is ours.
    unsafe { call(BPF_MAP_CREATE, &mut attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Opens the map at a place of an array of maps; `None` where there is none.
pub(crate) fn inner_map(outer: BorrowedFd<'_>, place: u32) -> io::Result<Option<OwnedFd>> {
    const BPF_MAP_LOOKUP_ELEM: i32 = 1;
    const BPF_MAP_GET_FD_BY_ID: i32 = 14;
    #[repr(C)]
    struct Lookup {
        map: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    #[repr(C)]
    struct Open {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut id = 0_u32;
    let mut lookup = Lookup {
        map: outer.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const place).expose_provenance() as u64,
        value: (&raw mut id).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: the attributes have the kernel's layout; key and value outlive the call and have the
    // four bytes that an array of maps has.
    match unsafe { call(BPF_MAP_LOOKUP_ELEM, &mut lookup) } {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut open = Open { id, next: 0, flags: 0 };
    // SAFETY: the attributes have the kernel's layout; the descriptor returned is ours.
    unsafe { call(BPF_MAP_GET_FD_BY_ID, &mut open).map(|fd| Some(OwnedFd::from_raw_fd(fd))) }
}

/// Puts maps into an array of maps. The kernel waits once, at the end, for readers of what was
/// there before.
pub(crate) fn set_inner_maps(
    outer: BorrowedFd<'_>,
    maps: &BTreeMap<u32, OwnedFd>,
) -> io::Result<()> {
    const BPF_MAP_UPDATE_BATCH: i32 = 26;
    #[repr(C)]
    struct Attributes {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    if maps.is_empty() {
        return Ok(());
    }
    let keys: Vec<u32> = maps.keys().copied().collect();
    let values: Vec<u32> = maps.values().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    let mut attributes = Attributes {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr().expose_provenance() as u64,
        values: values.as_ptr().expose_provenance() as u64,
        count: u32::try_from(maps.len()).map_err(io::Error::other)?,
        map: outer.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the attributes have the kernel's layout; keys and values outlive the call, and there
    // are as many as it says.
    unsafe { call(BPF_MAP_UPDATE_BATCH, &mut attributes).map(drop) }
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
    ChainValue(tables::Chain);
    ControlValue(capture::Control);
    CounterValue(tables::Counter);
    ErasValue(tracking::Eras);
    LevelsValue(policy::Levels);
    NameValue(tables::Name);
    PolicyValue(policy::Policy);
    ProgressValue(capture::Progress);
    RatesValue(policy::Rates);
    RefusedValue(policy::Refused);
    RootValue(tables::Root);
    SourceKeyValue(policy::SourceKey);
    TargetValue(tables::Target);
}
