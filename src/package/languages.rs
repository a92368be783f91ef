//! Languages by the endings of file names, as the daemon's profiles say. Where the format gives one
//! ending to two languages, the content decides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How much of a file is looked at.
const HEAD_BYTES: usize = 64 * 1024;

/// Names of profiles by ending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Languages(BTreeMap<String, BTreeSet<String>>);

impl Languages {
    /// From profiles, each with its endings (without the dot).
    pub fn new<N, E, I>(profiles: I) -> Languages
    where
        N: Into<String>,
        E: IntoIterator<Item: Into<String>>,
        I: IntoIterator<Item = (N, E)>,
    {
        let mut all = Languages::default();
        for (name, endings) in profiles {
            let name = name.into();
            for ending in endings {
                all.0.entry(ending.into()).or_default().insert(name.clone());
            }
        }
        all
    }

    /// The profiles whose ending the name has. Of two endings the longer one counts: `d.ts` is not
    /// `ts`.
    pub fn of_name(&self, file: &Path) -> Vec<String> {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        // what begins with a dot is a hidden file without an ending
        let dots = name.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
        let found = dots.map(|at| &name[at + 1..]).find_map(|ending| self.0.get(ending));
        found.into_iter().flatten().cloned().collect()
    }

    /// The profiles of a file by its ending and, where two languages share one, its content. A
    /// first line for Python 2 has no language here.
    pub fn of_file(&self, name: &Path, path: &Path) -> Vec<String> {
        let mut found = self.of_name(name);
        let shared = ["perl", "prolog", "objective-c", "octave", "python"];
        if !found.iter().any(|language| shared.contains(&language.as_str())) {
            return found;
        }
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES)]);
        if text.lines().next().is_some_and(|line| line.starts_with("#!") && line.contains("python2")) {
            found.retain(|language| language != "python");
        }
        for (pair, chosen) in
            [(["perl", "prolog"], perl_or_prolog(&text)), (["objective-c", "octave"], c_or_octave(&text))]
        {
            if found.iter().any(|language| pair.contains(&language.as_str())) {
                // also if the daemon has no such profile: it is not the other one
                found.retain(|language| !pair.contains(&language.as_str()));
                found.push(chosen.to_owned());
            }
        }
        found
    }
}

fn perl_or_prolog(text: &str) -> &'static str {
    let any_line = |is: &dyn Fn(&str) -> bool| text.lines().any(|line| is(line.trim()));
    let is_prolog =
        |line: &str| line.starts_with(":-") || line.ends_with(":-") || line.contains(" :- ") || line.starts_with('%');
    let is_perl = text.starts_with("#!") || any_line(&|line| line.starts_with("use ") || line.starts_with("my "));
    if !is_perl && any_line(&is_prolog) { "prolog" } else { "perl" }
}

fn c_or_octave(text: &str) -> &'static str {
    let marks = ["#import", "#include", "@interface", "@implementation", "int main"];
    let is_c = text.lines().any(|line| marks.iter().any(|mark| line.trim().starts_with(mark)));
    if is_c { "objective-c" } else { "octave" }
}

/// Why the language of a file is not known although profiles have its ending.
pub fn several(file: &str, profiles: &[String]) -> String {
    let all = profiles.join(" and ");
    format!("{file} may be {all}, which have the same ending in `extensions`; say which with --language")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages() -> Languages {
        Languages::new([
            ("c", vec!["c"]),
            ("cpp", vec!["cpp", "C", "c++"]),
            ("typescript", vec!["ts"]),
            ("declarations", vec!["d.ts"]),
            ("perl", vec!["pl"]),
            ("objective-c", vec!["m"]),
            ("python", vec!["py"]),
            ("pypy", vec!["py"]),
        ])
    }

    #[test]
    fn the_longest_ending_names_the_profiles() {
        let of = |name: &str| languages().of_name(Path::new(name)).join(" ");
        assert_eq!(of("a/b.cpp"), "cpp");
        assert_eq!(of("a.C"), "cpp");
        assert_eq!(of("a.c"), "c");
        assert_eq!(of("a.c++"), "cpp");
        assert_eq!(of("x.y.ts"), "typescript");
        assert_eq!(of("x.d.ts"), "declarations");
        assert_eq!(of("a.py"), "pypy python");
        assert_eq!((of("Makefile"), of(".c"), of("c"), of("a.")), Default::default());
    }

    #[test]
    fn languages_with_one_ending_are_told_apart_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, text: &str| {
            let path = folder.path().join("file");
            std::fs::write(&path, text).unwrap();
            languages().of_file(Path::new(name), &path).join(" ")
        };
        assert_eq!(of("a.pl", "main :-\n  write(1)."), "prolog");
        assert_eq!(of("a.pl", "use strict;\nprint 1;"), "perl");
        assert_eq!(of("a.m", "disp(1)"), "octave");
        assert_eq!(of("a.m", "#import <stdio.h>\n"), "objective-c");
        assert_eq!(of("a.py", "#!/usr/bin/env python2\nprint 1"), "pypy");
        assert_eq!(of("a.py", "print(1)"), "pypy python");
    }
}
