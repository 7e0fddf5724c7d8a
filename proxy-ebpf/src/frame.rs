//! The one place where packet bytes are read.

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};
use proxy_common::{Bytes, Reason, Upper, upper};

use crate::machine;

/// Offsets past this are refused before any pointer is made. The verifier gives up on packet
/// pointers whose variable part may exceed 65,535 (`MAX_PACKET_OFF`, kernel/bpf/verifier.c);
/// eight extension headers of 2,048 bytes behind two VLAN tags stay below.
const MAX_OFFSET: usize = 0x7fff;

/// A received frame.
pub(crate) struct Frame<'a> {
    context: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self {
            context,
            start: machine::opaque(context.data()),
            end: machine::opaque(context.data_end()),
        }
    }

    /// Index of the interface the frame came in on.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: `ctx` is the `xdp_md` that the kernel passed to this program and is valid for
        // as long as it runs.
        unsafe { (*self.context.ctx).ingress_ifindex }
    }
}

impl Frame<'_> {
    /// The address of `N` bytes at `offset`, all of them inside the frame.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<usize> {
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.start + machine::bounded(offset);
        (start + N <= self.end).then_some(start)
    }
}

impl Bytes for Frame<'_> {
    #[inline(always)]
    fn u8(&self, offset: usize) -> Option<u8> {
        // SAFETY: `at` has checked one byte.
        self.at::<1>(offset)
            .map(|address| unsafe { machine::load_u8(address) } as u8)
    }

    #[inline(always)]
    fn u16(&self, offset: usize) -> Option<u16> {
        // SAFETY: `at` has checked two bytes.
        self.at::<2>(offset)
            .map(|address| unsafe { machine::load_u16(address) } as u16)
            .map(u16::from_be)
    }

    #[inline(always)]
    fn u32(&self, offset: usize) -> Option<u32> {
        // SAFETY: `at` has checked four bytes.
        self.at::<4>(offset)
            .map(|address| unsafe { machine::load_u32(address) } as u32)
            .map(u32::from_be)
    }

    #[inline(always)]
    fn u64(&self, offset: usize) -> Option<u64> {
        // SAFETY: `at` has checked eight bytes.
        self.at::<8>(offset)
            .map(|address| unsafe { machine::load_u64(address) })
            .map(u64::from_be)
    }

    #[inline(always)]
    fn frame_bytes(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn whole_bytes(&self) -> usize {
        // SAFETY: as in `ifindex`; the helper (Linux 5.18) reads the frame's own bookkeeping.
        unsafe { bpf_xdp_get_buff_len(self.context.ctx) as usize }
    }

    #[inline(always)]
    fn walk_extensions(&self, next_header: u8, offset: usize, end: usize) -> Result<Upper, Reason> {
        let (next_header, offset) = (u64::from(next_header), offset as u64);
        let word = portcullis_extensions(self.context.ctx, next_header, offset, end as u64);
        Upper::unpack(word)
    }
}

/// Walks IPv6 extension headers; answers with a packed [`Upper`].
///
/// A global function, which the verifier proves once by itself. As part of the program, the walk's
/// many ends times all that can follow take it past a million steps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn portcullis_extensions(
    context: *mut xdp_md,
    next_header: u64,
    offset: u64,
    end: u64,
) -> u64 {
    let context = XdpContext::new(context);
    let frame = Frame::new(&context);
    let offset = offset as usize;
    if offset > MAX_OFFSET {
        return Upper::pack(Err(Reason::Malformed));
    }
    Upper::pack(upper::walk_extensions(
        &frame,
        next_header as u8,
        offset,
        end as usize,
    ))
}
