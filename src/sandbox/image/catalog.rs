//! Definitions of images: a folder with a Dockerfile. The tag is a hash of its content, so that an
//! image that is up to date is found by its tag alone.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use config::ImageFolders;
use sha2::{Digest, Sha256};

/// The folder of the base, which has a bootstrap script and no Dockerfile.
pub const BASE: &str = "base";

/// The label of an image that was built: the name of its definition.
pub const NAME_LABEL: &str = "assay.image.name";

/// How every other image is made.
const DOCKERFILE: &str = "Dockerfile";

/// The suite of Debian that images are built on unless their Dockerfile says otherwise.
pub const DEFAULT_SUITE: &str = "trixie";

/// The name of the base of a suite: `base`, or `base-SUITE` for one that is not the default.
pub fn base_name(suite: &str) -> String {
    if suite == DEFAULT_SUITE { BASE.to_owned() } else { format!("{BASE}-{suite}") }
}

/// The suite of a base's name; `None` for another image.
pub fn suite_of_base(name: &str) -> Option<&str> {
    match name.split_once('-') {
        Some((BASE, suite)) => Some(suite),
        None if name == BASE => Some(DEFAULT_SUITE),
        _ => None,
    }
}

/// What a Dockerfile asks for with `ARG BASE=NAME`: another image, or a suite.
fn asked_base(text: &str) -> Option<&str> {
    let asked = text.lines().find_map(|line| line.trim().strip_prefix("ARG BASE="));
    let is_name = |name: &&str| {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(is_allowed)
    };
    asked.map(str::trim).filter(is_name)
}

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
    /// The name of the image that it builds on; `None` for a base.
    base: Option<String>,
}

impl Definition {
    /// Reads the folder `name` below `images`. `base_digest` is the digest of the image it builds
    /// on.
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
        Ok(Definition { name: name.to_owned(), folder, files, digest, base: None })
    }

    /// Reads the base of a suite.
    ///
    /// # Errors
    /// A folder or file cannot be read.
    pub fn read_base(images: &Path, suite: &str) -> io::Result<Definition> {
        Ok(Definition { name: base_name(suite), ..Definition::read(images, BASE, suite)? })
    }

    /// Reads the folder `name` and the image that its Dockerfile asks for: one with a folder, or
    /// the base of a suite.
    ///
    /// # Errors
    /// A folder or file cannot be read; images are built on each other.
    pub fn read_with_base(images: &ImageFolders, name: &str) -> io::Result<(Definition, Definition)> {
        Definition::read_above(images, name, &mut Vec::new())
    }

    fn read_above(images: &ImageFolders, name: &str, above: &mut Vec<String>) -> io::Result<(Definition, Definition)> {
        if above.iter().any(|other| other == name) {
            return Err(io::Error::other(format!("it is built on itself: {} on {name}", above.join(" on "))));
        }
        above.push(name.to_owned());
        let folder = images.of(name);
        let text = std::fs::read_to_string(folder.join(name).join(DOCKERFILE)).map_err(|error| {
            match folder.join(name).is_dir() && error.kind() == io::ErrorKind::NotFound {
                true => io::Error::new(error.kind(), "it has no Dockerfile"),
                false => error,
            }
        })?;
        let is_image = |asked: &str| images.of(asked).join(asked).join(DOCKERFILE).is_file();
        let base = match asked_base(&text) {
            Some(image) if is_image(image) => Definition::read_above(images, image, above)?.0,
            suite => Definition::read_base(images.of(BASE), suite.unwrap_or(DEFAULT_SUITE)).map_err(|error| {
                io::Error::new(error.kind(), format!("it is built on {BASE}, whose folder cannot be read: {error}"))
            })?,
        };
        let base_name = Some(base.name.clone());
        Ok((Definition { base: base_name, ..Definition::read(folder, name, base.digest())? }, base))
    }

    /// The name of the image that it builds on; `None` for a base.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
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

/// The names of the images that have a folder in one of `folders`, without the base; empty if no
/// folder can be read.
pub fn known_images(folders: &[PathBuf]) -> Vec<String> {
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let images = entries.filter(|entry| entry.path().join(DOCKERFILE).is_file());
    let mut names: Vec<String> = images.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names.dedup();
    names
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

    #[test]
    fn a_dockerfile_chooses_its_base() {
        assert_eq!(asked_base("# x\nARG BASE\nFROM ${BASE}"), None);
        assert_eq!(asked_base("ARG BASE=bookworm\nFROM ${BASE}"), Some("bookworm"));
        assert_eq!((asked_base("ARG BASE=$(id)\nFROM ${BASE}"), asked_base("ARG BASE=../x")), (None, None));
        assert_eq!(suite_of_base(&base_name("bookworm")), Some("bookworm"));
        assert_eq!((suite_of_base("base"), suite_of_base("python")), (Some(DEFAULT_SUITE), None));
        let images = tempfile::tempdir().unwrap();
        let write = |name: &str, file: &str, text: &str| {
            std::fs::create_dir_all(images.path().join(name)).unwrap();
            std::fs::write(images.path().join(name).join(file), text).unwrap();
        };
        write("base", "bootstrap", "");
        for (name, asked) in
            [("new", ""), ("old", "=bookworm"), ("more", "=old"), ("own", "=own"), ("a", "=b"), ("b", "=a")]
        {
            write(name, "Dockerfile", &format!("ARG BASE{asked}\nFROM ${{BASE}}"));
        }
        let folders = ImageFolders::from([images.path()]);
        let read = |name: &str| Definition::read_with_base(&folders, name);
        let base = |name: &str| read(name).unwrap().1.tag();
        assert!(base("new").starts_with("assay/base:") && base("old").starts_with("assay/base-bookworm:"));
        assert!(base("more").starts_with("assay/old:"));
        let before = read("more").unwrap().0.tag();
        write("old", "Dockerfile", "ARG BASE=bookworm\nFROM ${BASE}\n# changed");
        assert_ne!(read("more").unwrap().0.tag(), before);
        assert_eq!(read("own").unwrap_err().to_string(), "it is built on itself: own on own");
        assert_eq!(read("a").unwrap_err().to_string(), "it is built on itself: a on b on a");
    }

    #[test]
    fn the_first_folder_that_has_an_image_counts_and_the_base_may_be_in_another() {
        let (own, shipped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, name, file) in [
            (&shipped, "base", "bootstrap"),
            (&shipped, "both", "Dockerfile"),
            (&own, "both", "Dockerfile"),
            (&own, "mine", "Dockerfile"),
            (&own, "empty", "dockerfile"),
        ] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(file), "FROM ${BASE}").unwrap();
        }
        let folders =
            ImageFolders::from([own.path().join("missing"), own.path().to_owned(), shipped.path().to_owned()]);
        let folder = |name: &str| Definition::read_with_base(&folders, name).map(|(definition, _)| definition.folder);
        assert_eq!(folder("both").unwrap(), own.path().join("both"));
        assert_eq!(folder("mine").unwrap(), own.path().join("mine"));
        assert_eq!(folder("empty").unwrap_err().to_string(), "it has no Dockerfile");
        assert_eq!(known_images(folders.all()), ["both", "mine"]);
    }
}
