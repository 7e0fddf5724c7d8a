//! Interfaces that come and go while the daemon runs.

use std::{fs, io};

use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;

use crate::{
    attach::{self, Attachment, await_release, held_by},
    error::{DatapathError, While as _},
    pins::{Pins, remove_pin},
    start::Datapath,
};

/// What became of a guarded interface.
#[derive(Debug)]
pub enum InterfaceEvent {
    /// It is gone.
    Gone(String),
    /// It is back, and guarded.
    Returned(Attachment),
    /// It is back and can't be guarded. Told once; tried again and again.
    Unguarded {
        /// The interface.
        interface: String,
        /// Why.
        error: DatapathError,
    },
}

/// Whether an interface is there and free for us, or ours already.
///
/// # Errors
/// [`DatapathError::UnknownInterface`], [`DatapathError::InterfaceOwned`], and
/// [`DatapathError::Kernel`] when that can't be found out.
pub fn can_guard(interface: &str, pins: &Pins) -> Result<(), DatapathError> {
    attach::inspect(interface, pins).map(drop)
}

impl Datapath {
    /// Guards one more interface from its next packet on.
    ///
    /// # Errors
    /// As [`Datapath::start`] of an interface, and [`DatapathError::Detached`] after `portcullis
    /// detach`.
    pub fn guard(&mut self, interface: &str) -> Result<Attachment, DatapathError> {
        let candidate = attach::inspect(interface, self.pins())?;
        let mut program = self.pinned_program()?;
        let attachment = attach::attach(candidate, &mut program, self.pins())?;
        self.absent.remove(interface);
        self.attachments_mut()
            .retain(|it| it.interface != interface);
        self.attachments_mut().push(attachment.clone());
        Ok(attachment)
    }

    /// Guards an interface no more. Returns whether it was guarded.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] when its pin can't be removed.
    pub fn release(&mut self, interface: &str) -> Result<bool, DatapathError> {
        // The name becomes a path: it must be one of ours, letter by letter.
        let is_guarded = self
            .attachments()
            .iter()
            .any(|it| it.interface == interface);
        if !is_guarded && !self.absent.contains_key(interface) {
            return Ok(false);
        }
        let pin = self.pins().link(interface);
        let held = held_by(&pin);
        remove_pin(&pin)?;
        if let Some(program_id) = held {
            await_release(interface, program_id);
        }
        self.absent.remove(interface);
        self.attachments_mut()
            .retain(|it| it.interface != interface);
        Ok(true)
    }

    /// Guards an interface as soon as there is one of this name.
    pub fn await_interface(&mut self, interface: &str) {
        self.absent.insert(interface.to_owned(), None);
    }

    /// Interfaces that are to be guarded and aren't there.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        self.absent.keys().map(String::as_str)
    }

    /// Looks whether interfaces have gone, and guards those that are back. One whose program somebody
    /// took off is left alone: he meant it.
    pub fn attend(&mut self) -> Vec<InterfaceEvent> {
        let mut events = Vec::new();
        if !self.pins().program().exists() {
            // `portcullis detach` took everything off.
            return events;
        }
        let gone: Vec<String> = self
            .attachments()
            .iter()
            .filter(|it| attach::is_gone(it.ifindex))
            .map(|it| it.interface.clone())
            .collect();
        for interface in gone {
            // The link went with the interface; its pin holds nothing any more.
            let _ = remove_pin(&self.pins().link(&interface));
            self.attachments_mut()
                .retain(|it| it.interface != interface);
            self.absent.insert(interface.clone(), None);
            events.push(InterfaceEvent::Gone(interface));
        }
        let awaited: Vec<String> = self.absent.keys().cloned().collect();
        for interface in awaited {
            if attach::index_of(&interface).is_err() {
                self.absent.insert(interface, None);
                continue;
            }
            match self.guard(&interface) {
                Ok(attachment) => events.push(InterfaceEvent::Returned(attachment)),
                Err(error) => {
                    let why = error.to_string();
                    let told = self.absent.insert(interface.clone(), Some(why.clone()));
                    if told.flatten() != Some(why) {
                        events.push(InterfaceEvent::Unguarded { interface, error });
                    }
                }
            }
        }
        events
    }

    fn pinned_program(&self) -> Result<Xdp, DatapathError> {
        let path = self.pins().program();
        if !fs::exists(&path).unwrap_or(false) {
            return Err(DatapathError::Detached);
        }
        Xdp::from_pin(path, XdpAttachType::Interface)
            .map_err(|error| io::Error::other(error.to_string()))
            .while_trying_to("open the pinned program")
    }
}
