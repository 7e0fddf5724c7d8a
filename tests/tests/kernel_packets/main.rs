//! What the real program answers to one frame, on the real maps: a row is a sentence, the frame it
//! is about, and the reason the kernel must give. Each row also proves the XDP action that belongs
//! to the reason, and that this reason and no other was counted, by one packet and its bytes.
//!
//! ```text
//! lists     what is trusted, blocked and banned, for all rows; ranges to their last address
//! ethernet  what isn't IP, and VLAN tags
//! ipv4      headers, options, fragments, path-MTU messages, tunnels
//! ipv6      headers, extension chains, fragments, neighbour discovery, path-MTU messages
//! large     jumbo frames in several buffers
//!
//! play        what the scenes below have in common, several frames and changes in turn
//! truncation  frames cut off at every byte
//! bursts      the limit on packets of a source
//! limits      every kind of limit
//! scope       new inbound connections only
//! monitor     lists that only watch
//! samples     samples of drops
//! everything  a block of every address
//! flood       spoofed sources
//! ```

mod bursts;
mod ethernet;
mod everything;
mod flood;
mod ipv4;
mod ipv6;
mod large;
mod limits;
mod lists;
mod monitor;
mod play;
mod samples;
mod scope;
mod truncation;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use datapath::{Samples, Truth};
use libtest_mimic::{Arguments, Failed, Trial};
use portcullis_tests::{
    bpffs::Bpffs,
    loaded::{Failure, Loaded, options},
    privilege::why_no_kernel,
};
use proxy_common::Reason;

/// A sentence, the frame it is about, and what the kernel must make of it.
struct Row {
    sentence: &'static str,
    frame: Vec<u8>,
    expected: Reason,
}

fn row(sentence: &'static str, frame: Vec<u8>, expected: Reason) -> Row {
    Row {
        sentence,
        frame,
        expected,
    }
}

/// A sentence that takes more than one frame.
struct Scene {
    sentence: &'static str,
    play: fn(&mut Kernel) -> Result<(), Failure>,
}

/// The loaded program with the lists of [`lists::truth`]. Fields drop in this order.
struct Kernel {
    loaded: Loaded,
    truth: Truth,
    samples: Samples,
    _bpffs: Bpffs,
}

impl Kernel {
    fn start() -> Result<Self, Failure> {
        let bpffs = Bpffs::mount()?;
        let truth = lists::truth();
        let mut loaded = Loaded::start(options(bpffs.pins()), &truth)?;
        let samples = loaded.datapath.take_samples().ok_or("no ring of samples")?;
        Ok(Self {
            loaded,
            truth,
            samples,
            _bpffs: bpffs,
        })
    }
}

fn rows() -> Vec<Row> {
    [
        ethernet::rows(),
        ipv4::rows(),
        ipv6::rows(),
        lists::rows(),
        large::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn scenes() -> impl Iterator<Item = &'static Scene> {
    [
        truncation::SCENES,
        bursts::SCENES,
        limits::SCENES,
        scope::SCENES,
        monitor::SCENES,
        samples::SCENES,
        everything::SCENES,
        flood::SCENES,
    ]
    .into_iter()
    .flatten()
}

fn trials() -> Vec<Trial> {
    if let Some(reason) = why_no_kernel() {
        eprintln!("kernel_packets: skipped: {reason}");
        return sentences().map(ignored).collect();
    }
    let kernel = match Kernel::start() {
        Ok(kernel) => Arc::new(Mutex::new(kernel)),
        Err(error) => {
            let broken = "the program loads and its tables are filled";
            return vec![Trial::test(broken, move || Err(Failed::from(error)))];
        }
    };
    let rows = rows().into_iter().map(|row| {
        let kernel = Arc::clone(&kernel);
        trial(row.sentence, move || {
            let kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            kernel.loaded.expect(&row.frame, row.expected)
        })
    });
    let scenes = scenes().map(|scene| {
        let kernel = Arc::clone(&kernel);
        trial(scene.sentence, move || {
            let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            (scene.play)(&mut kernel)
        })
    });
    rows.chain(scenes).collect()
}

fn sentences() -> impl Iterator<Item = &'static str> {
    let rows = rows().into_iter().map(|row| row.sentence);
    rows.chain(scenes().map(|scene| scene.sentence))
}

fn ignored(sentence: &'static str) -> Trial {
    Trial::test(sentence, || Ok(())).with_ignored_flag(true)
}

fn trial(
    sentence: &'static str,
    run: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Trial {
    Trial::test(sentence, move || run().map_err(Failed::from))
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // All trials read the counters of one program.
    arguments.test_threads = Some(1);
    let trials = if arguments.list {
        sentences().map(ignored).collect()
    } else {
        trials()
    };
    // Not `exit()`: the filesystem has to be unmounted first.
    libtest_mimic::run(&arguments, trials).exit_code()
}
