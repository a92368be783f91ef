//! Large outputs and inputs: files in a folder beside the database, each named by a row.
//!
//! A file is written and fsynced before the change that names it is queued, and removed after the
//! fsynced commit that no longer does. What a crash leaves in between no row names, and the next
//! opening removes it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::database::sync_folder;
use crate::error::Error;

/// A file that a row names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Its name in the folder.
    pub name: String,
    /// What the request or the report calls it.
    pub label: String,
    pub bytes: u64,
}

/// Files that are written and synced, and that no row names yet. They are removed on drop, unless
/// a change took them over.
#[derive(Debug, Default)]
pub struct StagedOutputs {
    folder: PathBuf,
    files: Vec<OutputFile>,
    /// Rows name the files, or may.
    is_kept: bool,
}

impl StagedOutputs {
    pub(crate) fn files(&self) -> &[OutputFile] {
        &self.files
    }

    /// The files stay. Those that no row names go when the store is opened again.
    pub(crate) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for StagedOutputs {
    fn drop(&mut self) {
        for file in self.files.iter().filter(|_| !self.is_kept) {
            let _ = std::fs::remove_file(self.folder.join(&file.name));
        }
    }
}

/// The folder of the files.
#[derive(Debug, Clone)]
pub(crate) struct OutputFolder(PathBuf);

impl OutputFolder {
    pub(crate) fn open(path: PathBuf) -> io::Result<OutputFolder> {
        if !path.is_dir() {
            std::fs::DirBuilder::new().mode(0o700).create(&path)?;
            sync_folder(path.parent().unwrap_or(&path))?;
        }
        Ok(OutputFolder(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes and syncs files of these labels. Blocks for as long as the disk takes.
    pub(crate) fn stage(&self, contents: &[(String, impl AsRef<[u8]>)]) -> Result<StagedOutputs, Error> {
        let mut staged = StagedOutputs { folder: self.0.clone(), files: Vec::new(), is_kept: false };
        for (label, content) in contents {
            let content = content.as_ref();
            let name = uuid::Uuid::new_v4().simple().to_string();
            // listed first, so that a file that is half written is removed
            staged.files.push(OutputFile { name, label: label.clone(), bytes: content.len() as u64 });
            let path = self.0.join(&staged.files[staged.files.len() - 1].name);
            write_synced(&path, content).map_err(Error::io("write an output"))?;
        }
        if !contents.is_empty() {
            sync_folder(&self.0).map_err(Error::io("sync the folder of outputs"))?;
        }
        Ok(staged)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        write_synced(&self.0.join(name), content).map_err(Error::io("write an output"))
    }

    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        std::fs::read(self.0.join(name)).map_err(Error::io("read an output"))
    }

    pub(crate) fn remove(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            match std::fs::remove_file(self.0.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(name, %error, "failed to remove an output that the store no longer names");
                }
                _ => {}
            }
        }
    }

    /// Removes the files that no row names. Returns their number.
    pub(crate) fn sweep(&self, connection: &Connection) -> rusqlite::Result<usize> {
        let mut statement = connection.prepare("SELECT name FROM output")?;
        let named: HashSet<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Ok(0) };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let strays: Vec<String> = names.filter(|name| !named.contains(name)).collect();
        let count = strays.len();
        self.remove(strays);
        Ok(count)
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
