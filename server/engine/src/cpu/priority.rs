//! Standing back: who computes for minutes lets those go first who answer in milliseconds.

#[cfg(target_os = "linux")]
mod libc {
    unsafe extern "C" {
        /// `nice(2)`: on Linux it is about the calling thread, and those that it starts later.
        pub safe fn nice(increment: i32) -> i32;
    }
}

/// A tenth of the share of the processor that others get who want it; all of what nobody wants.
#[cfg(target_os = "linux")]
const STEP: i32 = 10;

/// Has this thread, and all that it starts from now on, stand back behind other processes.
pub fn stand_back() {
    #[cfg(target_os = "linux")]
    // Lowering one's own priority is always allowed; at the lowest it changes nothing.
    let _ = libc::nice(STEP);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    /// The 19th field of `/proc/thread-self/stat`.
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has it");
        let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
        let field = rest.split_whitespace().nth(16).expect("many fields");
        field.parse().expect("a number")
    }

    #[test]
    fn a_thread_and_its_children_stand_back_and_nobody_else() {
        let before = niceness();
        let (own, child) = std::thread::spawn(|| {
            super::stand_back();
            (niceness(), std::thread::spawn(niceness).join())
        })
        .join()
        .expect("no panic");
        let expected = (before + super::STEP).min(19);
        assert_eq!((own, child.expect("no panic")), (expected, expected));
        assert_eq!(niceness(), before);
    }
}
