//! No two files of a crate import each other, directly or through others. The `lib.rs` and `mod.rs`
//! of a folder are left out: they declare their files and hold what those share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::harness::{root, sources};

/// The path of a module below its crate, such as `["pool", "stock"]`.
type Module = Vec<String>;

/// What one file names, and what it hands on by `pub use`.
struct Imports {
    paths: Vec<Vec<String>>,
    handed_on: BTreeMap<String, Vec<String>>,
}

fn module_of(file: &Path, folder: &Path) -> Module {
    let path = file.strip_prefix(folder).unwrap().with_extension("");
    let mut parts: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// The code of a file without comments and without its unit tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Reads one path, with everything in its braces, from the front of `text`: `a::{b, c::d}` gives
/// `a::b` and `a::c::d`. Returns what is left.
fn read_path<'a>(mut text: &'a str, prefix: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = prefix.to_vec();
    loop {
        text = text.trim_start();
        if let Some(mut rest) = text.strip_prefix('{') {
            loop {
                rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                if let Some(rest) = rest.strip_prefix('}') {
                    return rest;
                }
                let left = read_path(rest, &path, paths);
                if left.len() == rest.len() {
                    return left;
                }
                rest = left.find([',', '}']).map_or("", |at| &left[at..]);
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        if end > 0 {
            path.push(text[..end].to_owned());
        }
        text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) if end > 0 => text = rest,
            _ => {
                paths.push(path);
                return text;
            }
        }
    }
}

fn imports(text: &str) -> Imports {
    let code = code(text);
    let mut found = Imports { paths: Vec::new(), handed_on: BTreeMap::new() };
    for statement in code.split("pub use ").skip(1).map(|rest| rest.split(';').next().unwrap()) {
        let mut paths = Vec::new();
        read_path(statement, &[], &mut paths);
        for path in paths {
            found.handed_on.insert(path.last().cloned().unwrap_or_default(), path);
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].trim_end_matches([' ', '\n']);
            let is_part = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if !is_part && !before.ends_with("pub use") {
                read_path(&code[at..], &[], &mut found.paths);
            }
        }
    }
    found
}

/// The module in which the item of a path is defined.
fn resolve(from: &Module, path: &[String], files: &BTreeMap<Module, Imports>, depth: usize) -> Option<Module> {
    let mut at = from.clone();
    let mut rest = path;
    match rest.first().map(String::as_str) {
        Some("crate") => (at, rest) = (Vec::new(), &rest[1..]),
        _ => {
            while rest.first().is_some_and(|part| part == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
    }
    while let [next, more @ ..] = rest {
        at.push(next.clone());
        if !files.contains_key(&at) {
            at.pop();
            let handed_on = files.get(&at).and_then(|file| file.handed_on.get(next));
            return match handed_on.filter(|_| depth < 5) {
                Some(path) => resolve(&at, path, files, depth + 1),
                None => Some(at),
            };
        }
        rest = more;
    }
    files.contains_key(&at).then_some(at)
}

/// Every module that can be reached from one.
fn reach(from: &Module, edges: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&Module> = edges[from].iter().collect();
    while let Some(next) = open.pop() {
        if seen.insert(next.clone()) {
            open.extend(&edges[next]);
        }
    }
    seen
}

#[test]
fn the_files_of_a_crate_do_not_import_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let folder = entry.unwrap().path();
        let mut paths = Vec::new();
        sources(&folder, &mut paths);
        let own = |path: &Path| !path.starts_with(folder.join("tests")) && !path.starts_with(folder.join("fuzz"));
        paths.retain(|path| own(path) && !path.ends_with("main.rs"));
        let is_face = |path: &Path| path.ends_with("mod.rs") || path.ends_with("lib.rs");
        let faces: BTreeSet<Module> =
            paths.iter().filter(|path| is_face(path)).map(|p| module_of(p, &folder)).collect();
        let files: BTreeMap<Module, Imports> = paths
            .iter()
            .map(|path| (module_of(path, &folder), imports(&std::fs::read_to_string(path).unwrap())))
            .collect();
        let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (module, file) in &files {
            let targets = file.paths.iter().filter_map(|path| resolve(module, path, &files, 0));
            let targets = targets.filter(|target| target != module && !faces.contains(target));
            edges.insert(module.clone(), if faces.contains(module) { BTreeSet::new() } else { targets.collect() });
        }
        for module in edges.keys() {
            if reach(module, &edges).contains(module) {
                circles.push(format!("{}::{}", folder.file_name().unwrap().display(), module.join("::")));
            }
        }
    }
    assert!(circles.is_empty(), "in a circle of imports: {circles:#?}");
}

#[test]
fn a_path_with_braces_is_read_as_its_parts() {
    let mut paths = Vec::new();
    read_path("super::{a, b::{self, C}, d::E as F};", &[], &mut paths);
    let texts: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(texts, ["super::a", "super::b::self", "super::b::C", "super::d::E"]);
}
