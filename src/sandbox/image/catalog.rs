//! An image's definition: a folder with a Dockerfile, named by its content, so that an image that is up to date is
//! found by its tag alone.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The folder of the base, which has no Dockerfile but a way to make it.
pub const BASE: &str = "base";

/// A definition, read from disk.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    digest: String,
}

impl Definition {
    /// Reads a folder below `images`. `over` is the digest of what it builds on.
    ///
    /// # Errors
    /// A folder or file that cannot be read.
    pub fn read(images: &Path, name: &str, over: &str) -> io::Result<Definition> {
        let folder = images.join(name);
        let mut files = Vec::new();
        gather(&folder, Path::new(""), &mut files)?;
        files.sort();
        let mut hash = Sha256::new();
        hash.update(over.as_bytes());
        for (path, content) in &files {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        let digest = hex(&hash.finalize())[..12].to_owned();
        Ok(Definition { name: name.to_owned(), folder, files, digest })
    }

    /// Twelve digits over everything that the image is made of.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// `assay/NAME`.
    pub fn repository(&self) -> String {
        format!("assay/{}", self.name)
    }

    /// `assay/NAME:DIGEST`.
    pub fn tag(&self) -> String {
        format!("{}:{}", self.repository(), self.digest)
    }

    /// The folder as a build context.
    ///
    /// # Errors
    /// A path that does not fit a tar header.
    pub fn context(&self) -> io::Result<Bytes> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in &self.files {
            append(&mut tar, path, content, 0o755)?;
        }
        tar.into_inner().map(Bytes::from)
    }
}

/// Adds a file to a tar, the same bytes every time.
pub(super) fn append(tar: &mut tar::Builder<Vec<u8>>, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content)
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gather(root: &Path, below: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            gather(root, &path, files)?;
        } else {
            files.push((path, std::fs::read(entry.path())?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_named_by_its_content_and_by_what_it_builds_on() {
        let images = tempfile::tempdir().unwrap();
        std::fs::create_dir(images.path().join("x")).unwrap();
        std::fs::write(images.path().join("x/Dockerfile"), "FROM a").unwrap();
        let read = |over| Definition::read(images.path(), "x", over).unwrap().tag();
        let first = read("1");
        assert_eq!(first, read("1"));
        assert_ne!(first, read("2"));
        std::fs::write(images.path().join("x/Dockerfile"), "FROM b").unwrap();
        assert_ne!(first, read("1"));
        assert!(first.starts_with("assay/x:"));
    }
}
