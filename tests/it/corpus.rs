//! Replays every fuzz corpus on stable.

use crate::harness::root;

#[path = "../../fuzz/targets.rs"]
mod targets;

type Target = fn(&[u8]);

#[test]
fn every_corpus_is_replayed_without_a_finding() {
    let all: [(&str, Target); 4] = [
        ("stdcopy", targets::stdcopy),
        ("jsonlines", targets::jsonlines),
        ("version", targets::version),
        ("wire", targets::wire),
    ];
    for (name, target) in all {
        let mut count = 0;
        for entry in std::fs::read_dir(root().join("fuzz/corpus").join(name)).unwrap() {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 3, "{name} has no corpus");
    }
}
