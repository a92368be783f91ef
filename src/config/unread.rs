//! Files that look like settings and are not read.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::sources::{FILE_VARIABLE, is_read};
use super::{DEFAULT_PATH, EnvVars};

/// Endings of files that are settings of some program.
const SETTINGS: [&str; 8] = ["toml", "conf", "cfg", "ini", "json", "yaml", "yml", "d"];

/// Files that lie where settings are read and are not read, each as a warning: a folder of drop-ins
/// with another name, a file without the ending, a folder in a folder.
pub fn unread(main: Option<&Path>, environment: &EnvVars, profiles: &Path) -> Vec<String> {
    let named = main.or_else(|| environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(Path::new));
    let main = named.unwrap_or(Path::new(DEFAULT_PATH));
    let mut drop_ins = main.as_os_str().to_owned();
    drop_ins.push(".d");
    let drop_ins = PathBuf::from(drop_ins);
    let mut warnings = beside(main, &drop_ins, profiles);
    if drop_ins.is_file() {
        let shown = drop_ins.display();
        warnings.push(format!("{shown} is not read: it is a file, and drop-ins are files in a folder of that name"));
    }
    for folder in [drop_ins.as_path(), profiles] {
        for path in below(folder) {
            let shown = path.display();
            if path.is_dir() {
                warnings.push(format!(
                    "{shown} is not read: files are read from {}, not from folders in it",
                    folder.display()
                ));
            } else {
                warnings.push(format!("{shown} is not read: only files that end in .toml and are not hidden are"));
            }
        }
    }
    warnings
}

/// What lies beside the file of settings and has its name with another ending, or, where that is
/// the usual one, a name like it, like the folder of drop-ins, or like the folder of profiles. In
/// the default folder, whatever looks like settings.
fn beside(main: &Path, drop_ins: &Path, profiles: &Path) -> Vec<String> {
    let folder = main.parent().unwrap_or(Path::new(""));
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (file, stem) = (name(main), name(&main.with_extension("")) + ".");
    let is_usual = Path::new(DEFAULT_PATH).file_name() == main.file_name();
    let profiles = profiles.parent().filter(|above| *above == folder).map(|_| name(profiles));
    let known = [Some(file.clone()), Some(name(drop_ins)), profiles.clone()];
    let mut paths = entries(folder);
    paths.retain(|path| !known.contains(&Some(name(path))) && !is_aside(path));
    let warning = |path: &PathBuf| {
        let (other, is_folder) = (name(path), path.is_dir());
        let is_like = |known: &str| is_usual && is_misspelt(&other, known);
        let is_settings = path.extension().is_some_and(|ending| SETTINGS.iter().any(|known| ending == *known));
        let is_own = is_settings && (other.starts_with(&stem) || main == Path::new(DEFAULT_PATH));
        let meant = profiles.as_deref().filter(|known| is_folder && (is_like(known) || other == format!("{known}.d")));
        let read_from = match (meant, is_folder) {
            (Some(known), _) => format!("profiles are read from {}", folder.join(known).display()),
            (None, true) if is_own || is_like(&name(drop_ins)) => {
                format!("drop-ins are read from {}", drop_ins.display())
            }
            (None, false) if is_own || is_like(&file) => {
                format!("settings are read from {} and {}", main.display(), drop_ins.join("*.toml").display())
            }
            _ => return None,
        };
        Some(format!("{} is not read: {read_from}", path.display()))
    };
    paths.iter().filter_map(warning).collect()
}

/// Whether a name is another one with at most two letters wrong, or in another case.
fn is_misspelt(name: &str, known: &str) -> bool {
    strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()) <= 2
}

/// What looks as if it were to be read, in a folder whose `.toml` files are.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut paths = entries(folder);
    paths.retain(|path| match path.extension() {
        // hidden, on purpose or by mistake
        Some(ending) if ending == "toml" => !is_read(path),
        _ => !is_aside(path),
    });
    paths
}

/// The files and folders in a folder, by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(here).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| folder.join(entry.file_name())).collect();
    paths.retain(|path| path.exists());
    paths.sort();
    paths
}

/// Whether a file is what editors and package managers leave behind, or is set aside on purpose.
fn is_aside(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let aside = ["disabled", "off", "bak", "old", "orig", "save", "md", "txt", "example", "sample", "swp", "new"];
    // what Windows makes of `x.toml`
    let is_hidden_ending = name.ends_with(".toml.txt");
    name.starts_with(['.', '#'])
        || name.ends_with('~')
        || name.starts_with("README")
        || [".dpkg-", ".ucf-", ".rpm"].iter().any(|part| name.contains(part))
        || !is_hidden_ending && path.extension().is_some_and(|ending| aside.iter().any(|known| ending == *known))
}
