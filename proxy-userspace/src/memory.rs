//! How the allocator deals with large blocks.

/// Bytes from which on a block is a mapping of its own (mallopt(3), `M_MMAP_THRESHOLD`).
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// Keeps large blocks out of the heaps that threads share. glibc moves its threshold up to 32 MiB as
/// such blocks are freed; a list that grew in a heap was then copied under that heap's lock, for 15 ms
/// of which every request waited whose thread allocated there. Grown as a mapping it is moved and not
/// copied (mremap(2)), under no lock, and goes back to the system when it is freed.
pub(crate) fn keep_large_blocks_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) only writes glibc's own settings, under its lock.
    #[expect(unsafe_code, reason = "no crate wraps mallopt")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
