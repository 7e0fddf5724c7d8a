//! The embedded eBPF objects.

use aya::include_bytes_aligned;

use crate::error::DatapathError;

/// Empty when this crate was built without the eBPF toolchain; see build.rs.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portcullis.bpf.o"));

static TRACE_OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portcullis-trace.bpf.o"));

/// Whether this build holds a stub in place of the eBPF object.
pub fn is_stub() -> bool {
    OBJECT.is_empty()
}

/// The eBPF object, an ELF file with BTF.
///
/// # Errors
/// [`DatapathError::StubObject`] when there is none in this build.
pub fn embedded_object() -> Result<&'static [u8], DatapathError> {
    if is_stub() {
        return Err(DatapathError::StubObject);
    }
    Ok(OBJECT)
}

/// The same program, telling what each stage decides.
///
/// # Errors
/// [`DatapathError::StubObject`] when there is none in this build.
pub(crate) fn embedded_trace_object() -> Result<&'static [u8], DatapathError> {
    if TRACE_OBJECT.is_empty() {
        return Err(DatapathError::StubObject);
    }
    Ok(TRACE_OBJECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_is_an_error_that_names_the_build_command() {
        let message = DatapathError::StubObject.to_string();
        assert!(message.contains("cargo xtask build"), "{message}");
        assert_eq!(embedded_object().is_err(), is_stub());
    }
}
