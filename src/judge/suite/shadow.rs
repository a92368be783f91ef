//! Files of a submission that Python would import in place of a suite's file.

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

#[cfg(test)]
mod tests {
    use super::*;

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
