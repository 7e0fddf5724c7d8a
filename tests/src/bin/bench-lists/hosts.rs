//! Random hosts, the same in every run, and files of them.

use std::{fmt::Write as _, fs::File, net::Ipv4Addr, ops::Range};

use portcullis_tests::{run::Rigged, scratch::Scratch};

/// Networks that hosts are drawn from: 16.0.0.0/4 to 95.255.255.255, in which nothing lies that
/// keeps this host reachable.
const FIRST: u32 = 16 << 24;
const SPAN: u32 = 80 << 24;

/// A host; no two numbers below [`SPAN`] have the same.
pub(crate) fn host(number: u32) -> Ipv4Addr {
    // Odd, and no multiple of 5: a permutation of the span, which is 5 times a power of two.
    let spread = u64::from(number) * 0x9e37_79b1 % u64::from(SPAN);
    Ipv4Addr::from_bits(FIRST + spread as u32)
}

/// A file of these hosts, and its path.
pub(crate) fn file(scratch: &Scratch, name: &str, numbers: Range<u32>) -> Rigged<String> {
    let mut text = String::new();
    for number in numbers {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", host(number));
    }
    let path = scratch.write(name, text)?;
    // Or the system writes it out while something is measured.
    File::open(&path)?.sync_all()?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_host_comes_twice() {
        let hosts: HashSet<Ipv4Addr> = (0..300_000).map(host).collect();
        assert_eq!(hosts.len(), 300_000);
        assert!(
            hosts
                .iter()
                .all(|host| (16..96).contains(&host.octets()[0]))
        );
    }
}
