//! Programs of a package: the files of one program, its language and its entry file.

use std::path::{Path, PathBuf};

use crate::languages::several;
use crate::{Error, Languages, file_name, inside, list};
use protocol::language_code::profile_of_code;

/// How deep a program's folders may be nested.
const MAX_DEPTH: usize = 8;

/// The profile of a program with the scripts `build` and `run`.
pub const SCRIPTED: &str = "scripted";

/// A program of one or several files.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceProgram {
    /// A profile's name.
    pub language: String,
    pub entry: String,
    /// Path in the sandbox, and path on disk.
    pub files: Vec<(String, PathBuf)>,
}

/// Whether a file is a trace of a tool and no part of a program.
fn is_litter(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    matches!(extension, Some("class" | "pyc" | "pyo" | "o" | "obj" | "exe" | "swp"))
        || name.ends_with('~')
        || name.split('/').any(|part| part == "__pycache__" || part == "__MACOSX" || part == "Thumbs.db")
}

impl SourceProgram {
    /// Reads a submission that is a file, or a folder of files. `Ok(Err(reason))` if it is
    /// not a program: no source of a known language, or sources of several.
    ///
    /// # Errors
    /// A link leads out of `root`, or a folder cannot be read.
    pub fn submission(
        root: &Path,
        path: &Path,
        languages: &Languages,
        language: Option<&str>,
    ) -> Result<Result<SourceProgram, String>, Error> {
        let files = files_of(root, path)?;
        Ok(SourceProgram::of_files(files, languages, language.map(profile_of_code)))
    }

    /// Reads a set of answers as a program that prints the one it is asked for: the answer of the
    /// test `secret/1` is `secret/1`, `secret/1.out` or `secret/1.ans`, or one of these without the
    /// folder.
    ///
    /// # Errors
    /// As with [`SourceProgram::submission`].
    pub fn answers(root: &Path, path: &Path) -> Result<Result<SourceProgram, String>, Error> {
        let files = files_of(root, path)?;
        if files.is_empty() {
            return Ok(Err("no answers".to_owned()));
        }
        Ok(Ok(SourceProgram { language: "bash".to_owned(), entry: String::new(), files }))
    }

    /// Reads a validator, which may have the scripts `build` and `run`; `None` if the path does not
    /// exist.
    ///
    /// # Errors
    /// A link leads out of `root`, or no file is a program.
    pub fn validator(root: &Path, path: &Path, languages: &Languages) -> Result<Option<SourceProgram>, Error> {
        if !path.exists() {
            return Ok(None);
        }
        let files = files_of(root, path)?;
        let scripts = ["run", "build"].into_iter().find(|script| files.iter().any(|(name, _)| name == script));
        if let Some(script) = scripts.filter(|_| path.is_dir()) {
            return Ok(Some(SourceProgram { language: SCRIPTED.to_owned(), entry: script.to_owned(), files }));
        }
        SourceProgram::of_files(files, languages, None).map(Some).map_err(|reason| Error::new(path, reason))
    }

    /// Finds the language and the entry: `main`, `__main__`, `validate` or `validator`, else the
    /// first source. With `given`, only files of that language can be the entry, whatever it is if
    /// there is none.
    fn of_files(
        files: Vec<(String, PathBuf)>,
        known: &Languages,
        given: Option<&str>,
    ) -> Result<SourceProgram, String> {
        let mut sources: Vec<(&str, Vec<String>)> = files
            .iter()
            .map(|(name, path)| (name.as_str(), known.of_file(Path::new(name), path)))
            .filter(|(_, languages)| !languages.is_empty())
            .collect();
        if let Some(given) = given {
            sources.retain(|(_, languages)| languages.iter().any(|language| language == given));
            sources.iter_mut().for_each(|(_, languages)| languages.retain(|language| language == given));
            if let (true, Some((entry, _))) = (sources.is_empty(), files.first()) {
                return Ok(SourceProgram { language: given.to_owned(), entry: entry.clone(), files });
            }
        }
        let rank = |name: &str| {
            let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
            let names = ["main", "__main__", "validate", "validator"];
            names.iter().position(|known| stem.as_deref() == Some(known)).unwrap_or(names.len())
        };
        let entry = sources.iter().min_by_key(|(name, _)| (name.matches('/').count(), rank(name)));
        let Some((entry, of_entry)) = entry else {
            let shown = files.iter().map(|(name, _)| name.as_str()).take(3).collect::<Vec<_>>().join(", ");
            return Err(format!("no source of a known language ({shown})"));
        };
        let [language] = of_entry.as_slice() else { return Err(several(entry, of_entry)) };
        let languages: std::collections::BTreeSet<&str> =
            sources.iter().flat_map(|(_, languages)| languages).map(String::as_str).collect();
        // a part in C next to C++ is C++; a script next to a main file is a helper
        let is_mixed = languages.len() > 1 && !languages.iter().all(|language| ["c", "cpp"].contains(language));
        if is_mixed && rank(entry) > 1 {
            let all = languages.into_iter().collect::<Vec<_>>().join(", ");
            return Err(format!("sources of several languages ({all}) and no main file"));
        }
        let is_cpp = |languages: &[String]| languages.iter().any(|language| language == "cpp");
        let cpp = sources.iter().find(|(_, languages)| languages.len() == 1 && is_cpp(languages));
        let (entry, language) = match cpp.filter(|_| language == "c") {
            Some((name, _)) => ((*name).to_owned(), "cpp".to_owned()),
            None => ((*entry).to_owned(), language.clone()),
        };
        Ok(SourceProgram { language, entry, files })
    }
}

/// The files of a program, without hidden ones and what tools leave behind.
fn files_of(root: &Path, path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut files = Vec::new();
    if path.is_dir() {
        collect(root, path, "", &mut files, 0)?;
        files.retain(|(name, _)| !is_litter(name));
    } else if !is_litter(&file_name(path)) {
        files.push((file_name(path), inside(root, path)?));
    }
    Ok(files)
}

pub(crate) fn collect(
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

    fn of(files: &[(&str, &str)]) -> Result<(String, String), String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (name, text) in files {
            let path = root.join("p").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let languages = Languages::new([
            ("c", vec!["c"]),
            ("cpp", vec!["cpp", "C"]),
            ("java", vec!["java"]),
            ("perl", vec!["pl"]),
            ("bash", vec!["sh"]),
            ("python", vec!["py"]),
            ("objective-c", vec!["m"]),
        ]);
        SourceProgram::submission(&root, &root.join("p"), &languages, None)
            .unwrap()
            .map(|program| (program.language, program.entry))
    }

    #[test]
    fn the_entry_is_main_and_litter_is_left_out() {
        let program = |language: &str, entry: &str| Ok((language.to_owned(), entry.to_owned()));
        assert_eq!(
            of(&[("a.py", ""), ("__main__.py", ""), ("__pycache__/a.pyc", "")]),
            program("python", "__main__.py")
        );
        assert_eq!(of(&[("A.java", ""), ("A.class", ""), ("README", "")]), program("java", "A.java"));
        assert_eq!(of(&[("lib.c", ""), ("sol.cpp", "")]), program("cpp", "sol.cpp"));
        assert_eq!(of(&[("gen.sh", ""), ("main.py", "")]), program("python", "main.py"));
        assert!(of(&[("a.py", ""), ("b.java", "")]).unwrap_err().contains("java, python"));
        assert!(of(&[("README.md", "")]).unwrap_err().contains("README.md"));
    }

    #[test]
    fn a_part_in_c_next_to_cpp_is_cpp_whatever_the_order() {
        assert_eq!(of(&[("main.c", ""), ("z.C", "")]), Ok(("cpp".to_owned(), "z.C".to_owned())));
    }
}
