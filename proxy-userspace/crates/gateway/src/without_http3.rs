//! HTTP/3 in a program that was built without it.

use std::convert::Infallible;

use crate::{
    listener::ListenerLimits,
    tls::{ServerTls, TlsError},
};

/// How HTTP/3 is served, which it isn't.
#[derive(Clone, Debug)]
pub struct Http3(Infallible);

impl Http3 {
    /// # Errors
    /// Always.
    pub fn new(_tls: &ServerTls, _limits: &ListenerLimits) -> Result<Self, TlsError> {
        let why = "this program was built without HTTP/3 (feature http3)";
        Err(TlsError::Invalid(why.to_owned()))
    }
}
