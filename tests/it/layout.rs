//! The import directions of DESIGN section 3: arrows point down the list, the init needs only the wire, and the Engine
//! client knows nothing of sandboxes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::root;

/// What each module may use beside itself. Everybody may use `model` and the bounds of `config`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &[]),
    ("init", &["wire"]),
    ("docker", &[]),
    ("telemetry", &[]),
    ("config", &["model", "docker", "telemetry"]),
    ("policy", &["model", "docker"]),
    ("image", &["docker", "policy"]),
    ("sandbox", &["model", "wire", "docker", "policy"]),
    ("pool", &["model", "telemetry", "sandbox"]),
    ("host", &["model", "telemetry", "docker", "policy", "image", "sandbox", "pool"]),
    ("judge", &["model", "wire", "config", "sandbox"]),
    ("scheduler", &["model", "telemetry", "config", "sandbox", "pool", "host", "judge"]),
    ("rpc", &["model", "wire", "telemetry", "config", "pool", "host", "image", "judge", "scheduler"]),
    ("gateway", &["telemetry", "config", "scheduler", "rpc"]),
    (
        "daemon",
        &["model", "telemetry", "config", "docker", "image", "sandbox", "host", "judge", "scheduler", "rpc", "gateway"],
    ),
    ("cli", &["config", "docker", "model", "rpc"]),
];

/// Every Rust file below a folder.
pub fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The modules that a file names by `crate::NAME`, tests aside.
fn used(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_module_imports_only_what_stands_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !folder.is_dir() || name == "bin" {
            continue;
        }
        let below = allowed.get(name.as_str()).unwrap_or_else(|| panic!("module {name} is not in the table"));
        let mut files = Vec::new();
        sources(&folder, &mut files);
        for file in files {
            for module in used(&std::fs::read_to_string(&file).unwrap()) {
                if module != name && !below.contains(&module.as_str()) {
                    wrong.push(format!("{} uses {module}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_init_uses_nothing_but_std_nix_and_the_wire() {
    let mut files = Vec::new();
    sources(&root().join("src/init"), &mut files);
    sources(&root().join("src/wire"), &mut files);
    files.retain(|file| !file.to_string_lossy().ends_with("_tests.rs"));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter_map(|line| line.trim().strip_prefix("use ")) {
            let first = line.split("::").next().unwrap();
            assert!(
                ["std", "nix", "crate", "super", "self"].contains(&first)
                    || line.starts_with(char::is_lowercase) && ["cgroup", "files", "host", "run"].contains(&first),
                "{}: use {line}",
                file.display()
            );
        }
    }
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} has no head", file.display());
    }
}
