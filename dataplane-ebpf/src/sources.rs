//! Who may talk to a service: the most specific prefix of its list decides.
//!
//! All lists share one trie, because the number of a list comes before the address in the key: a
//! list is written whole under a new number before a generation refers to it, so a packet sees the
//! former list or the new one and never half of either.

use aya_ebpf::{
    btf_maps::{LpmTrie, lpm_trie::Key},
    macros::btf_map,
};
use isocast_dataplane_common::{
    directory::Address,
    policy::{ALLOWED, Policy, SOURCE_POOL, SourceKey},
};

#[btf_map]
static SOURCES: LpmTrie<SourceKey, u32, SOURCE_POOL> = LpmTrie::new();

#[inline(always)]
pub fn lets_in<const V6: bool>(policy: &Policy, source: &Address) -> bool {
    let bits = SourceKey::LIST_BITS + if V6 { 128 } else { 32 };
    match SOURCES.get(&Key::new(bits, SourceKey::new::<V6>(policy.list, source))) {
        Some(verdict) => *verdict == ALLOWED,
        None => policy.flags & Policy::OTHERS_ALLOWED != 0,
    }
}
