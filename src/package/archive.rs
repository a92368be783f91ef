//! Unpacks a zipped package into a temporary folder.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zip::ZipArchive;

use crate::Error;

/// Largest unpacked size of a package.
const MAX_UNPACKED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Files by which a package's root folder is known.
const SIGNS: [&str; 2] = ["problem.yaml", "domjudge-problem.ini"];

/// Longest target of a link in a zip, in bytes.
const MAX_LINK_BYTES: u64 = 4096;

/// Most folders around a package in a zip.
const MAX_FOLDERS_ABOVE: usize = 8;

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

    /// Many zips hold a single folder with the package inside, or that in another one.
    fn new(folder: TempDir) -> UnpackedArchive {
        let mut path = folder.path().to_owned();
        let is_package = |path: &Path| SIGNS.iter().any(|sign| path.join(sign).exists());
        for _ in 0..MAX_FOLDERS_ABOVE {
            if is_package(&path) {
                break;
            }
            let entries: Vec<_> = std::fs::read_dir(&path).into_iter().flatten().flatten().collect();
            let folders: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
            let packages: Vec<&PathBuf> = folders.iter().filter(|path| is_package(path)).collect();
            match (packages.as_slice(), folders.as_slice()) {
                ([only], _) => path = (*only).clone(),
                ([], [only]) => path = only.clone(),
                _ => break,
            }
        }
        UnpackedArchive { _folder: folder, path }
    }
}

/// Unpacks a zip; `None` if the path is not a regular file.
///
/// # Errors
/// The file is not a zip, an entry or the target of a link leads out of the folder, or the zip is
/// too large.
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
    // made last, so that no file is written through one
    let mut links = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| Error::new(path, error))?;
        let raw = entry.name().map_err(|error| Error::new(path, error))?.into_owned();
        let name = raw.escape_debug().to_string();
        let leads_out = raw.starts_with('/') || raw.split(['/', '\\']).any(|part| part == "..");
        let Some(inside) = entry.enclosed_name().filter(|_| !leads_out) else {
            return Err(Error::new(path, format!("{name} leads out of the package")));
        };
        if is_litter(&inside) {
            continue;
        }
        if entry.is_symlink() {
            let mut target = String::new();
            let read = (&mut entry).take(MAX_LINK_BYTES).read_to_string(&mut target);
            read.map_err(|error| Error::new(path, format!("cannot unpack {name}: {error}")))?;
            if !stays_inside(&inside, &target) {
                return Err(Error::new(path, format!("the link {name} leads out of the package")));
            }
            links.push((inside, target));
            continue;
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
    let root = folder.path().canonicalize().map_err(|error| Error::new(path, error))?;
    for (inside, target) in &links {
        let link = root.join(inside);
        let made = std::fs::create_dir_all(link.parent().unwrap_or(&root))
            .and_then(|()| std::os::unix::fs::symlink(target, &link));
        made.map_err(|error| Error::new(path, format!("cannot unpack the link {}: {error}", inside.display())))?;
    }
    // through other links, one may still lead out
    for (inside, _) in &links {
        if !root.join(inside).canonicalize().is_ok_and(|real| real.starts_with(&root)) {
            return Err(Error::new(path, format!("the link {} leads out of the package or nowhere", inside.display())));
        }
    }
    Ok(Some(UnpackedArchive::new(folder)))
}

/// Entries that macOS adds to every zip.
fn is_litter(inside: &Path) -> bool {
    let is = |part: &std::ffi::OsStr| part == "__MACOSX" || part == ".DS_Store";
    inside.iter().any(is)
}

/// Whether a link at `inside` with this target stays in the folder. What it resolves to is checked
/// again when it is read.
fn stays_inside(inside: &Path, target: &str) -> bool {
    let mut depth = inside.components().count() as i64 - 1;
    !target.is_empty()
        && Path::new(target).components().all(|part| {
            match part {
                std::path::Component::Normal(_) => depth += 1,
                std::path::Component::ParentDir => depth -= 1,
                std::path::Component::CurDir => {}
                std::path::Component::RootDir | std::path::Component::Prefix(_) => return false,
            }
            depth >= 0
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_lead_elsewhere_in_the_package_only() {
        let stays = |inside: &str, target: &str| stays_inside(Path::new(inside), target);
        assert!(stays("p/submissions/wrong_answer/a.py", "../accepted/a.py") && stays("a", "b/c"));
        assert!(
            !stays("a", "../b") && !stays("p/a", "/etc/passwd") && !stays("p/a", "x/../../../b") && !stays("a", "")
        );
    }
}
