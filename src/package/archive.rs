//! Unpacks a zipped package into a temporary folder.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zip::ZipArchive;

use crate::Error;

/// Largest unpacked size of a package.
const MAX_UNPACKED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Most entries of a zip.
const MAX_ENTRIES: usize = 20_000;

/// A temporary folder with an unpacked package; removed on drop.
#[derive(Debug)]
pub struct UnpackedArchive {
    _folder: TempDir,
    path: PathBuf,
}

impl UnpackedArchive {
    /// The package's root folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Many zips hold a single folder with the package inside.
    fn new(folder: TempDir) -> UnpackedArchive {
        let mut path = folder.path().to_owned();
        if !path.join("problem.yaml").exists() {
            let entries: Vec<_> = std::fs::read_dir(&path).into_iter().flatten().flatten().collect();
            if let [only] = entries.as_slice() {
                path = only.path();
            }
        }
        UnpackedArchive { _folder: folder, path }
    }
}

/// Unpacks a zip; `None` if the path is not a regular file.
///
/// # Errors
/// The file is not a zip, an entry is a link or leads out of the folder, or the zip is too large.
pub fn unpack(path: &Path) -> Result<Option<UnpackedArchive>, Error> {
    if !path.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(|error| Error::new(path, error))?;
    let mut archive =
        ZipArchive::new(file).map_err(|error| Error::new(path, format!("is neither a folder nor a zip: {error}")))?;
    if archive.len() > MAX_ENTRIES {
        return Err(Error::new(path, format!("has more than {MAX_ENTRIES} files")));
    }
    let folder = tempfile::tempdir().map_err(|error| Error::new(path, error))?;
    let mut left = MAX_UNPACKED_BYTES;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| Error::new(path, error))?;
        let raw = entry.name().map_err(|error| Error::new(path, error))?.into_owned();
        let name = raw.escape_debug().to_string();
        let leads_out = raw.starts_with('/') || raw.split(['/', '\\']).any(|part| part == "..");
        let Some(inside) = entry.enclosed_name().filter(|_| !leads_out) else {
            return Err(Error::new(path, format!("{name} leads out of the package")));
        };
        if entry.is_symlink() {
            return Err(Error::new(path, format!("{name} is a link; pack the file itself")));
        }
        let target = folder.path().join(inside);
        let failed = |error: std::io::Error| Error::new(path, format!("cannot unpack {name}: {error}"));
        if entry.is_dir() {
            std::fs::create_dir_all(&target).map_err(failed)?;
            continue;
        }
        std::fs::create_dir_all(target.parent().unwrap_or(folder.path())).map_err(failed)?;
        let mut out = File::create(&target).map_err(failed)?;
        // The sizes in a zip's headers are not trusted.
        let copied = std::io::copy(&mut entry.take(left + 1), &mut out).map_err(failed)?;
        left = left
            .checked_sub(copied)
            .ok_or_else(|| Error::new(path, format!("unpacks to more than {MAX_UNPACKED_BYTES} bytes")))?;
    }
    Ok(Some(UnpackedArchive::new(folder)))
}
