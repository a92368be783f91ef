//! Programs of a package: the files of one program, its language and its entry file.

use std::path::{Path, PathBuf};

use crate::{Error, file_name, inside, list};

/// How deep a program's folders may be nested.
const MAX_DEPTH: usize = 8;

/// A program of one or several files.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceProgram {
    /// A profile's name.
    pub language: String,
    pub entry: String,
    /// Path in the sandbox, and path on disk.
    pub files: Vec<(String, PathBuf)>,
}

/// The language that a file's extension stands for.
pub fn language_of(file: &Path) -> Option<&'static str> {
    match file.extension()?.to_str()? {
        "py" => Some("python"),
        "c" => Some("c"),
        "cpp" | "cc" | "cxx" => Some("cpp"),
        "js" | "mjs" | "cjs" => Some("javascript"),
        "sh" | "bash" => Some("bash"),
        "ts" => Some("typescript"),
        "java" => Some("java"),
        "go" => Some("go"),
        "rs" => Some("rust"),
        "rb" => Some("ruby"),
        "php" => Some("php"),
        "pl" => Some("perl"),
        "lua" => Some("lua"),
        "hs" => Some("haskell"),
        "pas" | "pp" => Some("pascal"),
        _ => None,
    }
}

impl SourceProgram {
    /// Reads a program that is a file, or a folder of files; `None` if the path does not exist.
    ///
    /// # Errors
    /// A link leads out of `root`, a build or run script is present, or no file has a known
    /// extension.
    pub fn read(root: &Path, path: &Path) -> Result<Option<SourceProgram>, Error> {
        if !path.exists() {
            return Ok(None);
        }
        let mut files = Vec::new();
        if path.is_dir() {
            collect(root, path, "", &mut files, 0)?;
        } else {
            files.push((file_name(path), inside(root, path)?));
        }
        if files.iter().any(|(name, _)| name == "build" || name == "run") {
            return Err(Error::new(path, "build and run scripts are not supported; pass the source itself"));
        }
        SourceProgram::of_files(path, files).map(Some)
    }

    /// Finds the language and the entry: `main`, `validate` or `validator`, else the first source.
    fn of_files(path: &Path, files: Vec<(String, PathBuf)>) -> Result<SourceProgram, Error> {
        let is_source = |(name, _): &&(String, PathBuf)| language_of(Path::new(name)).is_some();
        let sources: Vec<&(String, PathBuf)> = files.iter().filter(is_source).collect();
        let is_main = |(name, _): &&&(String, PathBuf)| {
            let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
            stem.is_some_and(|stem| stem == "main" || stem == "validate" || stem == "validator")
        };
        let entry = sources.iter().find(is_main).or(sources.first());
        let (entry, language) = entry
            .and_then(|(name, _)| Some((name.clone(), language_of(Path::new(name))?.to_owned())))
            .ok_or_else(|| Error::new(path, "has no source file with a known extension"))?;
        Ok(SourceProgram { language, entry, files })
    }
}

fn collect(
    root: &Path,
    folder: &Path,
    prefix: &str,
    files: &mut Vec<(String, PathBuf)>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(folder, format!("is nested more than {MAX_DEPTH} deep")));
    }
    for path in list(root, folder)? {
        let name = format!("{prefix}{}", file_name(&path));
        if path.is_dir() {
            collect(root, &path, &format!("{name}/"), files, depth + 1)?;
        } else {
            files.push((name, inside(root, &path)?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_names_the_language() {
        assert_eq!(language_of(Path::new("a/b.cc")), Some("cpp"));
        assert_eq!(language_of(Path::new("Makefile")), None);
    }
}
