//! Which modules a Python program imports by plain statements, as far as the text shows. A wrong
//! guess costs nothing but time: it only decides which runtime waits for the program.

use crate::work::WorkFile;

/// As much of a file as is looked at, in bytes: imports stand at its head.
const HEAD_BYTES: usize = 16 * 1024;

/// Whether one of the Python files imports the module, or a part of it.
pub(super) fn import(files: &[WorkFile], module: &str) -> bool {
    let python = files.iter().filter(|file| file.path.ends_with(".py"));
    let mut heads = python.map(|file| &file.data[..file.data.len().min(HEAD_BYTES)]);
    heads.any(|head| head.split(|byte| *byte == b'\n').any(|line| line_imports(line, module)))
}

/// Whether a line is an import of the module: `import a, numpy.linalg as b`, `from numpy import c`.
fn line_imports(line: &[u8], module: &str) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return false };
    let mut words = line.split_ascii_whitespace();
    let names = match words.next() {
        Some("import") => line.trim_start().trim_start_matches("import"),
        Some("from") => words.next().unwrap_or_default(),
        _ => return false,
    };
    let first = |name: &str| {
        let name = name.trim_start();
        name.split(|c: char| !(c.is_alphanumeric() || c == '_')).next() == Some(module)
    };
    names.split(',').any(first)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_import_is_found_in_any_of_its_forms() {
        let imports = |path: &str, text: &str| {
            let data = Bytes::from(text.to_owned());
            import(&[WorkFile { path: path.to_owned(), mode: 0o644, data }], "numpy")
        };
        for text in [
            "import numpy",
            "import numpy as np",
            "import sys, numpy as np",
            "import numpy.linalg",
            "from numpy import array",
            "from numpy.linalg import norm",
            "print(1)\nif True:\n\timport\tnumpy\r\n",
        ] {
            assert!(imports("main.py", text), "{text}");
        }
        for text in
            ["import numpyro", "from .numpy import a", "import my.numpy", "x = 'import numpy'", "importnumpy", ""]
        {
            assert!(!imports("main.py", text), "{text}");
        }
        assert!(!imports("data.txt", "import numpy"));
        assert!(!imports("main.py", &format!("{}import numpy", "\n".repeat(HEAD_BYTES))));
    }
}
