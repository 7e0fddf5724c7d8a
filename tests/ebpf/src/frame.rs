//! Reading and writing packet bytes: one instruction a word, whatever its alignment.

use aya_ebpf::programs::XdpContext;

/// EtherType of IPv4, in network byte order.
const IPV4: u16 = 0x0800_u16.to_be();
/// EtherType of IPv6, in network byte order.
const IPV6: u16 = 0x86dd_u16.to_be();

/// Where an untagged frame has its EtherType.
const ETHERTYPE: usize = 12;
/// Where an untagged frame has its IP header.
const IP: usize = 14;
/// Bytes up to the end of an IPv4 header without options.
pub(crate) const V4_HEADERS: usize = IP + 20;
/// Bytes up to the end of an IPv6 header.
pub(crate) const V6_HEADERS: usize = IP + 40;
/// Where an IPv4 header has its checksum (RFC 791).
pub(crate) const V4_CHECKSUM: usize = IP + 10;
/// Where an IPv4 header has its source.
pub(crate) const V4_SOURCE: usize = IP + 12;
/// Where an IPv6 header has its source (RFC 8200).
pub(crate) const V6_SOURCE: usize = IP + 8;

/// A source address in network byte order.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// IPv4.
    V4(u32),
    /// IPv6, first half first.
    V6(u64, u64),
}

/// A frame that a program was given.
pub(crate) struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        Self {
            start: opaque(context.data()),
            end: opaque(context.data_end()),
        }
    }

    /// The frame as another program type hands it over.
    #[inline(always)]
    pub(crate) fn between(start: usize, end: usize) -> Self {
        Self {
            start: opaque(start),
            end: opaque(end),
        }
    }

    /// Where the frame begins, if it has at least `bytes`.
    #[inline(always)]
    pub(crate) fn holding(&self, bytes: usize) -> Option<usize> {
        (self.start + bytes <= self.end).then_some(self.start)
    }

    /// Who sent it, where an IP header follows the Ethernet header.
    #[inline(always)]
    pub(crate) fn source(&self) -> Option<Source> {
        let start = self.holding(V4_HEADERS)?;
        // SAFETY: `holding` has checked these bytes, here and below.
        let ethertype = unsafe { load_u16(start + ETHERTYPE) } as u16;
        if ethertype == IPV4 {
            // SAFETY: as above.
            return Some(Source::V4(unsafe { load_u32(start + V4_SOURCE) } as u32));
        }
        if ethertype != IPV6 {
            return None;
        }
        let start = self.holding(V6_HEADERS)?;
        // SAFETY: as above.
        let high = unsafe { load_u64(start + V6_SOURCE) };
        // SAFETY: as above.
        let low = unsafe { load_u64(start + V6_SOURCE + 8) };
        Some(Source::V6(high, low))
    }
}

/// Hides from the compiler where a packet pointer came from: it would spill the field of
/// `xdp_md` as the 32 bits it is declared with, and the verifier refuses that.
///
/// A move to itself rather than no instruction: the kernel refuses two line records at one
/// instruction, and every statement of assembly has one.
#[inline(always)]
fn opaque(pointer: usize) -> usize {
    let mut pointer = pointer as u64;
    // SAFETY: the value passes through unchanged.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) pointer, options(pure, nomem, nostack)) };
    pointer as usize
}

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
                    // Not `pure`: a ceiling that reads nothing would be no ceiling.
                    options(readonly, nostack)
                );
            }
            word
        }
    };
}

macro_rules! unaligned_store {
    ($name:ident, $size:literal) => {
        /// # Safety
        /// The bytes at `address` were checked against the end of the packet.
        #[inline(always)]
        pub(crate) unsafe fn $name(address: usize, word: u64) {
            // SAFETY: the caller's promise; the instruction writes the packet and nothing else.
            unsafe {
                core::arch::asm!(
                    concat!("*(", $size, " *)({address} + 0) = {word}"),
                    word = in(reg) word,
                    address = in(reg) address as u64,
                    options(nostack)
                );
            }
        }
    };
}

unaligned_load!(load_u16, "u16");
unaligned_load!(load_u32, "u32");
unaligned_load!(load_u64, "u64");
unaligned_store!(store_u16, "u16");
unaligned_store!(store_u32, "u32");
unaligned_store!(store_u64, "u64");
