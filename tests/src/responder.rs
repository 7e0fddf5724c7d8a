//! An authority that issues certificates for servers and says which of them are good: openssl, all of it.

use std::{path::PathBuf, process::Command};

use crate::{
    run::{RigError, Rigged, succeed},
    scratch::Scratch,
};

/// Arguments for a new key of the kind that all have here.
const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

/// What openssl calls the states of a certificate in the authority's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Issued and not revoked.
    Good,
    /// Revoked.
    Revoked,
    /// Never heard of.
    Unknown,
}

/// An authority.
pub struct Responder {
    folder: PathBuf,
    /// What its files' names begin with.
    name: String,
}

/// An answer that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The certificate's serial number.
    pub serial: u32,
    /// What to say of it.
    pub standing: Standing,
    /// How long the answer is good, in minutes; for ever where there is no number.
    pub minutes: Option<u32>,
    /// When it is made, as faketime takes it: `-50s`, `+1d`.
    pub at: Option<&'q str>,
    /// Name of the certificate that signs it; the authority's own without.
    pub signer: Option<&'q str>,
}

impl Question<'_> {
    /// A good answer, for an hour, made now.
    pub fn good(serial: u32) -> Self {
        Self {
            serial,
            standing: Standing::Good,
            minutes: Some(60),
            at: None,
            signer: None,
        }
    }
}

impl Responder {
    /// An authority with a key of its own.
    ///
    /// # Errors
    /// When openssl can't make it.
    pub fn new(scratch: &Scratch, name: &str) -> Rigged<Self> {
        let responder = Self {
            folder: scratch.path().to_owned(),
            name: name.to_owned(),
        };
        let subject = format!("/CN={name}");
        let mut make = responder.openssl(&["req", "-x509", "-days", "30", "-subj", &subject]);
        make.args(NEW_KEY);
        succeed(
            make.arg("-keyout")
                .arg(responder.file("key"))
                .arg("-out")
                .arg(responder.file("pem")),
        )?;
        Ok(responder)
    }

    fn openssl(&self, args: &[&str]) -> Command {
        let mut openssl = Command::new("openssl");
        openssl.args(args).current_dir(&self.folder);
        openssl
    }

    /// A file of the authority's own.
    pub fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.name))
    }

    /// Issues a certificate with these extensions, as openssl's configuration has them, into `NAME.pem`, with
    /// the authority's own behind it where the chain is to be whole, and `NAME.key`.
    ///
    /// # Errors
    /// When openssl doesn't.
    pub fn issue(
        &self,
        name: &str,
        serial: u32,
        extensions: &str,
        with_issuer: bool,
    ) -> Rigged<PathBuf> {
        let at = |kind: &str| self.folder.join(format!("{name}.{kind}"));
        let (request, extra, chain) = (at("csr"), at("ext"), at("pem"));
        let mut ask = self.openssl(&["req", "-new", "-subj", "/CN=leaf"]);
        ask.args(NEW_KEY).arg("-keyout").arg(at("key"));
        succeed(ask.arg("-out").arg(&request))?;
        std::fs::write(&extra, extensions)?;
        let serial = serial.to_string();
        let mut sign = self.openssl(&["x509", "-req", "-days", "20", "-set_serial", &serial]);
        sign.arg("-in").arg(&request).arg("-extfile").arg(&extra);
        sign.arg("-CA").arg(self.file("pem"));
        let mut text = succeed(sign.arg("-CAkey").arg(self.file("key")))?;
        if with_issuer {
            text += &std::fs::read_to_string(self.file("pem"))?;
        }
        std::fs::write(&chain, text)?;
        Ok(chain)
    }

    /// Its answer, as DER.
    ///
    /// # Errors
    /// When openssl doesn't make it.
    pub fn answer(&self, question: Question<'_>) -> Rigged<Vec<u8>> {
        let known = match question.standing {
            Standing::Good => "V\t301231235959Z\t",
            Standing::Revoked => "R\t301231235959Z\t250101000000Z",
            Standing::Unknown => "",
        };
        let list = match known {
            "" => String::new(),
            known => format!("{known}\t{:04X}\tunknown\t/CN=leaf\n", question.serial),
        };
        std::fs::write(self.file("index"), list)?;
        let mut make = match question.at {
            Some(at) => {
                let mut faketime = Command::new("faketime");
                faketime.args(["-f", at, "openssl"]);
                faketime.current_dir(&self.folder);
                faketime
            }
            None => self.openssl(&[]),
        };
        let response = self.file("der");
        // What was there before is no answer to this question.
        let _ = std::fs::remove_file(&response);
        let signer = question.signer.unwrap_or(&self.name);
        make.args(["ocsp", "-noverify", "-index"]);
        make.arg(self.file("index"));
        make.arg("-CA").arg(self.file("pem"));
        make.arg("-issuer").arg(self.file("pem"));
        make.args(["-serial", &question.serial.to_string()]);
        make.arg("-rsigner").arg(format!("{signer}.pem"));
        make.arg("-rkey").arg(format!("{signer}.key"));
        if let Some(minutes) = question.minutes {
            make.args(["-nmin", &minutes.to_string()]);
        }
        succeed(make.arg("-respout").arg(&response))?;
        std::fs::read(&response).map_err(|error| RigError(format!("no OCSP response: {error}")))
    }
}
