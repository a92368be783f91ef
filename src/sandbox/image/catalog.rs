//! Definitions of images: a folder with a Dockerfile. The tag is a hash of its content, so that an
//! image that is up to date is found by its tag alone.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The folder of the base, which has a bootstrap script and no Dockerfile.
pub const BASE: &str = "base";

/// Hexadecimal digits of a definition's digest.
const DIGEST_DIGITS: usize = 12;

/// A definition as read from disk.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The folder's name.
    pub name: String,
    pub folder: PathBuf,
    /// Relative path and content, sorted.
    files: Vec<(PathBuf, Vec<u8>)>,
    digest: String,
}

impl Definition {
    /// Reads the folder `name` below `images`. `base_digest` is the digest of the image it builds
    /// on; empty for the base itself.
    ///
    /// # Errors
    /// A folder or file cannot be read.
    pub fn read(images: &Path, name: &str, base_digest: &str) -> io::Result<Definition> {
        let folder = images.join(name);
        let mut files = Vec::new();
        read_files(&folder, Path::new(""), &mut files)?;
        files.sort();
        let mut hash = Sha256::new();
        hash.update(base_digest.as_bytes());
        for (path, content) in &files {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        let mut digest = base16ct::lower::encode_string(&hash.finalize());
        digest.truncate(DIGEST_DIGITS);
        Ok(Definition { name: name.to_owned(), folder, files, digest })
    }

    /// The hash of everything that the image is made of: 12 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// `assay/NAME`, without a tag.
    pub fn repository(&self) -> String {
        format!("assay/{}", self.name)
    }

    /// `assay/NAME:DIGEST`, the full tag.
    pub fn tag(&self) -> String {
        format!("{}:{}", self.repository(), self.digest)
    }

    /// The folder as a build context, a tar.
    ///
    /// # Errors
    /// A path does not fit a tar header.
    pub fn context(&self) -> io::Result<Bytes> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in &self.files {
            append(&mut tar, path, content, 0o755)?;
        }
        tar.into_inner().map(Bytes::from)
    }
}

/// Adds a file to a tar. The result is reproducible: the modification time is zero.
pub(super) fn append(tar: &mut tar::Builder<Vec<u8>>, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content)
}

fn read_files(root: &Path, below: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            read_files(root, &path, files)?;
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
    fn the_tag_depends_on_the_content_and_on_the_base() {
        let images = tempfile::tempdir().unwrap();
        std::fs::create_dir(images.path().join("x")).unwrap();
        std::fs::write(images.path().join("x/Dockerfile"), "FROM a").unwrap();
        let tag = |base_digest| Definition::read(images.path(), "x", base_digest).unwrap().tag();
        let first = tag("1");
        assert_eq!(first, tag("1"));
        assert_ne!(first, tag("2"));
        std::fs::write(images.path().join("x/Dockerfile"), "FROM b").unwrap();
        assert_ne!(first, tag("1"));
        assert!(first.starts_with("assay/x:"));
    }
}
