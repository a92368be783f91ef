//! Files of a submission that stand in the way of a suite: that Python or node would load in place
//! of the suite's file, that `make` or cargo would read before the suite's, or that are read as its
//! results.

use crate::work::WorkFile;
use protocol::submission::SuiteFormat;

/// Extensions of modules that are not source.
const BINARY: [&str; 3] = ["so", "pyd", "pyc"];

/// The folder of a path, with its slash, and its name.
fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |at| at + 1))
}

/// The suite's file that `own`, a file of the submission, would be imported in place of.
pub(crate) fn shadowed<'a>(suite: &[&'a str], own: &str) -> Option<&'a str> {
    suite.iter().copied().find(|path| path.strip_suffix(".py").is_some_and(|module| hides(own, module)))
}

/// Whether `own` is a package or a compiled module with the name of the module at this path.
fn hides(own: &str, module: &str) -> bool {
    let package = own.strip_prefix(module).and_then(|rest| rest.strip_prefix("/__init__."));
    let (folder, name) = split(own);
    let (stem, extensions) = name.split_once('.').unwrap_or((name, ""));
    let extension = extensions.rsplit('.').next().unwrap_or_default();
    let is_binary = BINARY.contains(&extension) && format!("{folder}{stem}") == module;
    package.is_some_and(|rest| rest == "py" || BINARY.contains(&rest.rsplit('.').next().unwrap_or_default()))
        || is_binary
}

/// Whether `own` is byte code that an interpreter keeps for one of the suite's files. It is often
/// handed in by accident.
pub(crate) fn is_byte_code_of(suite: &[&str], own: &str) -> bool {
    let (folder, name) = split(own);
    let Some(folder) = folder.strip_suffix("__pycache__/") else { return false };
    let stem = name.split('.').next().unwrap_or_default();
    name.ends_with(".pyc") && suite.iter().any(|path| path.strip_suffix(".py") == Some(&format!("{folder}{stem}")))
}

/// Why `own`, a file of the submission, would change how a suite's commands run or what they
/// report.
pub(crate) fn interferes(format: SuiteFormat, suite: &[WorkFile], own: &str) -> Option<String> {
    if format == SuiteFormat::Junit && own.starts_with("reports/") && own.to_ascii_lowercase().ends_with(".xml") {
        return Some("the suite's reports are read from reports/".to_owned());
    }
    let hidden = suite.iter().find(|file| hides_from_node(own, file, suite) || hides_from_tools(own, &file.path))?;
    Some(format!("it would be read in place of, or before, the suite's {}", hidden.path))
}

/// Extensions that node adds to a name, in its order.
const NODE: [&str; 4] = ["", ".js", ".json", ".node"];

/// Whether node takes `own` for a module of the suite that another of its files names without its
/// extension: the file of that name, one with an earlier extension, or a folder's settings.
fn hides_from_node(own: &str, module: &WorkFile, suite: &[WorkFile]) -> bool {
    let Some(at) = NODE.iter().rposition(|extension| !extension.is_empty() && module.path.ends_with(extension)) else {
        return false;
    };
    let stem = &module.path[..module.path.len() - NODE[at].len()];
    let folder = stem.strip_suffix("/index");
    let is_before = own.strip_prefix(stem).is_some_and(|rest| NODE[..at].contains(&rest));
    let is_for_folder = folder.and_then(|folder| own.strip_prefix(folder));
    let is_for_folder = is_for_folder.is_some_and(|rest| NODE.contains(&rest) || rest == "/package.json");
    let is_named = |stem: &str| {
        let (_, name) = split(stem);
        let quoted = ['\'', '"', '`'].map(|quote| format!("/{name}{quote}"));
        let texts = suite.iter().map(|file| String::from_utf8_lossy(&file.data));
        texts.into_iter().any(|text| quoted.iter().any(|word| text.contains(word.as_str())))
    };
    is_before && is_named(stem) || is_for_folder && folder.is_some_and(is_named)
}

/// Whether `own` has settings for what `make` or cargo reads at this path of the suite.
fn hides_from_tools(own: &str, path: &str) -> bool {
    let (folder, name) = split(path);
    let below = own.strip_prefix(folder);
    match name {
        "Makefile" | "makefile" => below == Some("GNUmakefile") || name == "Makefile" && below == Some("makefile"),
        "Cargo.toml" => below.is_some_and(|rest| rest.starts_with(".cargo/")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_would_read_in_place_of_the_suites_files_is_found() {
        let file =
            |path: &str, text: &str| WorkFile { path: path.to_owned(), mode: 0o644, data: text.to_owned().into() };
        let suite = [
            file("a.test.js", "const h = require('./helper'), c = require(\"./cases\"), k = require('./kit');"),
            file("helper.js", ""),
            file("cases.json", "[]"),
            file("data.json", "[]"),
            file("kit/index.js", ""),
            file("Makefile", ""),
            file("Cargo.toml", ""),
        ];
        let of = |own: &str| interferes(SuiteFormat::Exit, &suite, own).is_some();
        for own in [
            "helper",
            "cases.js",
            "cases",
            "kit.js",
            "kit/package.json",
            "GNUmakefile",
            "makefile",
            ".cargo/config.toml",
        ] {
            assert!(of(own), "{own}");
        }
        for own in ["helper.json", "data.js", "cases.mjs", "kit/more.js", "sub/helper", "package.json", "src/lib.rs"] {
            assert!(!of(own), "{own}");
        }
        let junit = |own: &str| interferes(SuiteFormat::Junit, &[], own).is_some();
        assert!(
            junit("reports/a.xml") && junit("reports/sub/TEST-x.XML") && !junit("reports/data.txt") && !junit("a.xml")
        );
        assert!(!of("reports/a.xml"));
    }

    const SUITE: [&str; 3] = ["test_main.py", "lib/helper.py", "kit/__init__.py"];

    #[test]
    fn packages_and_compiled_modules_with_the_name_of_a_suites_file_are_found() {
        let of = |own: &str| shadowed(&SUITE, own);
        assert_eq!(of("test_main/__init__.py"), Some("test_main.py"));
        assert_eq!(of("test_main/__init__.cpython-311-x86_64-linux-gnu.so"), Some("test_main.py"));
        assert_eq!(of("test_main.cpython-311-x86_64-linux-gnu.so"), Some("test_main.py"));
        assert_eq!(of("lib/helper.pyc"), Some("lib/helper.py"));
        assert_eq!(of("lib/helper/__init__.pyc"), Some("lib/helper.py"));
        assert_eq!(of("kit/__init__.abi3.so"), Some("kit/__init__.py"));
        for harmless in
            ["main.py", "test_main/data.txt", "helper.pyc", "lib/__init__.py", "kit/more.py", "test_main.txt"]
        {
            assert_eq!(of(harmless), None, "{harmless}");
        }
    }

    #[test]
    fn byte_code_of_a_suites_file_is_found() {
        assert!(is_byte_code_of(&SUITE, "__pycache__/test_main.cpython-311.pyc"));
        assert!(is_byte_code_of(&SUITE, "lib/__pycache__/helper.cpython-311.opt-1.pyc"));
        assert!(!is_byte_code_of(&SUITE, "__pycache__/helper.cpython-311.pyc"));
        assert!(!is_byte_code_of(&SUITE, "__pycache__/main.cpython-311.pyc"));
    }
}
