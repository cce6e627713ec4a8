//! The server starts on machines without NVIDIA's driver: it is linked against none of its
//! libraries. (What it knows of the driver it asks at run time, if that is there.)

use std::fs;

/// The libraries that a 64-bit ELF file of this machine's byte order says it needs.
fn needed(elf: &[u8]) -> Vec<String> {
    let word = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| u16::from_le_bytes([elf[at], elf[at + 1]]);
    let four = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(
        &elf[..6],
        b"\x7fELF\x02\x01",
        "a 64-bit little-endian ELF file"
    );
    let (first, size, count) = (word(32) as usize, half(54) as usize, half(56) as usize);
    // Type, offset in the file, address, length in the file.
    let segments: Vec<(u32, u64, u64, u64)> = (0..count)
        .map(|at| first + at * size)
        .map(|at| (four(at), word(at + 8), word(at + 16), word(at + 32)))
        .collect();
    let (_, dynamic, _, length) = *segments
        .iter()
        .find(|segment| segment.0 == 2)
        .expect("a dynamic segment");
    let entries: Vec<(u64, u64)> = (0..length as usize / 16)
        .map(|at| dynamic as usize + 16 * at)
        .map(|at| (word(at), word(at + 8)))
        .take_while(|entry| entry.0 != 0)
        .collect();
    let strings = entries
        .iter()
        .find(|entry| entry.0 == 5)
        .expect("a string table")
        .1;
    let strings = segments
        .iter()
        .find(|(kind, _, address, length)| {
            *kind == 1 && (*address..address + length).contains(&strings)
        })
        .map(|(_, offset, address, _)| (offset + strings - address) as usize)
        .expect("the string table's segment");
    entries
        .iter()
        .filter(|entry| entry.0 == 1)
        .map(|entry| {
            let name = &elf[strings + entry.1 as usize..];
            let end = name.iter().position(|&byte| byte == 0).expect("an end");
            String::from_utf8_lossy(&name[..end]).into_owned()
        })
        .collect()
}

#[test]
fn the_server_needs_no_library_of_nvidias() {
    let elf = fs::read(env!("CARGO_BIN_EXE_atelier")).expect("the program");
    let needed = needed(&elf);
    println!("{needed:?}");
    // What is looked for would be found: the C library is there.
    assert!(needed.iter().any(|name| name.starts_with("libc.so")));
    let of_nvidia = ["libcu", "libnv", "libnccl", "libmoe"];
    let found: Vec<&String> = needed
        .iter()
        .filter(|name| of_nvidia.iter().any(|start| name.starts_with(start)))
        .collect();
    assert_eq!(found.is_empty(), !cfg!(feature = "cuda"), "{found:?}");
}
