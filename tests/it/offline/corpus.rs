//! Replays the corpora of `fuzz` with the stable toolchain. Those of the Engine client are replayed
//! by its own tests.

use crate::harness::root;

#[path = "../../../fuzz/targets.rs"]
mod targets;

#[test]
fn every_fuzz_corpus_replays_without_a_finding() {
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let names: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names.iter().map(|file| file.trim_end_matches(".rs\"")) {
        let mut count = 0;
        for entry in std::fs::read_dir(root().join("fuzz/corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            // printed before the panic of an input that fails
            println!("{}", path.display());
            targets::run(name, &std::fs::read(path).unwrap());
            count += 1;
        }
        assert!(count >= 5, "{name} has no corpus");
    }
}
