//! Interfaces that are guarded: shown, added and given up while the daemon runs.

use datapath::{Attachment, AttachmentOrigin, Datapath};
use tokio::net::unix::UCred;

use super::{Admin, InterfaceStatus, Reply, server::Refused};
use crate::{
    guard::{ADDED, tell_attachment},
    state::Document,
    trail::note,
};

/// Why an interface could not be added or given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum InterfaceError {
    #[error("there is no kernel side, so no interface is guarded; see `portcullis status`")]
    NoKernel,
    #[error("{0} is written in kernel.interfaces; take it out there and start the daemon again")]
    Configured(String),
    #[error("{0} isn't guarded; `portcullis interface list` shows those that are")]
    NotGuarded(String),
}

impl Admin {
    /// The guarded interfaces.
    pub(super) fn interfaces(&self) -> Vec<InterfaceStatus> {
        let found = self.lists.with_kernel(|datapath| self.all(datapath));
        found.unwrap_or_default()
    }

    fn all(&self, datapath: &Datapath) -> Vec<InterfaceStatus> {
        let there = datapath.attachments().iter().map(|it| self.status_of(it));
        let absent = datapath.absent().map(|interface| InterfaceStatus {
            interface: interface.to_owned(),
            mode: "absent".to_owned(),
            program_id: 0,
            adopted: false,
            configured: self.configured_interfaces.contains(&interface.to_owned()),
            obstacles: Vec::new(),
        });
        there.chain(absent).collect()
    }

    fn status_of(&self, attachment: &Attachment) -> InterfaceStatus {
        InterfaceStatus {
            interface: attachment.interface.clone(),
            mode: if attachment.in_force() {
                attachment.mode.name().to_owned()
            } else {
                "none".to_owned()
            },
            program_id: attachment.program_id,
            adopted: attachment.origin == AttachmentOrigin::Adopted,
            configured: self.configured_interfaces.contains(&attachment.interface),
            obstacles: attachment
                .obstacles
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// Guards one more, also after a restart.
    pub(super) fn add_interface(&self, interface: &str, peer: &UCred) -> Result<Reply, Refused> {
        let guarded = self.lists.with_kernel(|datapath| {
            let there = datapath.attachments().iter();
            let is_there = |it: &&Attachment| it.interface == interface && it.in_force();
            match there.clone().find(is_there) {
                Some(_) => Ok(None),
                None => datapath.guard(interface).map(Some),
            }
        });
        let attachment = guarded
            .ok_or(InterfaceError::NoKernel)?
            .map_err(crate::lists::ListError::from)?;
        if !self.configured_interfaces.iter().any(|it| it == interface) {
            let document = Document::put(ADDED, interface.to_owned(), Vec::new());
            if let Err(error) = self.lists.store(vec![document]) {
                // What isn't kept is taken back, as with lists; what was guarded before stays so.
                if attachment.is_some() {
                    let _ = self.lists.with_kernel(|it| it.release(interface));
                }
                return Err(error.into());
            }
        }
        if let Some(attachment) = &attachment {
            tell_attachment(attachment, &self.journal);
        }
        let by = format!("{interface} by uid {}", peer.uid());
        note(&self.journal, "add_interface", &by);
        Ok(Reply::Interfaces {
            interfaces: self.interfaces(),
        })
    }

    /// Guards one no more that was added so.
    pub(super) fn remove_interface(&self, interface: &str, peer: &UCred) -> Result<Reply, Refused> {
        if self.configured_interfaces.iter().any(|it| it == interface) {
            return Err(InterfaceError::Configured(interface.to_owned()).into());
        }
        let document = Document::remove(ADDED, interface.to_owned());
        self.lists.store(vec![document])?;
        let released = self.lists.with_kernel(|it| it.release(interface));
        let was_guarded = released
            .ok_or(InterfaceError::NoKernel)?
            .map_err(crate::lists::ListError::from)?;
        if !was_guarded {
            return Err(InterfaceError::NotGuarded(interface.to_owned()).into());
        }
        tracing::warn!(interface, "released: its packets are judged no more");
        let by = format!("{interface} by uid {}", peer.uid());
        note(&self.journal, "remove_interface", &by);
        Ok(Reply::Interfaces {
            interfaces: self.interfaces(),
        })
    }
}
