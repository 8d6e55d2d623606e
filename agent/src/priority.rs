//! Who runs first when there are more threads than processors, as far as the kernel permits: BFD, then
//! decisions and the sessions that tell of them, then everything else.

#![expect(unsafe_code, reason = "scheduling calls that no safe wrapper has")]

use std::mem::zeroed;

/// What was permitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Priority {
    /// As any other thread.
    #[default]
    Normal,
    /// The best there is without real time.
    Nice,
    /// Before every thread that is not real-time.
    Realtime,
}

/// Asks for the best priority for the calling thread, and for timers that are not bundled with others.
pub(crate) fn before_all() -> Priority {
    // SAFETY: a number is passed, no memory.
    let _slack = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0) };
    // SAFETY: plain integers; any bytes are a value.
    let mut parameters: libc::sched_param = unsafe { zeroed() };
    parameters.sched_priority = REALTIME_PRIORITY;
    // SAFETY: the parameters outlive the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, POLICY, &raw const parameters) };
    if result == 0 {
        return Priority::Realtime;
    }
    // SAFETY: numbers are passed, no memory; 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICEST) } == 0 {
        return Priority::Nice;
    }
    Priority::Normal
}

/// Has the calling thread, and threads that it starts from now on, run before those that probe and answer
/// questions.
pub(crate) fn before_others() -> Priority {
    // SAFETY: numbers are passed, no memory; 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == 0 {
        return Priority::Nice;
    }
    Priority::Normal
}

/// Real time; processes that this thread might start do not inherit it.
const POLICY: i32 = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
/// Above other threads, below the kernel's own real-time threads (50).
const REALTIME_PRIORITY: i32 = 10;
const NICE: i32 = -10;
const NICEST: i32 = -20;
const TIMER_SLACK_NS: libc::c_ulong = 1000;
