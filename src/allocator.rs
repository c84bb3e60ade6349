//! The allocator, told to keep freed memory for a while instead of handing it back at once, and
//! to take it in small pages.
//!
//! An epoch's buffers are freed at its commit and needed again a second later. Handed back to
//! the system in between, every page of them is faulted in and zeroed anew: of the CPU time of
//! a replay of 10 million events, the system's part fell from 3.1 to 0.4 s with this.
//!
//! A virtual machine gives free memory back to its host in blocks of the size of a huge page, and
//! where those are taken again, each costs milliseconds. Small pages mostly come from what is
//! left of other blocks: a replay that begins some seconds after something large has ended takes
//! 0.3 s of the system's time in place of 1.0, for an eighth less memory. In programs' own time
//! huge pages save nothing that could be measured.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: after how many milliseconds freed memory is handed back; never where
/// that is below 0.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Longer than from one epoch to the next under load, and no longer: what is kept stands beside
/// what grows.
const KEEP_FREED_MS: std::ffi::c_long = 2_000;

/// Hands all freed memory back now: after a commit that was made to give room, what it has freed
/// would stand beside what comes next.
#[expect(unsafe_code, reason = "the allocator's functions have no safe interface")]
pub fn give_back() {
    // SAFETY: the call touches what belongs to the allocator and its calling thread alone, and
    // may be made at any time.
    let collect = || unsafe { libmimalloc_sys::mi_collect(true) };
    rayon::broadcast(|_| collect());
    collect();
}

/// Takes no huge pages; where the system refuses, it goes on with them.
#[cfg(target_os = "linux")]
extern "C" fn take_small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Called by the loader before `main`: the standard library has two huge pages touched on its way
/// there, of which each may cost milliseconds.
#[cfg(target_os = "linux")]
#[used]
#[expect(unsafe_code, reason = "nothing else comes before the first allocation")]
// SAFETY: the loader calls what stands in this section, with arguments that a C function may leave
// alone; the one here makes a system call and relies on nothing that is set up later.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = take_small_pages;

/// Keeps freed memory for 2 s.
pub fn keep_freed_memory() {
    set_purge_delay(KEEP_FREED_MS);
}

/// Leaves all memory to the system, which takes it back as a whole when the process ends; the
/// allocator would hand back what is free piece by piece before.
pub fn leave_memory() {
    set_purge_delay(-1);
}

#[expect(unsafe_code, reason = "the allocator's options have no safe interface")]
fn set_purge_delay(ms: std::ffi::c_long) {
    // SAFETY: the call stores one integer in the allocator's table of options, of which 15 is
    // an index in every version that this crate can be built with; it may come at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, ms) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn huge_pages_are_refused_before_main() {
        let refused = rustix::thread::transparent_huge_pages_are_disabled();
        assert_eq!(refused, Ok(true), "nothing that a test calls asks for it");
    }
}
