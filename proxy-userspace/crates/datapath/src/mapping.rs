//! A BPF array map of lines, mapped into this process.
#![expect(unsafe_code, reason = "memory that the kernel shares with us")]

use std::{
    os::fd::AsFd as _,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{MapData, MapError};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use proxy_common::{
    abi::{Line, TABLE_FLAGS},
    table::{LINE_WORDS, Lines, LinesMut},
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An array map and its memory. Lines are written with single stores, which the program on other
/// CPUs sees in the order in which they were made.
pub(crate) struct MappedArray {
    map: MapData,
    words: NonNull<AtomicU64>,
    lines: u32,
}

impl MappedArray {
    /// A new map of zeroes.
    pub(crate) fn create(lines: u32) -> Result<Self, MapError> {
        let definition = aya_obj::Map::new_from_params(
            BPF_MAP_TYPE_ARRAY as u32,
            size_of::<u32>() as u32,
            size_of::<Line>() as u32,
            lines,
            TABLE_FLAGS,
        );
        let map = MapData::create(definition, "portcullis_list", None)?;
        // SAFETY: a mapping at an address that the kernel chooses; nothing of ours lies there.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes(lines),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .map_err(|error| MapError::IoError(error.into()))?;
        let words = NonNull::new(address.cast())
            .ok_or_else(|| MapError::IoError(std::io::ErrorKind::OutOfMemory.into()))?;
        Ok(Self { map, words, lines })
    }

    /// The map.
    pub(crate) fn map(&self) -> &MapData {
        &self.map
    }

    /// Memory of the lines.
    pub(crate) fn bytes(&self) -> u64 {
        bytes(self.lines) as u64
    }

    fn at(&self, line: u32, index: usize) -> &AtomicU64 {
        assert!(line < self.lines && index < LINE_WORDS);
        // SAFETY: the assertion keeps the offset inside the mapping.
        let word = unsafe { self.words.add(line as usize * LINE_WORDS + index) };
        // SAFETY: the mapping is aligned to a page, lives as long as `self`, and every word of it
        // is only ever accessed atomically, here and by aligned 64-bit loads of the program.
        unsafe { word.as_ref() }
    }
}

fn bytes(lines: u32) -> usize {
    // The kernel maps whole pages, and refuses more than the array has.
    lines as usize * size_of::<Line>()
}

impl Drop for MappedArray {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `create` with this length, and nothing borrows it.
        // It can't fail for such arguments; if it did, memory would stay mapped.
        let _ = unsafe { munmap(self.words.as_ptr().cast(), bytes(self.lines)) };
    }
}

// SAFETY: the memory is only accessed through atomics; the map is a file descriptor.
unsafe impl Send for MappedArray {}
// SAFETY: as above.
unsafe impl Sync for MappedArray {}

impl Lines for MappedArray {
    type Line = u32;

    fn line(&self, index: u32) -> Option<u32> {
        (index < self.lines).then_some(index)
    }

    fn word(&self, line: u32, index: usize) -> u64 {
        self.at(line, index).load(Ordering::Acquire)
    }
}

impl LinesMut for MappedArray {
    fn store(&mut self, line: u32, index: usize, word: u64) {
        self.at(line, index).store(word, Ordering::Release);
    }
}
