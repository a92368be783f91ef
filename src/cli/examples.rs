//! Examples: what a command's help and its manual page end with. Each one parses; a test sees to it.

/// A line to type, and what it does.
pub type Example = (&'static str, &'static str);

/// The examples of each command; of `assay` itself under the empty name.
pub const ALL: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("assay run hello.py", "run a program in a sandbox, as if it ran here"),
            ("assay test fizz.py test_fizz.py", "run tests against code, case by case"),
            ("assay judge aplusb/", "judge a problem package's own submissions"),
            ("assay doctor", "what is wrong, and the command that mends it"),
            ("assay top", "watch the daemon"),
        ],
    ),
    (
        "run",
        &[
            ("assay run main.py < input.txt", "input from a file, output here, the program's own exit status"),
            ("assay run main.cpp -- -v 3", "with arguments"),
            ("assay run main.py --limits cpu_ms=500,memory_bytes=64M", "with limits of its own"),
            (
                "assay run main.py --with words.txt --env LANG=C -v",
                "with another file and an environment; say the verdict",
            ),
            ("assay run script --language bash --preset lesson", "where the file's ending says nothing"),
            ("assay run main.py --json | jq .verdict", "the whole report"),
        ],
    ),
    (
        "test",
        &[
            ("assay test fizz.py test_fizz.py", "pytest or unittest, for python"),
            ("assay test fizz.py test_fizz.py --with words.txt", "with more of the code under test"),
            ("assay test greet.sh greet.bats --format tap -- bats --tap greet.bats", "anything that speaks TAP"),
            ("assay test main.c check.sh --format exit -- sh check.sh", "anything that exits 0 when it is well"),
        ],
    ),
    (
        "judge",
        &[
            ("assay judge aplusb/", "every submission of the package, against what its folder promises"),
            ("assay judge aplusb.zip mine.cpp", "one of your own"),
            ("assay judge aplusb/ mine.py --time-limit 2 --json", "with another time limit, as JSON"),
        ],
    ),
    (
        "rejudge",
        &[
            ("assay rejudge main.cpp --times 100", "does its verdict depend on chance?"),
            ("assay rejudge main.py --stdin input.txt --cpu-ms 800", "how near is it to its limit?"),
        ],
    ),
    (
        "submit",
        &[
            ("assay submit main.py --id homework-1", "hand in; the id may be used again, and is the same submission"),
            ("assay wait homework-1", "and fetch the outcome, perhaps tomorrow"),
        ],
    ),
    (
        "wait",
        &[
            ("assay wait homework-1", "output and exit status as `run` has them"),
            ("assay wait homework-1 --timeout-ms 5000 --json", "at most five seconds"),
        ],
    ),
    ("get", &[("assay get homework-1", "queued, running, or its verdict")]),
    ("cancel", &[("assay cancel homework-1", "as often as you like")]),
    ("status", &[("assay status", "for people"), ("assay status --json | jq .queue", "for programs")]),
    ("health", &[("assay health", "exit status 0 or 1"), ("assay health --json", "with every check")]),
    (
        "doctor",
        &[
            ("assay doctor", "this machine as the daemon's configuration sees it"),
            (
                "assay doctor --engine unix:///var/run/docker.sock --no-pull",
                "another engine, without asking a registry",
            ),
            ("assay doctor --strict --json", "for a pipeline: fail over anything that is only to look at"),
        ],
    ),
    ("images", &[("assay images list", "which are there"), ("assay images build python c", "make two")]),
    ("images list", &[("assay images list", "which are there")]),
    ("images build", &[("assay images build", "all of them"), ("assay images build python c", "two of them")]),
    ("images pull", &[("assay images pull mylang", "newest from its registry")]),
    ("pools", &[("assay pools", "how many sandboxes are ready, for each profile and host")]),
    ("hosts", &[("assay hosts", "their state, their room"), ("assay hosts drain left", "take one out of service")]),
    ("hosts drain", &[("assay hosts drain left", "no more work; what runs there ends in peace")]),
    ("hosts resume", &[("assay hosts resume left", "work again")]),
    (
        "top",
        &[
            ("assay top", "until q or Ctrl-C"),
            ("assay top --interval 0.5", "twice a second"),
            ("assay top --count 1", "one look, as plain text"),
            ("assay top --json --count 60 > minute.jsonl", "a minute of it, a line a second"),
        ],
    ),
    ("reload", &[("assay reload", "all of the new configuration, or an error and nothing")]),
    ("profiles", &[("assay profiles", "the languages and their limits")]),
    ("sandboxes", &[("assay sandboxes", "what lives on the engines now")]),
    (
        "rpc",
        &[
            ("assay rpc daemon.status", "without parameters"),
            ("assay rpc submission.get '{\"id\": \"homework-1\"}'", "with some"),
            ("assay rpc submission.run @submission.json", "from a file"),
            ("assay rpc submission.run - < submission.json", "from stdin"),
        ],
    ),
    (
        "schema",
        &[
            ("assay schema", "the protocol, all of it"),
            ("assay schema report", "one part of it"),
            ("assay schema submission.wait.params", "what a method takes"),
            ("assay schema --list", "which names there are"),
        ],
    ),
    (
        "completions",
        &[
            ("assay completions bash > /etc/bash_completion.d/assay", "for everybody"),
            ("assay completions zsh > ~/.zfunc/_assay", "for yourself; ~/.zfunc in your fpath"),
            ("assay completions fish > ~/.config/fish/completions/assay.fish", "for yourself"),
        ],
    ),
    ("man", &[("assay man | man -l -", "read the first one"), ("assay man /usr/share/man/man1", "install them all")]),
];

/// The examples of a command.
pub fn of(command: &str) -> &'static [Example] {
    ALL.iter().find(|(name, _)| *name == command).map_or(&[], |(_, examples)| examples)
}

/// As they end a command's help.
pub fn section(command: &str) -> String {
    let mut text = String::new();
    for (line, what) in of(command) {
        text.push_str(&format!("  {line}\n      {what}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words as a shell sees them, up to what the shell itself does.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                c if quoted => word.get_or_insert_default().push(c),
                '|' | '<' | '>' => break,
                c if c.is_whitespace() => words.extend(word.take()),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    fn leaves(command: &clap::Command, path: &str, all: &mut Vec<String>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name()).trim().to_owned();
            leaves(inner, &path, all);
            all.push(path);
        }
    }

    #[test]
    fn every_command_has_examples_and_every_example_is_of_a_command() {
        let mut all = vec![String::new()];
        leaves(&crate::command(), "", &mut all);
        let mut said: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        all.sort();
        said.sort_unstable();
        assert_eq!(all, said);
        let mut leaves_only: Vec<&str> =
            all.iter().map(String::as_str).filter(|name| !["", "images"].contains(name)).collect();
        let mut outputs: Vec<&str> = crate::outputs::ALL.iter().map(|json| json.command).collect();
        leaves_only.sort_unstable();
        outputs.sort_unstable();
        assert_eq!(leaves_only, outputs, "the JSON of every command is said");
    }

    #[test]
    fn every_example_parses() {
        for (name, examples) in ALL {
            for (line, _) in *examples {
                let parsed = crate::command().try_get_matches_from(words(line));
                assert!(parsed.is_ok(), "{name}: {line}: {}", parsed.unwrap_err());
            }
        }
        assert_eq!(words("a 'b c' d | e"), ["a", "b c", "d"]);
        assert!(crate::command().try_get_matches_from(words("assay run --no-such x")).is_err());
    }
}
