//! Interactive problems: the time of one question and its answer through the relay, against a ping
//! to an init. Both sides are C programs in sandboxes of their own.

use serde_json::{Value, json};

use crate::daemon::{Caller, Daemon, DaemonOptions};
use crate::engine;
use crate::sample::Sample;

/// Asks its argument's number of questions.
const ASKER: &str = r#"
#include <stdio.h>
int main(void) {
    int n, answer;
    if (scanf("%d", &n) != 1) return 1;
    for (int i = 0; i < n; i++) {
        printf("%d\n", i);
        fflush(stdout);
        if (scanf("%d", &answer) != 1 || answer != 2 * i) return 1;
    }
    return 0;
}
"#;

/// Says how many questions to ask, and answers them.
const ANSWERER: &str = r#"
#include <stdio.h>
int main(int argc, char **argv) {
    int n, question;
    FILE *input = fopen(argv[1], "r");
    if (!input || fscanf(input, "%d", &n) != 1) return 1;
    printf("%d\n", n);
    fflush(stdout);
    for (int i = 0; i < n; i++) {
        if (scanf("%d", &question) != 1 || question != i) return 43;
        printf("%d\n", 2 * question);
        fflush(stdout);
    }
    return 42;
}
"#;

/// Questions of one test.
const QUESTIONS: u32 = 2000;

/// The wall time of a test with this many questions, in milliseconds.
fn talk(caller: &mut Caller, questions: u32) -> f64 {
    let program = |name: &str, code: &str| json!([{ "path": name, "content": code }]);
    let report: Value = caller.call(
        "submission.run",
        json!({
            "language": "c",
            "files": program("main.c", ASKER),
            "interactor": { "language": "c", "files": program("talk.c", ANSWERER) },
            "tests": [{ "stdin": questions.to_string() }],
            "limits": { "wall_ms": 60_000 },
        }),
    );
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    report["timing"]["run_ms"].as_f64().unwrap()
}

pub fn all(runs: usize) {
    let daemon = Daemon::start(&DaemonOptions { profiles: "c", floor: 2, ceiling: 4, ..DaemonOptions::default() });
    let mut caller = daemon.caller();
    caller.image("c");
    caller.wait_until_full();
    talk(&mut caller, 1);
    let (mut questions, mut pings) = (Vec::new(), Vec::new());
    for _ in 0..(runs / 20).max(5) {
        let beside = engine::ping(200).p50();
        caller.wait_until_full();
        let short = talk(&mut caller, 1);
        caller.wait_until_full();
        let long = talk(&mut caller, QUESTIONS);
        questions.push((long - short) / f64::from(QUESTIONS - 1));
        pings.push(beside);
    }
    println!("\n{:<58} {:>9} {:>9} {:>9}", "a question and its answer (ms)", "p50", "p99", "ratio");
    let pings = Sample(pings);
    pings.print("ping to an init", None);
    Sample(questions).print("through the relay (target: 4 pings)", Some(&pings));
}
