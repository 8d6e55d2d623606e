//! Whose connection is this?

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock_tuple, tcphdr},
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie},
    programs::XdpContext,
};

use core::ffi::c_void;

use crate::packet::{Frame, Ip, ip_len};

/// `TCP_LISTEN` of the kernel.
const LISTEN: u32 = 10;
/// TCP header without options.
const TCP_LEN: usize = 20;
/// `BPF_F_CURRENT_NETNS`: the namespace of the interface.
const THIS_NAMESPACE: u64 = u64::MAX;

/// Whether this host has a socket for the flow that is more than a listener: established,
/// half-open or in time-wait. Or a listener that would take it for one: the packet acknowledges a
/// SYN cookie of its own, so the connection is in no table yet.
#[inline(always)]
pub fn owns<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    at: usize,
    ip: &Ip,
    ports: u32,
) -> bool {
    // {source, destination, source port, destination port}, as `bpf_sock_tuple` has them.
    let mut v4 = [ip.source[3], ip.destination[3], ports];
    let mut v6 = [
        ip.source[0],
        ip.source[1],
        ip.source[2],
        ip.source[3],
        ip.destination[0],
        ip.destination[1],
        ip.destination[2],
        ip.destination[3],
        ports,
    ];
    let (tuple, len) = if V6 {
        (v6.as_mut_ptr().cast::<bpf_sock_tuple>(), size_of_val(&v6))
    } else {
        (v4.as_mut_ptr().cast::<bpf_sock_tuple>(), size_of_val(&v4))
    };
    // SAFETY: the tuple has the given length; a socket that is returned is released.
    unsafe {
        let socket = bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, len as u32, THIS_NAMESPACE, 0);
        if socket.is_null() {
            return false;
        }
        let is_owner = (&raw const (*socket).state).read_volatile() != LISTEN
            || acknowledges_cookie::<V6>(socket.cast(), frame, at);
        bpf_sk_release(socket.cast());
        is_owner
    }
}

/// # Safety
/// `listener` is a socket that is held; the IP header at `at` is within bounds.
#[inline(always)]
unsafe fn acknowledges_cookie<const V6: bool>(
    listener: *mut c_void,
    frame: Frame,
    at: usize,
) -> bool {
    let len = ip_len::<V6>();
    if !frame.has(at + len + TCP_LEN) {
        return false;
    }
    let ip = (frame.data + at) as *mut c_void;
    let tcp = (frame.data + at + len) as *mut tcphdr;
    // SAFETY: both headers were asked for.
    unsafe { bpf_tcp_check_syncookie(listener, ip, len as u32, tcp, TCP_LEN as u32) == 0 }
}
