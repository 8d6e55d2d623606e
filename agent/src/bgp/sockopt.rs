//! Socket options that no safe wrapper has: one system call, and nothing else.

#![expect(unsafe_code, reason = "setsockopt with structures and options of our own")]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use libc::c_int;
use socket2::{SockAddr, SockAddrStorage};

/// Longest key that the kernel takes.
pub(super) const MD5_KEY_BYTES_MAX: usize = 80;

/// `TCP_MD5SIG_FLAG_PREFIX`: the key is for every address within the prefix.
const MD5_FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
pub(super) struct TcpMd5Sig {
    address: SockAddrStorage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: c_int,
    key: [u8; MD5_KEY_BYTES_MAX],
}

// === impl TcpMd5Sig ===

impl TcpMd5Sig {
    /// The key of every address within the prefix; empty: none. What is too long is cut off.
    pub(super) fn new(address: IpAddr, prefix_length: u8, key: &[u8]) -> Self {
        let mut option = Self {
            address: SockAddr::from(SocketAddr::new(address, 0)).as_storage(),
            flags: MD5_FLAG_PREFIX,
            prefix_length,
            key_length: 0,
            interface: 0,
            key: [0; MD5_KEY_BYTES_MAX],
        };
        for (to, from) in option.key.iter_mut().zip(key) {
            *to = *from;
            option.key_length = option.key_length.saturating_add(1);
        }
        option
    }

    /// Gives the key to a socket.
    pub(super) fn set(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, self)
    }
}

/// Sets an option that is a number.
pub(super) fn set_int(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: c_int,
) -> io::Result<()> {
    set(socket, level, option, &value)
}

fn set<T>(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: `value` points to `length` readable bytes that outlive the call; the kernel only
    // reads them, and checks them itself.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
