//! Examples for the commands' help and manual pages. A test parses each of them.

/// A command line, and what it does.
pub type Example = (&'static str, &'static str);

/// The examples of each command; those of `assay` itself have the empty name.
pub const ALL: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("assay run hello.py", "run a program in a sandbox"),
            ("assay test fizz.py test_fizz.py", "run a test file against code"),
            ("assay judge aplusb/", "judge the submissions in a problem package"),
            ("assay doctor", "find problems and how to fix them"),
            ("assay top", "watch the daemon"),
        ],
    ),
    (
        "run",
        &[
            ("assay run main.py < input.txt", "with input from a file; exits with the program's status"),
            ("assay run main.cpp -- -v 3", "with arguments"),
            ("assay run main.py --limits cpu_ms=500,memory_bytes=64M", "with other limits"),
            (
                "assay run main.py --with words.txt --env LANG=C -v",
                "with another file and a variable; print the verdict",
            ),
            ("assay run script --language bash --preset lesson", "a file without an extension"),
            ("assay run main.py --json | jq .verdict", "use the report's JSON"),
        ],
    ),
    (
        "test",
        &[
            ("assay test fizz.py test_fizz.py", "pytest or unittest"),
            ("assay test fizz.py test_fizz.py --with words.txt", "with another file of the code under test"),
            ("assay test greet.sh greet.bats --format tap -- bats --tap greet.bats", "tests that write TAP"),
            ("assay test main.c check.sh --format exit -- sh check.sh", "a test that exits 0 on success"),
        ],
    ),
    (
        "judge",
        &[
            ("assay judge aplusb/", "all submissions of the package, with the verdicts that their folders expect"),
            ("assay judge aplusb.zip mine.cpp", "a submission of your own"),
            ("assay judge aplusb/ mine.py --time-limit 2 --json", "with another time limit, as JSON"),
        ],
    ),
    (
        "rejudge",
        &[
            ("assay rejudge main.cpp --times 100", "check that the verdict is always the same"),
            ("assay rejudge main.py --stdin input.txt --cpu-ms 800", "see how close the program is to its limit"),
        ],
    ),
    (
        "submit",
        &[
            ("assay submit main.py --id homework-1", "submit; the same id again is the same submission"),
            ("assay wait homework-1", "wait for the result"),
        ],
    ),
    (
        "wait",
        &[
            ("assay wait homework-1", "print the output; exit as `run` does"),
            ("assay wait homework-1 --timeout-ms 5000 --json", "wait for at most five seconds"),
        ],
    ),
    ("get", &[("assay get homework-1", "queued, running, or the verdict")]),
    ("cancel", &[("assay cancel homework-1", "has no effect on a finished one")]),
    (
        "history",
        &[
            ("assay history", "the newest 50"),
            (
                "assay history --tenant T --verdict system_error --since yesterday --until today",
                "which of a tenant's submissions failed through no fault of its own, and why",
            ),
            ("assay history --since 7d --stats", "how many there were, by language, tenant and verdict"),
            ("assay history --language c --since 2026-11-01 --all --json", "all of a month so far, as JSON"),
        ],
    ),
    (
        "show",
        &[("assay show homework-1", "evidence, stages, output"), ("assay show homework-1 --json", "all of it as JSON")],
    ),
    (
        "receipt",
        &[
            ("assay receipt homework-1 > receipt.json", "keep the receipt"),
            ("assay receipt verify receipt.json", "check it with the daemon's key"),
        ],
    ),
    (
        "receipt verify",
        &[
            ("assay receipt verify receipt.json", "check it with the daemon's key"),
            (
                "assay receipt verify receipt.json --key grader.pem",
                "with a key that you were given: no daemon is asked",
            ),
            ("assay receipt verify receipt.json --report report.json", "and that it is the receipt of this report"),
        ],
    ),
    (
        "store",
        &[
            ("assay store backup /root/assay.db", "copy what the daemon keeps"),
            ("assay store forget T --yes", "remove a tenant's data"),
        ],
    ),
    ("store backup", &[("assay store backup /root/assay.db", "large outputs go to /root/assay.db-outputs")]),
    ("store check", &[("assay store check", "exits 0 if it is whole")]),
    ("store vacuum", &[("assay store vacuum", "give the room of what was removed back to the disk")]),
    (
        "store forget",
        &[
            ("assay store forget T --yes", "of all callers"),
            ("assay store forget '' --uid 1000 --yes", "what uid 1000 handed in without a tenant"),
        ],
    ),
    (
        "token",
        &[
            ("assay token add ci --tenant team-a --expires 90d", "make a token for a program"),
            ("assay token revoke ci", "when it leaked, or is not needed any more"),
        ],
    ),
    (
        "token add",
        &[
            ("assay token add ci --tenant team-a --expires 90d", "printed once"),
            ("assay token add ci --replace --expires 90d", "rotate it: the old one ends at once"),
            ("assay token add ops --tenant ops --role admin", "sees everything, and administers"),
        ],
    ),
    ("token list", &[("assay token list", "with tenant, role, end and last use")]),
    ("token revoke", &[("assay token revoke ci", "its browser sessions end, too")]),
    ("status", &[("assay status", "as text"), ("assay status --json | jq .queue", "one part of it as JSON")]),
    ("health", &[("assay health", "exits 0 or 1"), ("assay health --json", "all checks as JSON")]),
    (
        "doctor",
        &[
            ("assay doctor", "check the engine of the daemon's configuration"),
            ("assay doctor --engine unix:///var/run/docker.sock --no-pull", "check another engine, without a registry"),
            ("assay doctor --strict --json", "in CI: fail on warnings too"),
        ],
    ),
    ("images", &[("assay images list", "show which are present"), ("assay images build python c", "build two")]),
    ("images list", &[("assay images list", "show which are present")]),
    ("images build", &[("assay images build", "build all"), ("assay images build python c", "build two")]),
    ("images pull", &[("assay images pull mylang", "pull the current image from its registry")]),
    ("images prune", &[("assay images prune --dry-run", "what would be removed"), ("assay images prune", "remove it")]),
    ("pools", &[("assay pools", "ready sandboxes per profile and host")]),
    (
        "hosts",
        &[("assay hosts", "state and load of each host"), ("assay hosts drain left", "take a host out of service")],
    ),
    ("hosts drain", &[("assay hosts drain left", "no new work; what runs there finishes")]),
    ("hosts resume", &[("assay hosts resume left", "back into service")]),
    (
        "drain",
        &[
            ("assay drain", "nothing new is admitted; the daemon stays"),
            ("assay drain --wait", "return when nothing runs any more"),
        ],
    ),
    ("resume", &[("assay resume", "end the maintenance: submissions are admitted again")]),
    (
        "top",
        &[
            ("assay top", "until q or Ctrl-C"),
            ("assay top --interval 0.5", "update twice a second"),
            ("assay top --count 1", "one update, as plain text"),
            ("assay top --json --count 60 > minute.jsonl", "a line per second, for a minute"),
        ],
    ),
    ("reload", &[("assay reload", "apply the whole new configuration, or nothing if it is not valid")]),
    ("profiles", &[("assay profiles", "languages and their limits")]),
    ("sandboxes", &[("assay sandboxes", "all sandboxes on the engines")]),
    (
        "rpc",
        &[
            ("assay rpc daemon.status", "without parameters"),
            ("assay rpc submission.get '{\"id\": \"homework-1\"}'", "with parameters"),
            ("assay rpc submission.run @submission.json", "parameters from a file"),
            ("assay rpc submission.run - < submission.json", "parameters from stdin"),
        ],
    ),
    (
        "schema",
        &[
            ("assay schema", "the whole protocol"),
            ("assay schema report", "one part of it"),
            ("assay schema submission.wait.params", "a method's parameters"),
            ("assay schema --list", "list the names"),
        ],
    ),
    (
        "completions",
        &[
            ("assay completions bash > /etc/bash_completion.d/assay", "for all users"),
            ("assay completions zsh > ~/.zfunc/_assay", "for one user, with ~/.zfunc in fpath"),
            ("assay completions fish > ~/.config/fish/completions/assay.fish", "for one user"),
        ],
    ),
    (
        "man",
        &[("assay man | man -l -", "read the page of assay"), ("assay man /usr/share/man/man1", "install all pages")],
    ),
];

/// The examples of a command.
pub fn of(command: &str) -> &'static [Example] {
    ALL.iter().find(|(name, _)| *name == command).map_or(&[], |(_, examples)| examples)
}

/// The examples as text for a command's help.
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

    /// Splits a line as a shell does, up to a pipe or redirection.
    fn split_words(line: &str) -> Vec<String> {
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

    fn add_commands(command: &clap::Command, path: &str, all: &mut Vec<String>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name()).trim().to_owned();
            add_commands(inner, &path, all);
            all.push(path);
        }
    }

    #[test]
    fn every_command_has_examples_and_an_output_entry() {
        let mut all = vec![String::new()];
        add_commands(&crate::command(), "", &mut all);
        let mut with_examples: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        all.sort();
        with_examples.sort_unstable();
        assert_eq!(all, with_examples);
        let mut leaves: Vec<&str> =
            all.iter().map(String::as_str).filter(|name| !["", "images", "store", "token"].contains(name)).collect();
        let mut outputs: Vec<&str> = crate::outputs::ALL.iter().map(|json| json.command).collect();
        leaves.sort_unstable();
        outputs.sort_unstable();
        assert_eq!(leaves, outputs, "every command is in outputs::ALL");
    }

    #[test]
    fn every_example_parses() {
        for (name, examples) in ALL {
            for (line, _) in *examples {
                let parsed = crate::command().try_get_matches_from(split_words(line));
                assert!(parsed.is_ok(), "{name}: {line}: {}", parsed.unwrap_err());
            }
        }
        assert_eq!(split_words("a 'b c' d | e"), ["a", "b c", "d"]);
        assert!(crate::command().try_get_matches_from(split_words("assay run --no-such x")).is_err());
    }
}
