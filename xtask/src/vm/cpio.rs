//! The archive format a kernel unpacks at boot: cpio's "newc" (Documentation/driver-api/
//! early-userspace/buffer-format.rst in the kernel's sources).

use std::collections::BTreeSet;

/// File types of `st_mode` (inode(7)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// Name of the entry that ends an archive.
const END: &str = "TRAILER!!!";

/// An archive in the making. Everything in it belongs to root and is dated 1970.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds an empty directory, and those it lies in.
    pub(super) fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.directories.insert(path.to_owned()) {
            return;
        }
        self.parent_of(path);
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// Adds a file that may be executed.
    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.content(path, REGULAR | 0o755, content);
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.content(path, REGULAR | 0o644, content);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, &[]);
        self.bytes
    }

    fn content(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_matches('/');
        self.parent_of(path);
        self.entry(path, mode, content);
    }

    fn parent_of(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        // A kernel takes no file of 4 GiB, and we have none.
        let [size, name_size] = [content.len(), name.len() + 1].map(|n| n as u32);
        let (inode, user, group, links, date) = (self.entries, 0, 0, 1, 0);
        let no_device = [0; 4];
        let no_checksum = 0;
        let fields = [inode, mode, user, group, links, date, size]
            .into_iter()
            .chain(no_device)
            .chain([name_size, no_checksum]);
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Names and contents end on a multiple of four bytes.
    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: name, mode, content.
    fn entries(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            let header = std::str::from_utf8(&archive[..110]).unwrap();
            assert_eq!(&header[..6], "070701");
            let field = |index: usize| {
                let start = 6 + 8 * index;
                u32::from_str_radix(&header[start..start + 8], 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap();
            let content = (110 + name_size).next_multiple_of(4);
            if name == END {
                assert_eq!(archive.len(), content, "nothing follows the end");
                return entries;
            }
            let bytes = archive[content..content + size].to_vec();
            entries.push((name, mode, bytes));
            archive = &archive[content + size.next_multiple_of(4)..];
        }
    }

    #[test]
    fn a_file_comes_after_its_directories_each_once() {
        let mut archive = Archive::default();
        archive.file("/a/b/one", b"1");
        archive.file("/a/two", b"22");
        let archive = archive.finish();
        let names: Vec<_> = entries(&archive)
            .into_iter()
            .map(|(name, mode, _)| (name, mode))
            .collect();
        let own = |name: &str, mode| (name.to_owned(), mode);
        assert_eq!(
            names,
            [
                own("a", 0o040_755),
                own("a/b", 0o040_755),
                own("a/b/one", 0o100_644),
                own("a/two", 0o100_644),
            ]
        );
    }

    #[test]
    fn contents_of_any_length_stand_where_the_next_header_can_be_found() {
        let mut archive = Archive::default();
        for bytes in 0..9 {
            archive.file(&"n".repeat(bytes + 1), &vec![7; bytes]);
        }
        let read = entries(&archive.finish());
        assert_eq!(read.len(), 9);
        for (bytes, (_, _, content)) in read.iter().enumerate() {
            assert_eq!(content, &vec![7; bytes]);
        }
    }

    #[test]
    fn a_program_may_run() {
        let mut archive = Archive::default();
        archive.program("/init", b"#!");
        let read = entries(&archive.finish());
        assert_eq!(read, [("init".into(), 0o100_755, b"#!".to_vec())]);
    }
}
