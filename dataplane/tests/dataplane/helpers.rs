//! What the programs may ask of the kernel.
//!
//! Every helper that the built object calls is on this list, with the reason it is needed: a new
//! one is a decision, about old kernels and about what the programs can do.

use aya_obj::{Object, generated::bpf_insn};

/// Number (`enum bpf_func_id`) and name of what may be called.
const ALLOWED: &[(i32, &str)] = &[
    (1, "bpf_map_lookup_elem"),
    // The first drop of its kind, and the first answer to a UDP flow.
    (2, "bpf_map_update_elem"),
    // Time stamps of BFD and of captured packets, and the pace of answers to what is too big.
    (5, "bpf_ktime_get_ns"),
    // The clamped segment size of a host's own handshakes.
    (9, "bpf_skb_store_bytes"),
    (11, "bpf_l4_csum_replace"),
    // Which CPU's packet it was, in a capture.
    (8, "bpf_get_smp_processor_id"),
    // The tag of a health check's VLAN.
    (18, "bpf_skb_vlan_push"),
    (19, "bpf_skb_vlan_pop"),
    // Out of another interface than a packet came by.
    (23, "bpf_redirect"),
    // What the sender of a packet that is too big is told.
    (28, "bpf_csum_diff"),
    // The tunnel's entropy of a health check.
    (34, "bpf_get_hash_recalc"),
    // Room for the outer header: XDP, and tc.
    (44, "bpf_xdp_adjust_head"),
    (50, "bpf_skb_adjust_room"),
    // A packet becomes the answer to it, whose length is another.
    (65, "bpf_xdp_adjust_tail"),
    // Whose connection is this? A socket's, or one that a listener's cookie stands for.
    (86, "bpf_sk_release"),
    (99, "bpf_skc_lookup_tcp"),
    (100, "bpf_tcp_check_syncookie"),
    // What a socket in TIME_WAIT expects.
    (138, "bpf_skc_to_tcp_timewait_sock"),
    // Answers to new flows beyond a ceiling, by the listener's own secret.
    (110, "bpf_tcp_gen_syncookie"),
    // The tick that fills the buckets of ceilings, and in which packets to further hops are counted:
    // a word of the kernel, no clock.
    (118, "bpf_jiffies64"),
    // When a UDP flow was answered: as fine as the tick, and as cheap.
    (160, "bpf_ktime_get_coarse_ns"),
    // Captured packets.
    (131, "bpf_ringbuf_reserve"),
    (132, "bpf_ringbuf_submit"),
    (189, "bpf_xdp_load_bytes"),
];

/// Names of what is likely to be called by mistake, so that a refusal speaks plainly.
const OTHERS: &[(i32, &str)] = &[
    (3, "bpf_map_delete_elem"),
    (4, "bpf_probe_read"),
    (6, "bpf_trace_printk"),
    (7, "bpf_get_prandom_u32"),
    (12, "bpf_tail_call"),
    (25, "bpf_perf_event_output"),
    (51, "bpf_redirect_map"),
    (54, "bpf_xdp_adjust_meta"),
    (69, "bpf_fib_lookup"),
    (84, "bpf_sk_lookup_tcp"),
    (85, "bpf_sk_lookup_udp"),
    (93, "bpf_spin_lock"),
    (112, "bpf_probe_read_user"),
    (113, "bpf_probe_read_kernel"),
    (125, "bpf_ktime_get_boot_ns"),
    (130, "bpf_ringbuf_output"),
    (133, "bpf_ringbuf_discard"),
    (134, "bpf_ringbuf_query"),
    (181, "bpf_loop"),
    (204, "bpf_tcp_raw_gen_syncookie_ipv4"),
    (205, "bpf_tcp_raw_gen_syncookie_ipv6"),
];

const CALL: u8 = 0x85;
/// `src_reg` of a call of a helper; others call functions of the program, and of the kernel.
const HELPER: u8 = 0;

fn name(id: i32) -> String {
    let known = ALLOWED.iter().chain(OTHERS).find(|(known, _)| *known == id);
    known.map_or_else(|| format!("helper {id}"), |(_, name)| (*name).to_owned())
}

/// The helpers that a program's instructions call, by name, where they are not on the list.
fn not_allowed(instructions: &[bpf_insn]) -> Vec<String> {
    let helpers = instructions.iter().filter(|it| it.code == CALL && it.src_reg() == HELPER);
    let strange = helpers.filter(|it| ALLOWED.iter().all(|(allowed, _)| *allowed != it.imm));
    strange.map(|it| name(it.imm)).collect()
}

fn call(source: u8, imm: i32) -> bpf_insn {
    let registers = bpf_insn::new_bitfield_1(0, source);
    bpf_insn { code: CALL, _bitfield_align_1: [], _bitfield_1: registers, off: 0, imm }
}

#[test]
fn programs_call_only_the_helpers_on_the_list() {
    let bytes = std::fs::read(env!("ISOCAST_EBPF_OBJECT")).expect("the object");
    let object = Object::parse(&bytes).expect("an eBPF object");
    assert!(!object.functions.is_empty());
    let mut calls = 0;
    for function in object.functions.values() {
        let strange = not_allowed(&function.instructions);
        assert!(strange.is_empty(), "{} calls {}", function.name, strange.join(", "));
        calls += function.instructions.iter().filter(|it| it.code == CALL).count();
    }
    assert!(calls > 0, "an object without a call was not read right");
}

#[test]
fn helper_that_is_not_on_the_list_is_named() {
    const KERNEL_FUNCTION: u8 = 2;
    let program = [call(HELPER, 1), call(HELPER, 6), call(KERNEL_FUNCTION, 6), call(HELPER, 999)];

    assert_eq!(not_allowed(&program), ["bpf_trace_printk", "helper 999"]);
}
