//! The real program on the real maps, attached to nothing: frames are handed to it one by one.

use std::error::Error;

use aya::{TestRun as _, TestRunOptions, programs::Xdp};
use aya_obj::programs::XdpAttachType;
use datapath::{Admitted, Datapath, Options, Pins, ReasonCount, Rules, Truth};
use proxy_common::Reason;

/// Whatever went wrong; a test prints it.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Shortest frame the kernel runs a program on: an Ethernet header (`ETH_HLEN`,
/// `bpf_prog_test_run_xdp` in net/bpf/test_run.c).
pub const SHORTEST_FRAME_BYTES: usize = 14;

/// The hash key that a start of this rig brings along.
pub const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// `enum xdp_action` of linux/bpf.h.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// What a start asks for that attaches to nothing and limits nothing.
pub fn options(pins: Pins) -> Options {
    Options {
        pins,
        interfaces: Vec::new(),
        rules: Rules::NONE,
        admitted: Admitted::Pass,
        hash_key: HASH_KEY,
    }
}

/// A started kernel side, and its program to run frames through.
pub struct Loaded {
    /// The kernel side.
    pub datapath: Datapath,
    program: Xdp,
}

impl Loaded {
    /// Starts the kernel side and opens the program it pinned.
    ///
    /// # Errors
    /// When the start fails or the program isn't pinned where it should be.
    pub fn start(options: Options, truth: &Truth) -> Result<Self, Failure> {
        let datapath = Datapath::start(options, truth)?;
        let pinned = datapath.pins().root().join("program");
        let program = Xdp::from_pin(pinned, XdpAttachType::Interface)?;
        Ok(Self { datapath, program })
    }

    /// Runs one frame through the program and returns the reason it gave; one that was only watched
    /// is an error.
    ///
    /// # Errors
    /// As [`Self::judge_all`], and when the packet would have been dropped.
    pub fn judge(&self, frame: &[u8]) -> Result<Reason, Failure> {
        match self.judge_all(frame)? {
            (reason, false) => Ok(reason),
            (reason, true) => Err(format!("{} was only watched", reason.name()).into()),
        }
    }

    /// Runs one frame through the program and returns the reason it gave, and whether it only would
    /// have dropped.
    ///
    /// # Errors
    /// Unless exactly one reason rose, by one packet and by the frame's length, and the action is
    /// the one that belongs to it.
    pub fn judge_all(&self, frame: &[u8]) -> Result<(Reason, bool), Failure> {
        let before = self.datapath.counters()?;
        let action = self.run(frame)?;
        let risen = rises(&before, &self.datapath.counters()?);
        let [one] = risen[..] else {
            return Err(format!("one reason should have risen, but: {risen:?}").into());
        };
        if (one.packets, one.bytes) != (1, frame.len() as u64) {
            return Err(format!("a frame of {} bytes counted as {one:?}", frame.len()).into());
        }
        let expected = if one.reason.drops() && !one.monitored {
            XDP_DROP
        } else {
            XDP_PASS
        };
        if action != expected {
            return Err(format!(
                "reason {} goes with XDP action {expected}, the program returned {action}",
                one.reason.name()
            )
            .into());
        }
        Ok((one.reason, one.monitored))
    }

    /// Runs one frame and wants this reason.
    ///
    /// # Errors
    /// As [`Self::judge`], and when the reason is another; shows the frame.
    pub fn expect(&self, frame: &[u8], expected: Reason) -> Result<(), Failure> {
        match self.judge(frame) {
            Ok(found) if found == expected => Ok(()),
            Ok(found) => Err(format!(
                "expected {}, got {} for {}",
                expected.name(),
                found.name(),
                hex(frame)
            )
            .into()),
            Err(error) => Err(format!("{error}, for {}", hex(frame)).into()),
        }
    }

    /// Runs one frame and wants this reason, only watched: the packet passes.
    ///
    /// # Errors
    /// As [`Self::judge_all`], and when the reason is another or was enforced; shows the frame.
    pub fn expect_watched(&self, frame: &[u8], expected: Reason) -> Result<(), Failure> {
        match self.judge_all(frame)? {
            (found, true) if found == expected => Ok(()),
            (found, watched) => Err(format!(
                "expected {} watched, got {} (watched: {watched}) for {}",
                expected.name(),
                found.name(),
                hex(frame)
            )
            .into()),
        }
    }

    /// Runs one frame and tells whether it is dropped, without a look at the counters.
    ///
    /// # Errors
    /// When the kernel refuses to run it.
    pub fn drops(&self, frame: &[u8]) -> Result<bool, Failure> {
        Ok(self.run(frame)? == XDP_DROP)
    }

    fn run(&self, frame: &[u8]) -> Result<u32, Failure> {
        run(&self.program, frame)
    }

    /// Another handle to the same program, for another thread.
    ///
    /// # Errors
    /// When the program isn't pinned where it should be.
    pub fn prober(&self) -> Result<Prober, Failure> {
        let pinned = self.datapath.pins().root().join("program");
        let program = Xdp::from_pin(pinned, XdpAttachType::Interface)?;
        Ok(Prober { program })
    }
}

/// Runs frames while somebody else changes what the program judges by.
pub struct Prober {
    program: Xdp,
}

impl Prober {
    /// See [`Loaded::drops`].
    ///
    /// # Errors
    /// As there.
    pub fn drops(&self, frame: &[u8]) -> Result<bool, Failure> {
        Ok(run(&self.program, frame)? == XDP_DROP)
    }
}

fn run(program: &Xdp, frame: &[u8]) -> Result<u32, Failure> {
    // The kernel writes the frame back where it is given room, and refuses too little.
    let run = program.test_run(TestRunOptions {
        data_in: Some(frame),
        ..TestRunOptions::new()
    })?;
    Ok(run.return_value)
}

/// What rose between two readings, and by how much.
fn rises(before: &[ReasonCount], after: &[ReasonCount]) -> Vec<ReasonCount> {
    before
        .iter()
        .zip(after)
        .filter(|(before, after)| before != after)
        .map(|(before, after)| ReasonCount {
            reason: after.reason,
            monitored: after.monitored,
            packets: after.packets.wrapping_sub(before.packets),
            bytes: after.bytes.wrapping_sub(before.bytes),
        })
        .collect()
}

fn hex(frame: &[u8]) -> String {
    let shown: Vec<String> = frame
        .chunks(2)
        .take(64)
        .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let rest = if frame.len() > 128 { " …" } else { "" };
    format!("{} bytes: {}{rest}", frame.len(), shown.join(" "))
}
