//! Replaces a damaged file by a new one with what can be read of it.
//!
//! ```text
//!  assay.db (damaged) --salvage--> assay.db-new, closed --rename--> assay.db-salvaged, synced
//!  assay.db-wal, assay.db-shm, assay.db --rename--> assay.db-damaged-TIME...
//!  assay.db-salvaged --rename--> assay.db
//! ```
//!
//! A crash before `assay.db-salvaged` exists leaves the damaged file as it was; after it, the next
//! opening finishes the renames. The log is renamed first: a new file must never find an old log.

use std::io;
use std::path::{Path, PathBuf};

use crate::clock::Moment;
use crate::database::{self, Unusable, sync_folder};
use crate::error::OpenError;
use crate::salvage::salvage;

/// Damaged files that are kept for the operator.
const MAX_KEPT: usize = 3;

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The file that was set aside, and how many submissions were carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where the damaged file is now.
    pub file: PathBuf,
    /// What was wrong with it.
    pub reason: String,
    /// Submissions that the new file has, unfinished and answered ones.
    pub salvaged: usize,
}

impl SetAside {
    pub(crate) fn log(&self) {
        tracing::error!(
            file = %self.file.display(), reason = self.reason, salvaged = self.salvaged,
            "the store's file was damaged and is set aside; a new one is in use"
        );
    }
}

/// Finishes a replacement that a crash interrupted. Returns where the damaged file is.
pub(crate) fn finish_interrupted(file: &Path, now: Moment) -> io::Result<Option<PathBuf>> {
    for suffix in ["-new", "-new-wal", "-new-shm"] {
        let _ = std::fs::remove_file(with_suffix(file, suffix));
    }
    match with_suffix(file, "-salvaged").exists() {
        true => swap(file, now).map(Some),
        false => Ok(None),
    }
}

/// Replaces the file. No connection to it may write any more.
pub(crate) fn replace(file: &Path, reason: &rusqlite::Error, now: Moment) -> Result<SetAside, OpenError> {
    let new = with_suffix(file, "-new");
    for suffix in ["-new", "-new-wal", "-new-shm"] {
        let _ = std::fs::remove_file(with_suffix(file, suffix));
    }
    let mut into = database::open(&new).map_err(|unusable| match unusable {
        Unusable::Refused(error) => error,
        Unusable::Damaged(source) => OpenError::Sqlite { file: new.clone(), source },
    })?;
    let salvaged = salvage(file, &mut into).map_err(|source| OpenError::Sqlite { file: new.clone(), source })?;
    // closing copies its log into it, with an fsync
    into.close().map_err(|(_, source)| OpenError::Sqlite { file: new.clone(), source })?;
    let complete = with_suffix(file, "-salvaged");
    std::fs::rename(&new, &complete).map_err(OpenError::io("rename", &new))?;
    sync_parent(file).map_err(OpenError::io("sync the folder of", file))?;
    let aside = swap(file, now).map_err(OpenError::io("set aside", file))?;
    Ok(SetAside { file: aside, reason: reason.to_string(), salvaged })
}

/// Sets the damaged file aside and gives its name to the salvaged one.
fn swap(file: &Path, now: Moment) -> io::Result<PathBuf> {
    let mut aside = with_suffix(file, &format!("-damaged-{}", now.wall_ms));
    for number in 1.. {
        if !aside.exists() {
            break;
        }
        aside = with_suffix(file, &format!("-damaged-{}-{number}", now.wall_ms));
    }
    for suffix in ["-wal", "-shm", ""] {
        match std::fs::rename(with_suffix(file, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        sync_parent(file)?;
    }
    std::fs::rename(with_suffix(file, "-salvaged"), file)?;
    sync_parent(file)?;
    let kept = damaged_files(file);
    let databases: Vec<&PathBuf> = kept.iter().filter(|path| is_database(path)).collect();
    for old in databases.iter().rev().skip(MAX_KEPT) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(with_suffix(old, suffix));
        }
    }
    Ok(aside)
}

fn is_database(path: &Path) -> bool {
    let name = path.to_string_lossy();
    !name.ends_with("-wal") && !name.ends_with("-shm")
}

fn sync_parent(file: &Path) -> io::Result<()> {
    sync_folder(file.parent().unwrap_or(file))
}

/// All files that were set aside, oldest first.
pub(crate) fn damaged_files(file: &Path) -> Vec<PathBuf> {
    let prefix = with_suffix(file, "-damaged-");
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir(file.parent().unwrap_or(file)) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    let mut all: Vec<PathBuf> = paths.filter(is_ours).collect();
    all.sort();
    all
}

/// Removes all files that were set aside.
pub(crate) fn remove_damaged(file: &Path) -> io::Result<()> {
    damaged_files(file).iter().try_for_each(std::fs::remove_file)
}
