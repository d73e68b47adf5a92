//! Memory that a burst needed and nobody needs any more goes back to the machine.
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "the allocator's own call has no safe form"))]

/// Has the allocator return what is free to the kernel. *Why*: glibc keeps free memory between what is still in use; the 250
/// connections of a node's drain leave some 3 MiB so.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and touches only what is free, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
