//! Replays every fuzz corpus of the client with the stable toolchain.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/targets.rs"]
mod targets;

#[test]
fn every_fuzz_corpus_of_the_client_replays_without_a_finding() {
    let corpora = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for name in ["attach", "client", "errorbody", "jsonlines", "stdcopy", "version"] {
        let mut count = 0;
        for entry in std::fs::read_dir(corpora.join(name)).unwrap() {
            let path = entry.unwrap().path();
            // printed before the panic of an input that fails
            println!("{}", path.display());
            targets::run(name, &std::fs::read(path).unwrap());
            count += 1;
        }
        assert!(count >= 5, "{name} has no corpus");
    }
}
