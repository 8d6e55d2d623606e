//! Whose connection is this?

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_tuple, tcphdr},
    helpers::generated::{
        bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_timewait_sock, bpf_tcp_check_syncookie,
    },
    programs::XdpContext,
};

use crate::packet::{Frame, Ip, ip_len};

/// `TCP_TIME_WAIT` of the kernel.
const TIME_WAIT: u32 = 6;
/// `TCP_LISTEN` of the kernel.
const LISTEN: u32 = 10;
/// TCP header without options.
const TCP_LEN: usize = 20;
/// `BPF_F_CURRENT_NETNS`: the namespace of the interface.
const THIS_NAMESPACE: u64 = u64::MAX;

/// Offset in `struct tcp_timewait_sock` of the sequence number that is expected next; 0: unknown.
#[unsafe(no_mangle)]
static TIME_WAIT_EXPECTS_AT: u32 = 0;

/// A socket that is held while it is looked at.
#[derive(Clone, Copy)]
pub struct Held(*mut bpf_sock);

impl Held {
    #[inline(always)]
    pub fn is_listener(self) -> bool {
        self.state() == LISTEN
    }

    #[inline(always)]
    fn state(self) -> u32 {
        // SAFETY: the socket is held.
        unsafe { (&raw const (*self.0).state).read_volatile() }
    }

    /// Whether it is in `TIME_WAIT` of the connection that a segment with this sequence number
    /// belongs to: it expects no other, or has seen it. Who opens a connection between the same
    /// ports begins it far beyond.
    #[inline(always)]
    fn expects(self, sequence: u32) -> bool {
        /// A user has no more on the way in its last moments.
        const WINDOW: u32 = 1 << 16;
        // SAFETY: a constant of the program, which the host sets before it is loaded; the kernel's
        // own description of the structure says that a word is there.
        unsafe {
            let at = (&raw const TIME_WAIT_EXPECTS_AT).read_volatile();
            if at == 0 {
                return false;
            }
            let socket = bpf_skc_to_tcp_timewait_sock(self.as_ptr());
            if socket.is_null() {
                return false;
            }
            let expected = socket.byte_add(at as usize).cast::<u32>().read_volatile();
            expected.wrapping_sub(sequence) <= WINDOW
        }
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut c_void {
        self.0.cast()
    }
}

/// Finds the socket that a packet is for, in the interface's namespace, and looks at it.
#[inline(always)]
pub fn with<const V6: bool, T>(
    ctx: &XdpContext,
    ip: &Ip,
    ports: u32,
    look: impl FnOnce(Held) -> T,
) -> Option<T> {
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
            return None;
        }
        let seen = look(Held(socket));
        bpf_sk_release(socket.cast());
        Some(seen)
    }
}

/// What a host has of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nothing.
    None,
    /// What is left of a closed one, which is not known to be this one. It is an earlier one between
    /// the same ports, and the packet another host's: a user's ports come round, and anycast moved
    /// the user in between.
    Closed,
    /// The connection: established, half-open, half-closed, or closed just now. Or a
    /// listener that would take the packet for one: it acknowledges a SYN cookie of its own, so the
    /// connection is in no table yet.
    Open,
}

/// What this host has of the connection that the packet at `at` belongs to; eight bytes of its
/// transport header are within bounds.
#[inline(always)]
pub fn claim<const V6: bool>(
    ctx: &XdpContext,
    frame: Frame,
    at: usize,
    ip: &Ip,
    ports: u32,
) -> Claim {
    // SAFETY: callers asked for eight bytes of the transport header.
    let sequence = u32::from_be(unsafe { frame.read(at + ip_len::<V6>() + 4) });
    let look = |socket: Held| match socket.state() {
        TIME_WAIT if socket.expects(sequence) => Claim::Open,
        TIME_WAIT => Claim::Closed,
        LISTEN if !acknowledges_cookie::<V6>(socket, frame, at) => Claim::None,
        _ => Claim::Open,
    };
    with::<V6, _>(ctx, ip, ports, look).unwrap_or(Claim::None)
}

#[inline(always)]
fn acknowledges_cookie<const V6: bool>(listener: Held, frame: Frame, at: usize) -> bool {
    let len = ip_len::<V6>();
    if !frame.has(at + len + TCP_LEN) {
        return false;
    }
    let ip = (frame.data + at) as *mut c_void;
    let tcp = (frame.data + at + len) as *mut tcphdr;
    // SAFETY: both headers were asked for, and the socket is held.
    unsafe { bpf_tcp_check_syncookie(listener.as_ptr(), ip, len as u32, tcp, TCP_LEN as u32) == 0 }
}

/// The same of the flow of a quoted packet, which is not here to be looked at: no listener can tell
/// that it would take it for a connection's.
#[inline(always)]
pub fn claim_of_quoted<const V6: bool>(ctx: &XdpContext, flow: &Ip, ports: u32) -> Claim {
    let look = |socket: Held| match socket.state() {
        TIME_WAIT => Claim::Closed,
        LISTEN => Claim::None,
        _ => Claim::Open,
    };
    with::<V6, _>(ctx, flow, ports, look).unwrap_or(Claim::None)
}
