//! Whose connection is this?

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_tuple,
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp},
    programs::XdpContext,
};

use crate::packet::Ip;

/// `TCP_LISTEN` of the kernel.
const LISTEN: u32 = 10;
/// `BPF_F_CURRENT_NETNS`: the namespace of the interface.
const THIS_NAMESPACE: u64 = u64::MAX;

/// Whether this host has a socket for the flow that is more than a listener: established,
/// half-open or in time-wait.
#[inline(always)]
pub fn owns<const V6: bool>(ctx: &XdpContext, ip: &Ip, ports: u32) -> bool {
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
        let state = (&raw const (*socket).state).read_volatile();
        bpf_sk_release(socket.cast());
        state != LISTEN
    }
}
