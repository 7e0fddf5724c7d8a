//! Lists while one process hands over to the next: asked as before, changed by nobody but the one that has
//! the state and the kernel's tables.

use datapath::Rules;

use super::Lists;
use crate::state::StateError;

/// How the kernel side was when it was let go of.
#[derive(Clone, Debug)]
pub(crate) struct LetGo {
    pub(crate) rules: Rules,
    pub(crate) guarded: Vec<String>,
    /// Interfaces that weren't there.
    pub(crate) absent: Vec<String>,
}

impl Lists {
    /// Lets go of the state and of the kernel side, when a change that is being made is done. What is
    /// attached stays so; later changes are refused. Returns how the kernel side was, where there is one.
    pub(crate) fn hand_over(&self) -> Option<LetGo> {
        let mut writer = self.writer();
        writer.state.hand_over();
        let datapath = writer.datapath.take()?;
        let guarded = datapath.attachments().iter();
        Some(LetGo {
            rules: *datapath.rules(),
            guarded: guarded.map(|it| it.interface.clone()).collect(),
            absent: datapath.absent().map(str::to_owned).collect(),
        })
    }

    /// Takes the state back. The kernel side is started again as at any start.
    pub(crate) fn take_back(&self) -> Result<(), StateError> {
        self.writer().state.take_back()
    }
}
