//! A problem package in a zip, unpacked beside nobody: into a folder of its own that goes with this command.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zip::ZipArchive;

use crate::CliError;

/// What a package may have in it, unpacked, in bytes.
const MOST_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// And in files.
const MOST_FILES: usize = 20_000;

/// A folder with a package in it; gone when dropped.
#[derive(Debug)]
pub(super) struct Unpacked {
    _folder: TempDir,
    path: PathBuf,
}

impl Unpacked {
    /// Where the package is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Unpacks a zip; none when the path is no file.
///
/// # Errors
/// What is no zip, leads out of its folder, holds links, or is too much.
pub(super) fn unpack(path: &Path) -> Result<Option<Unpacked>, CliError> {
    if !path.is_file() {
        return Ok(None);
    }
    let wrong = |why: String| CliError::Usage(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut archive =
        ZipArchive::new(file).map_err(|error| wrong(format!("is neither a folder nor a zip: {error}")))?;
    if archive.len() > MOST_FILES {
        return Err(wrong(format!("has more than {MOST_FILES} files")));
    }
    let folder = tempfile::tempdir().map_err(|error| wrong(error.to_string()))?;
    let mut left = MOST_BYTES;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| wrong(error.to_string()))?;
        let raw = entry.name().map_err(|error| wrong(error.to_string()))?.into_owned();
        let name = raw.escape_debug().to_string();
        let Some(inside) =
            entry.enclosed_name().filter(|_| !raw.starts_with('/') && !raw.split(['/', '\\']).any(|part| part == ".."))
        else {
            return Err(wrong(format!("{name} leads out of the package")));
        };
        if entry.is_symlink() {
            return Err(wrong(format!("{name} is a link; pack the file itself")));
        }
        let to = folder.path().join(inside);
        let failed = |error: std::io::Error| wrong(format!("cannot unpack {name}: {error}"));
        if entry.is_dir() {
            std::fs::create_dir_all(&to).map_err(failed)?;
            continue;
        }
        std::fs::create_dir_all(to.parent().unwrap_or(folder.path())).map_err(failed)?;
        let mut out = File::create(&to).map_err(failed)?;
        // the sizes that a zip states are not believed
        let copied = std::io::copy(&mut entry.take(left + 1), &mut out).map_err(failed)?;
        left = left.checked_sub(copied).ok_or_else(|| wrong(format!("unpacks to more than {MOST_BYTES} bytes")))?;
    }
    Ok(Some(Unpacked::of(folder)))
}

impl Unpacked {
    /// Many zips hold one folder, and the package in that.
    fn of(folder: TempDir) -> Unpacked {
        let mut path = folder.path().to_owned();
        if !path.join("problem.yaml").exists() {
            let entries: Vec<_> = std::fs::read_dir(&path).into_iter().flatten().flatten().collect();
            if let [one] = entries.as_slice() {
                path = one.path();
            }
        }
        Unpacked { _folder: folder, path }
    }
}
