//! Starting the kernel side: adopt or load, settle, attach.

use std::{collections::BTreeMap, io};

use aya::{
    EbpfLoader,
    maps::{Array, MapData, PerCpuArray},
    programs::{ProgramError, Xdp},
};
use aya_obj::Object;
use proxy_common::{Counter, Limit, Settings, abi::RATE_SETS, bucket::WAYS};

use crate::{
    attach::{self, Attachment},
    counters::{self, ReasonCount, Samples},
    error::{DatapathError, While as _},
    heartbeat::Heartbeat,
    mapping::Template,
    object::embedded_object,
    pins::{Adoption, Pins, is_pinned, remove_pin},
    rules::Rules,
    tables::Tables,
    truth::Truth,
};

/// `XDP_DROP` and `XDP_PASS` of linux/bpf.h.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// What becomes of packets that the program admits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admitted {
    /// They go on to the network stack.
    #[default]
    Pass,
    /// They are dropped after they were counted as admitted, so that a benchmark measures the
    /// program and not the stack behind it. Of no use to anybody else.
    Drop,
}

/// What to guard.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to pin.
    pub pins: Pins,
    /// Interfaces to attach to, by name.
    pub interfaces: Vec<String>,
    /// Rules in force from the first packet on.
    pub rules: Rules,
    /// What becomes of admitted packets.
    pub admitted: Admitted,
    /// Key of the limiter's hash, used when no earlier run left one.
    pub hash_key: [u64; 2],
}

/// The running kernel side.
pub struct Datapath {
    tables: Tables,
    settings: Array<MapData, Settings>,
    buckets: Array<MapData, [u64; WAYS]>,
    counters: PerCpuArray<MapData, Counter>,
    samples: Option<Samples>,
    heartbeat: Option<Heartbeat>,
    attachments: Vec<Attachment>,
    /// Interfaces that aren't there, and why one that is there can't be guarded.
    pub(crate) absent: BTreeMap<String, Option<String>>,
    detached: Vec<String>,
    pins: Pins,
    rules: Rules,
}

impl Datapath {
    /// Loads the program, or takes over what an earlier run left pinned, makes the tables say
    /// what `truth` says, and attaches to every interface. Interfaces that were guarded by an
    /// earlier run and are not named any more are released.
    ///
    /// Everything is inspected before anything is changed, and tables and settings are right
    /// before the first packet meets the new program, so a takeover leaves no gap.
    ///
    /// # Errors
    /// See [`DatapathError`]; after one, what an earlier run attached is still attached.
    pub fn start(options: Options, truth: &Truth) -> Result<Self, DatapathError> {
        let Options {
            pins,
            interfaces,
            rules,
            admitted,
            hash_key,
        } = options;
        let bytes = embedded_object()?;
        let object = Object::parse(bytes)
            .map_err(aya::EbpfError::ParseError)
            .while_trying_to("parse the embedded program")?;
        let candidates = interfaces
            .iter()
            .map(|interface| attach::inspect(interface, &pins))
            .collect::<Result<Vec<_>, _>>()?;
        let hash_key = prepare_pins(&pins, &object)?.unwrap_or(hash_key);

        let mut loader = EbpfLoader::new();
        for name in object.maps.keys().filter(|name| is_pinned(name)) {
            loader.map_pin_path(name, pins.map(name));
        }
        let action = match admitted {
            Admitted::Pass => XDP_PASS,
            Admitted::Drop => XDP_DROP,
        };
        loader.override_global("ADMITTED_ACTION", &action, true);
        let mut ebpf = loader.load(bytes).while_trying_to("load the maps")?;
        let mut take = |name: &'static str| {
            ebpf.take_map(name)
                .ok_or_else(|| aya::maps::MapError::InvalidName { name: name.into() })
        };
        let lists = take("LISTS").while_trying_to("open the list tables")?;
        let settings = take("SETTINGS")
            .and_then(Array::try_from)
            .while_trying_to("open the settings")?;
        let buckets = take("RATE_BUCKETS")
            .and_then(Array::try_from)
            .while_trying_to("open the limits' buckets")?;
        let counters = take("COUNTERS")
            .and_then(PerCpuArray::try_from)
            .while_trying_to("open the counters")?;
        let samples = take("SAMPLES")
            .and_then(Samples::new)
            .while_trying_to("open the drop samples")?;
        let mut heartbeat = take("HEARTBEAT")
            .and_then(Heartbeat::new)
            .while_trying_to("open the heartbeat")?;
        let program: &mut Xdp = ebpf
            .program_mut("portcullis")
            .ok_or_else(|| ProgramError::NotLoaded)
            .and_then(TryInto::try_into)
            .while_trying_to("find the XDP program")?;
        despite_signals(|| program.load()).while_trying_to("load the XDP program")?;

        let definition = object
            .maps
            .get("LISTS")
            .and_then(aya_obj::Map::inner)
            .ok_or_else(|| io::Error::other("the object describes no tables in LISTS"))
            .while_trying_to("read the embedded program")?;
        let btf_id = program
            .info()
            .while_trying_to("read the loaded program")?
            .btf_id();
        let template =
            Template::new(definition, btf_id).while_trying_to("open the program's BTF")?;
        // Before the settings that may ask for it.
        heartbeat.beat()?;
        let mut datapath = Self {
            tables: Tables::new(lists, template, truth)?,
            settings,
            buckets,
            counters,
            samples: Some(samples),
            heartbeat: Some(heartbeat),
            attachments: Vec::new(),
            absent: BTreeMap::new(),
            detached: Vec::new(),
            pins,
            rules,
        };
        let before = datapath
            .settings
            .get(&0, 0)
            .while_trying_to("read the settings")?;
        datapath.write_settings(hash_key, &rules)?;
        datapath.forget_other_than(&before)?;
        for candidate in candidates {
            match attach::attach(candidate, program, &datapath.pins) {
                Ok(attachment) => datapath.attachments.push(attachment),
                Err(error) => {
                    datapath.undo_fresh_attachments();
                    return Err(error);
                }
            }
        }
        datapath.pin_program(program)?;
        datapath.release_others(&interfaces)?;
        Ok(datapath)
    }

    /// The list tables.
    pub fn tables(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// The guarded interfaces.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    pub(crate) fn attachments_mut(&mut self) -> &mut Vec<Attachment> {
        &mut self.attachments
    }

    /// Interfaces of an earlier run that this start released.
    pub fn released(&self) -> &[String] {
        &self.detached
    }

    /// Where everything is pinned.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Puts other rules in force for the next packet. A limit whose rate or burst changes forgets
    /// what every source has used up: what lies an hour ahead by a slow rate would hold up newcomers
    /// for an hour by a fast one.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when the settings or buckets can't be read or written.
    pub fn set_rules(&mut self, rules: &Rules) -> Result<(), DatapathError> {
        let before = self
            .settings
            .get(&0, 0)
            .while_trying_to("read the settings")?;
        self.write_settings(before.hash_key, rules)?;
        self.rules = *rules;
        self.forget_other_than(&before)
    }

    /// Empties the buckets of limits that are others than in earlier settings.
    fn forget_other_than(&mut self, before: &Settings) -> Result<(), DatapathError> {
        let now = self.rules.settings(before.hash_key);
        for limit in Limit::ALL {
            let at = limit as usize;
            // Fresh maps have no settings, and nothing to forget.
            if before.abi_version == 0 || before.limits[at].gcra == now.limits[at].gcra {
                continue;
            }
            let first = limit as u32 * RATE_SETS;
            for set in first..first + RATE_SETS {
                self.buckets
                    .set(set, [0; WAYS], 0)
                    .while_trying_to("empty the buckets of a limit")?;
            }
        }
        Ok(())
    }

    /// What every reason has counted since the maps were made, over restarts.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`] when the counters can't be read.
    pub fn counters(&self) -> Result<Vec<ReasonCount>, DatapathError> {
        counters::read(&self.counters).while_trying_to("read the counters")
    }

    /// The ring of drop samples; only the first call gets it.
    pub fn take_samples(&mut self) -> Option<Samples> {
        self.samples.take()
    }

    /// What gives signs of life; only the first call gets it.
    pub fn take_heartbeat(&mut self) -> Option<Heartbeat> {
        self.heartbeat.take()
    }

    fn write_settings(&mut self, hash_key: [u64; 2], rules: &Rules) -> Result<(), DatapathError> {
        self.settings
            .set(0, rules.settings(hash_key), 0)
            .while_trying_to("write the settings")
    }

    fn pin_program(&self, program: &mut Xdp) -> Result<(), DatapathError> {
        let path = self.pins.program();
        remove_pin(&path)?;
        program.pin(&path).while_trying_to("pin the program")
    }

    fn release_others(&mut self, interfaces: &[String]) -> Result<(), DatapathError> {
        for pinned in self.pins.interfaces()? {
            if !interfaces.contains(&pinned) {
                remove_pin(&self.pins.link(&pinned))?;
                self.detached.push(pinned);
            }
        }
        Ok(())
    }

    /// Takes back what this start attached; adopted links stay, they were in force before.
    fn undo_fresh_attachments(&self) {
        for attachment in &self.attachments {
            if attachment.origin != attach::AttachmentOrigin::Adopted {
                // The caller is about to hear the first error, which says more than this one.
                let _ = remove_pin(&self.pins.link(&attachment.interface));
            }
        }
    }
}

/// Whether a start would go through, as far as that can be told without changing anything.
///
/// # Errors
/// As [`Datapath::start`].
pub fn can_start(pins: &Pins, interfaces: &[String]) -> Result<(), DatapathError> {
    let object = Object::parse(embedded_object()?)
        .map_err(aya::EbpfError::ParseError)
        .while_trying_to("parse the embedded program")?;
    for interface in interfaces {
        attach::inspect(interface, pins)?;
    }
    match pins.adoption(&object)? {
        Adoption::Incompatible(difference) if !pins.interfaces()?.is_empty() => {
            Err(DatapathError::IncompatiblePins {
                path: pins.root().to_path_buf(),
                difference,
            })
        }
        _ => Ok(()),
    }
}

/// Loads again where a signal cut the verifier short.
///
/// It gives up with `EAGAIN` when one is pending (Linux commit c3494801cd17). libbpf tries five
/// times; aya tries twice, the second time slower because it asks for the verifier's log.
pub(crate) fn despite_signals(
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    const TRIES: usize = 5;
    for _ in 1..TRIES {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            settled => return settled,
        }
    }
    load()
}

/// Makes the pin directory fit for loading; returns the hash key of the run that is adopted.
fn prepare_pins(pins: &Pins, object: &Object) -> Result<Option<[u64; 2]>, DatapathError> {
    match pins.adoption(object)? {
        Adoption::Adoptable { hash_key } => return Ok(Some(hash_key)),
        Adoption::Nothing => {}
        Adoption::Incompatible(difference) => {
            if !pins.interfaces()?.is_empty() {
                return Err(DatapathError::IncompatiblePins {
                    path: pins.root().to_path_buf(),
                    difference,
                });
            }
            // Nothing is attached, so nothing is being dropped: a start that died half-way.
            pins.remove_all()?;
        }
    }
    pins.create()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads that fail with this error a number of times first; returns the tries it took.
    fn tries(failures: usize, kind: io::ErrorKind) -> (usize, bool) {
        let mut tries = 0;
        let outcome = despite_signals(|| {
            tries += 1;
            if tries > failures {
                return Ok(());
            }
            Err(ProgramError::LoadError {
                io_error: kind.into(),
                verifier_log: aya_obj::VerifierLog::new(String::new()),
            })
        });
        (tries, outcome.is_ok())
    }

    #[test]
    fn a_load_that_a_signal_cut_short_is_tried_again_up_to_a_bound() {
        assert_eq!(tries(0, io::ErrorKind::WouldBlock), (1, true));
        assert_eq!(tries(4, io::ErrorKind::WouldBlock), (5, true));
        assert_eq!(tries(9, io::ErrorKind::WouldBlock), (5, false));
    }

    #[test]
    fn a_load_that_the_verifier_refused_is_not_tried_again() {
        assert_eq!(tries(9, io::ErrorKind::PermissionDenied), (1, false));
    }
}
