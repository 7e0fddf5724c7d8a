//! The certificate of some names, once there is one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::{pki_types::ServerName, sign::CertifiedKey};

use super::{
    failure::AcmeError,
    order::Obtained,
    pending::Challenge,
    storage::{Storage, StorageError},
};
use crate::{
    certificates::{certified, is_good_for},
    validity::Validity,
};

/// Of a file with a chain.
const LAST_LINE: &str = "-----END CERTIFICATE-----";

/// A certificate that an authority issues, and where it is until then.
#[derive(Debug)]
pub struct Issued {
    names: Vec<String>,
    challenge: Challenge,
    current: ArcSwapOption<Current>,
    /// Why the one that was kept can't be used, to be told once.
    damage: Option<String>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl Issued {
    /// For these names, in canonical form; with the one that was kept, if there is one. Without the network.
    pub fn load(names: Vec<String>, challenge: Challenge, storage: &Storage) -> Self {
        let (current, damage) = match stored(&names, storage) {
            Ok(current) => (current, None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            names,
            challenge,
            current: ArcSwapOption::from_pointee(current),
            damage,
        }
    }

    /// Its names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How the authority is to check them.
    pub fn challenge(&self) -> Challenge {
        self.challenge
    }

    /// The certificate, once there is one.
    pub(crate) fn key(&self) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().as_ref()?.key))
    }

    pub(super) fn validity(&self) -> Option<Validity> {
        Some(self.current.load().as_ref()?.validity)
    }

    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Serves another one from now on, and keeps it.
    pub(super) fn exchange(
        &self,
        obtained: &Obtained,
        storage: &Storage,
    ) -> Result<Validity, AcmeError> {
        let current = current(&self.names, &obtained.chain, &obtained.key);
        let current = current.map_err(AcmeError::Useless)?;
        let validity = current.validity;
        // Kept first: one that is served will be there after a crash.
        let both = format!("{}\n{}", obtained.key.trim_end(), obtained.chain);
        let kept = storage.keep(&storage.certificate(&self.names), both.as_bytes());
        self.current.store(Some(Arc::new(current)));
        kept.map_err(AcmeError::NotKept)?;
        Ok(validity)
    }
}

/// The one that was kept. What can't be used is as good as none; the next one takes its place.
fn stored(names: &[String], storage: &Storage) -> Result<Option<Current>, StorageError> {
    let path = storage.certificate(names);
    let Some(bytes) = Storage::read(&path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    // A chain that was cut short would be one all the same.
    let current = if text.trim_end().ends_with(LAST_LINE) {
        current(names, &text, &text)
    } else {
        Err("its end is missing".to_owned())
    };
    let current = current.map_err(|problem| StorageError::Damaged { path, problem })?;
    Ok(Some(current))
}

/// A certificate that fits its key, is good for all names, and says how long; or what is wrong with it.
fn current(names: &[String], chain: &str, key: &str) -> Result<Current, String> {
    let key = certified(chain.as_bytes(), key.as_bytes()).map_err(|error| error.to_string())?;
    for name in names {
        let server = ServerName::try_from(name.as_str());
        if !server.is_ok_and(|server| is_good_for(&key, &server)) {
            return Err(format!("it isn't good for {name}"));
        }
    }
    let validity = key.cert.first().and_then(Validity::of);
    let validity = validity.ok_or("it doesn't say how long it is good")?;
    Ok(Current { key, validity })
}
