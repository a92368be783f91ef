//! Files that look like settings and are not read.

use std::path::{Path, PathBuf};

use super::sources::FILE_VARIABLE;
use super::{DEFAULT_PATH, EnvVars};

/// Files that lie where settings are read and are not read, each as a warning: a folder of drop-ins
/// with another name, a file without the ending.
pub fn unread(main: Option<&Path>, environment: &EnvVars, profiles: &Path) -> Vec<String> {
    let named = main.or_else(|| environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(Path::new));
    let main = named.unwrap_or(Path::new(DEFAULT_PATH));
    let mut folder = main.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let mut warnings = Vec::new();
    let stem = main.with_extension("");
    for other in [stem.with_extension("d"), stem.with_extension("conf.d"), stem.with_extension("conf")] {
        if other.exists() && other != folder && other != main {
            let what = if other.is_dir() { "drop-ins are read from" } else { "settings are read from" };
            let right = if other.is_dir() { folder.display() } else { main.display() };
            warnings.push(format!("{} is not read: {what} {right}", other.display()));
        }
    }
    for folder in [folder.as_path(), profiles] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_stray(path)).collect();
        paths.sort();
        let unread = |path: &PathBuf| format!("{} is not read: files here end in .toml", path.display());
        warnings.extend(paths.iter().map(unread));
    }
    warnings
}

/// Whether a file looks like settings that are to be read, and has another ending. What editors and
/// package managers leave behind, and what is set aside on purpose, does not.
fn is_stray(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = ["disabled", "off", "bak", "old", "orig", "save", "md", "txt", "example", "sample", "swp"];
    let is_aside = name.starts_with('.')
        || name.ends_with('~')
        || name.starts_with("README")
        || [".dpkg-", ".ucf-", ".rpm"].iter().any(|part| name.contains(part))
        || path.extension().is_some_and(|ending| aside.iter().any(|known| ending == *known));
    path.is_file() && !is_aside && path.extension().is_none_or(|ending| ending != "toml")
}
