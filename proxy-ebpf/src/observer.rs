//! Who hears what each stage decides: nobody, unless somebody traces.

use proxy_common::{Listing, Reason, Room, Source, Transport};

/// Hears what each stage decided.
pub(crate) trait Observer: Copy {
    /// The packet's source, which says whether anybody wants to know.
    fn met(self, source: Source, frame_bytes: u64) -> Self;
    /// What the lists hold of it.
    fn listed(self, listing: Listing);
    /// What kind of packet it is to limits and scope.
    fn classed(self, transport: Transport);
    /// What the limits make of it.
    fn limited(self, room: Room);
    /// The verdict.
    fn decided(self, reason: Reason, monitored: bool);
}

/// Hears nothing, and leaves no instruction in the program.
#[cfg_attr(
    feature = "trace",
    expect(dead_code, reason = "the traced program has another observer")
)]
#[derive(Clone, Copy)]
pub(crate) struct Silent;

impl Observer for Silent {
    #[inline(always)]
    fn met(self, _: Source, _: u64) -> Self {
        self
    }

    #[inline(always)]
    fn listed(self, _: Listing) {}

    #[inline(always)]
    fn classed(self, _: Transport) {}

    #[inline(always)]
    fn limited(self, _: Room) {}

    #[inline(always)]
    fn decided(self, _: Reason, _: bool) {}
}
