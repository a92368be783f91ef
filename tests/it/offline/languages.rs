//! The pieces of every shipped language. What is missing is named, with the place for it.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::Profile;

use crate::harness::root;

/// Profiles whose programs are chosen by name only.
const WITHOUT_EXTENSIONS: [&str; 3] = ["octave", "pypy", "scripted"];

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Names in a folder; empty if it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What the languages of a checkout lack.
fn missing_pieces(root: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    let mut profiles = BTreeMap::new();
    for file in names(&root.join("config/profiles")) {
        match toml::from_str::<Profile>(&text(&root.join("config/profiles").join(&file))) {
            Ok(profile) => drop(profiles.insert(file.trim_end_matches(".toml").to_owned(), profile)),
            Err(error) => missing.push(format!("config/profiles/{file}: {error}")),
        }
    }
    let guide = text(&root.join("docs/LANGUAGES.md"));
    let tests = text(&root.join("tests/it/engine/languages.rs"));
    let more = text(&root.join("tests/it/engine/more_languages.rs"));
    let run = tests.split("languages!(").nth(1).and_then(|list| list.split(')').next()).unwrap_or_default();
    for (file, profile) in &profiles {
        let name = &profile.name;
        let mut lacks = |what: String| missing.push(format!("{name}: {what}"));
        if file != name {
            lacks(format!("config/profiles/{file}.toml has the name {name:?}; give it the name of its file"));
        }
        if !root.join("images").join(&profile.image).join("Dockerfile").is_file() {
            lacks(format!("images/{}/Dockerfile is missing: what its image is built from", profile.image));
        }
        if !guide
            .split(|c: char| !c.is_alphanumeric() && !"-.".contains(c))
            .any(|word| word.trim_end_matches('.') == name)
        {
            lacks("docs/LANGUAGES.md does not name it: add it to the list of what is shipped".to_owned());
        }
        // `python-numpy` is a variant of `python`
        let is_variant = name.split_once('-').is_some_and(|(language, _)| profiles.contains_key(language));
        if is_variant || WITHOUT_EXTENSIONS.contains(&name.as_str()) {
            continue;
        }
        if profile.extensions.is_empty() {
            lacks(format!("config/profiles/{file}.toml has no `extensions`: `assay run` does not know its files"));
        }
        let row = format!("name: \"{name}\"");
        if more.contains(&row) {
            continue;
        }
        if !tests.contains(&row) {
            lacks(
                "tests/it/engine/languages.rs has no row for it in LANGUAGES, nor more_languages.rs in ROWS: one \
                 program for each verdict"
                    .to_owned(),
            );
        }
        if !run.split(',').any(|word| word.trim() == name) {
            lacks("tests/it/engine/languages.rs does not run it: add it to `languages!`".to_owned());
        }
        if !root.join(format!("tests/it/golden/{name}.snap")).is_file() {
            lacks(format!("tests/it/golden/{name}.snap is missing: run its test, and `cargo insta review`"));
        }
    }
    for image in names(&root.join("images")) {
        let is_image = root.join("images").join(&image).join("Dockerfile").is_file();
        if is_image && !profiles.values().any(|profile| profile.image == image) {
            missing.push(format!("images/{image}: no profile in config/profiles uses it"));
        }
    }
    missing
}

#[test]
fn every_shipped_language_is_complete() {
    let missing = missing_pieces(root());
    assert!(missing.is_empty(), "pieces of languages are missing:\n{}", missing.join("\n"));
}

#[test]
fn a_missing_piece_of_a_language_is_named() {
    let without = |path: &str, piece: Option<(&str, &str)>| {
        let folder = tempfile::tempdir().unwrap();
        for part in ["config/profiles", "images", "docs", "tests/it/engine", "tests/it/golden"] {
            let to = folder.path().join(part);
            std::fs::create_dir_all(&to).unwrap();
            let from = root().join(part).join(".");
            assert!(std::process::Command::new("cp").arg("-r").arg(from).arg(&to).status().unwrap().success());
        }
        let path = folder.path().join(path);
        match piece {
            Some((piece, instead)) => {
                let whole = text(&path);
                assert!(whole.contains(piece), "{} has no {piece}", path.display());
                std::fs::write(&path, whole.replace(piece, instead)).unwrap();
            }
            None => std::fs::remove_file(&path).unwrap(),
        }
        missing_pieces(folder.path()).join("\n")
    };
    for (path, piece, named) in [
        ("images/lua/Dockerfile", None, "lua: images/lua/Dockerfile is missing"),
        ("config/profiles/lua.toml", None, "images/lua: no profile"),
        (
            "config/profiles/lua.toml",
            Some(("extensions", "allow = []\n#")),
            "lua: config/profiles/lua.toml has no `ext",
        ),
        ("config/profiles/lua.toml", Some(("entry", "enrty")), "config/profiles/lua.toml: "),
        ("tests/it/engine/languages.rs", Some(("name: \"lua\"", "name: \"luna\"")), "no row for it in LANGUAGES"),
        ("tests/it/engine/languages.rs", Some((" lua,", "")), "add it to `languages!`"),
        ("tests/it/golden/lua.snap", None, "tests/it/golden/lua.snap is missing"),
        ("docs/LANGUAGES.md", Some(("lua", "")), "docs/LANGUAGES.md does not name it"),
    ] {
        let missing = without(path, piece);
        assert!(missing.contains(named), "{path}: {missing}");
    }
}
