//! Keeping the memory of tensors between operations.
//!
//! Every operation makes its result anew, and the C library maps large blocks from the system each
//! time: a page that is touched for the first time costs about ten times what copying it does. So
//! a process that computes keeps what it has had, and gives it back when an image is done. What kernels
//! keep from call to call ([`super::pages`]) is not part of that: some 16 MiB for each thread.

use std::sync::Once;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod libc {
    unsafe extern "C" {
        /// `mallopt(3)`: 0 if it changed nothing.
        pub safe fn mallopt(parameter: i32, value: i32) -> i32;
        /// `malloc_trim(3)`: 1 if anything was given back.
        pub safe fn malloc_trim(keep: usize) -> i32;
    }
    pub const M_TRIM_THRESHOLD: i32 = -1;
    pub const M_MMAP_THRESHOLD: i32 = -3;
    pub const M_ARENA_MAX: i32 = -8;
}

/// Has this process keep the memory that tensors have had, from now on. To be called before other
/// threads are started: one that has a heap of its own already keeps it, and those cannot hold large
/// blocks, which are mapped anew each time then.
pub fn keep_pages() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            // Other C libraries, and versions that know less, work as before.
            libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            // Only the first of the C library's heaps can hold blocks of any size.
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    });
}

/// Gives all that is free back to the system.
pub fn give_pages_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    libc::malloc_trim(0);
}
