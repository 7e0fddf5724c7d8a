//! What `core` lacks on this target: clocks, compare-and-swap, and a word to the compiler.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns};

/// `CLOCK_BOOTTIME`, which counts suspended time: a ban of an hour ends in an hour. Linux 5.8.
#[inline(always)]
pub(crate) fn boot_ns() -> u64 {
    // SAFETY: a helper without arguments that any program type may call.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Nanoseconds by the kernel's timer tick, which the daemon tells: a clock that stands still for 1
/// to 10 ms at a time. `bpf_jiffies64` (Linux 5.6) is compiled to one load, where the coarse clock is
/// a call and the precise one reads the TSC: 1, 5 and 23 ns.
#[inline(always)]
pub(crate) fn coarse_ns(tick_ns: u32) -> u64 {
    // SAFETY: a helper without arguments that any program type may call.
    unsafe { bpf_jiffies64() }.wrapping_mul(u64::from(tick_ns))
}

/// `CLOCK_MONOTONIC` as of the kernel's last tick. It stands still while the machine sleeps. Linux 5.11.
#[inline(always)]
pub(crate) fn monotonic_ns() -> u64 {
    // SAFETY: a helper without arguments that any program type may call.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Reads a word that other CPUs write. LLVM can't select an atomic load for BPF; an aligned
/// 64-bit load is single-copy atomic on every architecture that runs eBPF in 64 bits.
///
/// # Safety
/// `word` points into a map value and is aligned to eight bytes.
#[inline(always)]
pub(crate) unsafe fn load(word: *const u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(word) }
}

/// Writes `new` if the word still holds `expected`; says whether it did.
///
/// `core::sync::atomic` offers no compare-exchange here; the intrinsic becomes
/// `atomic64_cmpxchg` (Linux 5.12).
///
/// # Safety
/// `word` points into a map value and is aligned to eight bytes.
#[inline(always)]
pub(crate) unsafe fn compare_and_swap(word: *mut u64, expected: u64, new: u64) -> bool {
    use core::intrinsics::{AtomicOrdering, atomic_cxchg};
    // SAFETY: the caller's promise.
    let (_, swapped) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            word, expected, new,
        )
    };
    swapped
}

/// Hides from the compiler where a packet pointer came from.
///
/// `xdp_md.data` is declared as 32 bits and becomes a 64-bit pointer by the kernel's rewrite. A
/// compiler that knows the declaration spills it as 32 bits, which the verifier refuses
/// ("invalid size of register spill").
#[inline(always)]
pub(crate) fn opaque(pointer: usize) -> usize {
    let hidden: u64;
    // A move and not an empty text: two texts in a row would share one instruction, and the
    // kernel refuses line information that names an instruction twice.
    // SAFETY: the value passes through unchanged.
    unsafe {
        core::arch::asm!(
            "{hidden} = {pointer}",
            hidden = out(reg) hidden,
            pointer = in(reg) pointer as u64,
            options(pure, nomem, nostack)
        );
    }
    hidden as usize
}

/// The offset once more, in a register that the verifier knows to be below 2¹⁵.
///
/// A compiler that has compared one copy of a value may go on with another, from the stack, of
/// which the verifier knows nothing.
#[inline(always)]
pub(crate) fn bounded(offset: usize) -> usize {
    if core::intrinsics::is_val_statically_known(offset) {
        return offset;
    }
    let mut offset = offset as u64;
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!("{0} &= 32767", inout(reg) offset, options(pure, nomem, nostack));
    }
    offset as usize
}

/// The word, of which the compiler doesn't know where it came from: see `Lines::opaque`.
#[inline(always)]
pub(crate) fn opaque_word(word: u64) -> u64 {
    opaque(word as usize) as u64
}

/// Cuts an index to the lower bits of a register, so that the verifier knows its bound.
macro_rules! cut {
    ($name:ident, $mask:literal, $doc:literal) => {
        #[doc = $doc]
        #[inline(always)]
        pub(crate) fn $name(index: u64) -> u64 {
            let mut index = index;
            // SAFETY: arithmetic on one register.
            unsafe {
                core::arch::asm!(
                    concat!("{0} &= ", $mask),
                    inout(reg) index,
                    options(pure, nomem, nostack)
                );
            }
            index
        }
    };
}

cut!(below_four, "3", "The index modulo 4.");
cut!(below_eight, "7", "The index modulo 8.");

/// One load of a word at any alignment, as eBPF defines it (RFC 9669, 5.2).
///
/// `read_unaligned` would become one load a byte, because LLVM holds unaligned loads to be
/// unavailable on this target; the kernel runs them as they are wherever the machine can.
macro_rules! unaligned_load {
    ($name:ident, $size:literal) => {
        /// # Safety
        /// The bytes at `address` were checked against the end of the packet.
        #[inline(always)]
        pub(crate) unsafe fn $name(address: usize) -> u64 {
            let word: u64;
            // SAFETY: the caller's promise; the instruction reads the packet and nothing else.
            unsafe {
                core::arch::asm!(
                    concat!("{word} = *(", $size, " *)({address} + 0)"),
                    word = out(reg) word,
                    address = in(reg) address as u64,
                    options(pure, readonly, nostack)
                );
            }
            word
        }
    };
}

unaligned_load!(load_u8, "u8");
unaligned_load!(load_u16, "u16");
unaligned_load!(load_u32, "u32");
unaligned_load!(load_u64, "u64");
