//! Items of the CIS Docker Benchmark, in words. Their numbers are those of version 1.6.0; other
//! versions count differently.

/// The items that checks refer to: number, and what it asks for.
pub const ITEMS: &[(&str, &str)] = &[
    ("1.1.2", "only trusted users control the engine"),
    ("2.5", "registries are authenticated"),
    ("2.7", "the engine's TCP port uses TLS"),
    ("2.17", "a seccomp profile applies to all containers"),
    ("2.18", "no experimental features"),
    ("3.14", "only its owner reads the engine's key (0400)"),
    ("3.15", "the engine's socket belongs to root"),
    ("3.16", "the engine's socket has mode 0660 or less"),
    ("3.18", "daemon.json has mode 0644 or less"),
    ("3.23", "containerd's socket belongs to root"),
    ("3.24", "containerd's socket has mode 0660 or less"),
    ("5.2", "containers have an AppArmor profile"),
];

/// The items with these numbers as the end of a message: `(CIS 3.15: the engine's socket belongs to
/// root)`.
pub fn cis(numbers: &[&str]) -> String {
    let words = |number: &&str| ITEMS.iter().find(|(known, _)| known == number).map_or("", |(_, words)| words);
    let items: Vec<String> = numbers.iter().map(|number| format!("{number}: {}", words(number))).collect();
    format!("(CIS {})", items.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_items_are_named_in_words() {
        let shown = cis(&["3.15", "3.16"]);
        let expected =
            "(CIS 3.15: the engine's socket belongs to root; 3.16: the engine's socket has mode 0660 or less)";
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_document_explains_every_number() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/DOCKER.md");
        let text = std::fs::read_to_string(path).unwrap();
        for (number, words) in ITEMS {
            assert!(text.contains(&format!("| {number} | {words} |")), "docs/DOCKER.md lacks {number}, {words}");
        }
    }
}
