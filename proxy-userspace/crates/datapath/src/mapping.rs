//! A BPF array map of lines, mapped into this process.
#![expect(unsafe_code, reason = "memory that the kernel shares with us")]

use std::{
    os::fd::{AsFd, FromRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{MapData, MapError};
use proxy_common::{
    abi::Line,
    table::{LINE_WORDS, Lines, LinesMut},
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// What the program says of the arrays in `LISTS`. Linux before 6.2 takes only those into it that
/// are described by BTF as the first one was (`bpf_map_meta_equal`, kernel/bpf/map_in_map.c).
pub(crate) struct Template {
    definition: aya_obj::Map,
    btf: Option<OwnedFd>,
}

impl Template {
    /// `btf_id` is that of the loaded program.
    pub(crate) fn new(definition: aya_obj::Map, btf_id: Option<u32>) -> std::io::Result<Self> {
        let btf = btf_id.map(btf_by_id).transpose()?;
        Ok(Self { definition, btf })
    }
}

/// `BPF_BTF_GET_FD_BY_ID` of bpf(2), which aya keeps to itself.
fn btf_by_id(id: u32) -> std::io::Result<OwnedFd> {
    const BPF_BTF_GET_FD_BY_ID: libc::c_long = 19;
    let attributes: [u32; 4] = [id, 0, 0, 0];
    // SAFETY: the kernel reads as many bytes of the attributes as it is told there are.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_BTF_GET_FD_BY_ID,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// An array map and its memory. Lines are written with single stores, which the program on other
/// CPUs sees in the order in which they were made.
pub(crate) struct MappedArray {
    map: MapData,
    words: NonNull<AtomicU64>,
    lines: u32,
}

impl MappedArray {
    /// A new map of zeroes.
    pub(crate) fn create(template: &Template, lines: u32) -> Result<Self, MapError> {
        let mut definition = template.definition.clone();
        definition.set_max_entries(lines);
        let btf = template.btf.as_ref().map(AsFd::as_fd);
        Self::over(MapData::create(definition, "portcullis_list", btf)?, lines)
    }

    /// A map that is there.
    pub(crate) fn open(map: MapData) -> Result<Self, MapError> {
        let lines = map.info()?.max_entries();
        Self::over(map, lines)
    }

    fn over(map: MapData, lines: u32) -> Result<Self, MapError> {
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

    /// Lines that it has.
    pub(crate) fn lines(&self) -> u32 {
        self.lines
    }

    /// Makes all of it zeroes, in no order: only for a table that isn't in force.
    pub(crate) fn clear(&mut self) {
        // SAFETY: the mapping is this long, lives as long as `self`, and is borrowed by nobody else;
        // zeroes are what a word may hold.
        unsafe {
            self.words
                .as_ptr()
                .cast::<u8>()
                .write_bytes(0, bytes(self.lines))
        };
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
