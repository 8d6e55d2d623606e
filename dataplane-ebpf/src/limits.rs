//! Services that do not take everything: source lists and ceilings.
//!
//! Out of line, so that the packets of other services carry none of it through the instruction
//! cache; one bit of the directory's answer leads here. Sources come first: strangers use up
//! nobody's tokens. New flows come before packets: a flood of them takes nothing from connections
//! that stand.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    helpers::generated::bpf_jiffies64,
    macros::btf_map,
};
use isocast_dataplane_common::{
    Outcome,
    directory::{Address, Value},
    limits::SERVICE_POOL,
    policy::{BUCKETS, Levels, Policy, Rates, Refused},
};

use crate::{
    maps::Generation,
    packet::{Frame, Ip},
    sources,
};

/// What is asked of each service, by generation and number.
#[btf_map]
static POLICIES: Array<Policy, { 2 * SERVICE_POOL }> = Array::new();
#[btf_map]
static RATES: PerCpuArray<Rates, BUCKETS> = PerCpuArray::new();
#[btf_map]
static LEVELS: PerCpuArray<Levels, BUCKETS> = PerCpuArray::new();
#[btf_map]
static SERVICE_REFUSED: PerCpuArray<Refused, SERVICE_POOL> = PerCpuArray::new();

/// Lets a packet of a guarded service in; `begins`: with it a client begins a connection. `true`:
/// the client has to prove its address.
#[inline(always)]
pub fn admit<const V6: bool>(
    generation: Generation,
    ip: &Ip,
    service: Value,
    begins: bool,
) -> Result<bool, Outcome> {
    let place = generation.half() * SERVICE_POOL as u32 + u32::from(service.service);
    let answer = if V6 {
        decide_v6(place, service.service, &ip.source, begins)
    } else {
        decide_v4(place, service.service, &ip.source, begins)
    };
    match answer {
        ADMITTED => Ok(false),
        CHALLENGED => Ok(true),
        STRANGER => Err(Outcome::SourceNotAllowed),
        PACKETS => Err(Outcome::OverPacketRate),
        FLOWS => Err(Outcome::OverFlowRate),
        TENANT => Err(Outcome::OverTenantRate),
        _ => Err(Outcome::TablesInconsistent),
    }
}

// What a function of its own can return: a number.
const ADMITTED: u32 = 0;
const CHALLENGED: u32 = 1;
const STRANGER: u32 = 2;
const PACKETS: u32 = 3;
const FLOWS: u32 = 4;
const TENANT: u32 = 5;
const INCONSISTENT: u32 = 6;

#[inline(never)]
fn decide_v4(place: u32, service: u16, source: &Address, begins: bool) -> u32 {
    counted(service, decide::<false>(place, service, source, begins))
}

#[inline(never)]
fn decide_v6(place: u32, service: u16, source: &Address, begins: bool) -> u32 {
    counted(service, decide::<true>(place, service, source, begins))
}

#[inline(always)]
fn decide<const V6: bool>(place: u32, service: u16, source: &Address, begins: bool) -> u32 {
    let Some(policy) = POLICIES.get(place) else { return INCONSISTENT };
    if policy.flags & Policy::LISTED != 0 && !sources::lets_in::<V6>(policy, source) {
        return STRANGER;
    }
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_jiffies64() };
    let mut answer = ADMITTED;
    if policy.flags & Policy::LIMITED != 0 {
        let Some((rates, levels)) = bucket(u32::from(service)) else { return INCONSISTENT };
        if begins {
            let has_token = levels.flows.take(&rates.flows, now);
            if policy.flags & Policy::COOKIES != 0 && (!has_token || rates.armed != 0) {
                answer = CHALLENGED;
            } else if !has_token {
                return FLOWS;
            }
        }
        // A flood of those that may be nobody takes only what others leave.
        if answer == CHALLENGED {
            if !levels.packets.take_spare(&rates.packets, now) {
                return FLOWS;
            }
        } else if !levels.packets.take(&rates.packets, now) {
            return PACKETS;
        }
    }
    if policy.flags & Policy::TENANT_LIMITED != 0 {
        let Some((rates, levels)) = bucket(policy.tenant_bucket) else { return INCONSISTENT };
        let is_within = if answer == CHALLENGED {
            levels.packets.take_spare(&rates.packets, now)
        } else {
            (!begins || levels.flows.take(&rates.flows, now))
                && levels.packets.take(&rates.packets, now)
        };
        if !is_within {
            return TENANT;
        }
    }
    answer
}

#[inline(always)]
fn bucket(number: u32) -> Option<(&'static Rates, &'static mut Levels)> {
    let (rates, levels) = (RATES.get(number)?, LEVELS.get_ptr_mut(number)?);
    // SAFETY: this CPU's own value, and programs do not interrupt each other on a CPU.
    Some((rates, unsafe { &mut *levels }))
}

#[inline(always)]
fn counted(service: u16, answer: u32) -> u32 {
    if answer == ADMITTED {
        return answer;
    }
    if let Some(refused) = SERVICE_REFUSED.get_ptr_mut(u32::from(service)) {
        // SAFETY: as above.
        let refused = unsafe { &mut *refused };
        match answer {
            STRANGER => refused.sources += 1,
            PACKETS => refused.packets += 1,
            FLOWS => refused.flows += 1,
            TENANT => refused.tenant += 1,
            CHALLENGED => refused.challenged += 1,
            _ => {}
        }
    }
    answer
}

/// A SYN without ACK (RFC 9293 §3.10.7.2): a client that wants a new connection.
#[inline(always)]
pub fn begins_connection(frame: Frame, transport: usize) -> bool {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    // SAFETY: asked for right here.
    frame.has(transport + 14) && unsafe { frame.read::<u8>(transport + 13) } & (SYN | ACK) == SYN
}
