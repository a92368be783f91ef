//! The process is killed while callers use the store.

use std::path::Path;

use crate::tests::{accept, answer, finish, intake};
use crate::{Options, Store};

/// The process that the next test kills: it takes in and answers, and says each acknowledgement.
#[test]
#[ignore = "the child of the next test"]
fn a_child_that_is_killed() {
    let Some(folder) = std::env::var_os("ASSAY_STORE_CHILD") else { return };
    let store = Store::open(Path::new(&folder), Options { reserve_bytes: 0, ..Options::default() }).unwrap();
    let round = std::env::var("ASSAY_STORE_ROUND").unwrap();
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let (store, round) = (&store, &round);
            scope.spawn(move || {
                for number in 0.. {
                    let id = format!("{round}-{caller}-{number}");
                    let key = accept(store, intake("", &id, "x"));
                    println!("accepted {id}");
                    if number % 2 == 0 {
                        answer(store, finish(key, "", &id, &format!("report of {id}")));
                        println!("answered {id}");
                    }
                }
            });
        }
    });
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_process_is_killed() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let (mut accepted, mut answered) = (Vec::new(), Vec::new());
    let rounds = std::env::var("ASSAY_STORE_KILLS").map_or(5, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill_tests::a_child_that_is_killed", "--ignored", "--nocapture"])
            .env("ASSAY_STORE_CHILD", folder.path())
            .env("ASSAY_STORE_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        for (count, line) in lines.map_while(Result::ok).enumerate() {
            // another number of lines each time; those in the pipe are read to the end
            if count == 23 + 17 * (round % 13) {
                child.kill().unwrap();
            }
            match line.split_once(' ') {
                Some(("accepted", id)) => accepted.push(id.to_owned()),
                Some(("answered", id)) => answered.push(id.to_owned()),
                _ => {}
            }
        }
        child.wait().unwrap();
        let store = Store::open(folder.path(), Options { reserve_bytes: 0, ..Options::default() }).unwrap();
        let held: Vec<String> = store.held().unwrap().into_iter().map(|held| held.id).collect();
        let known = store.known(usize::MAX).unwrap();
        let reports: Vec<&str> = known.iter().map(|known| known.id.as_str()).collect();
        for id in &accepted {
            let times =
                held.iter().filter(|held| *held == id).count() + reports.iter().filter(|known| *known == id).count();
            assert_eq!(times, 1, "{id}");
        }
        for id in &answered {
            let known = known.iter().find(|known| known.id == *id).unwrap();
            assert_eq!(store.report(known.history).unwrap().unwrap().body, format!("report of {id}").as_bytes());
        }
        assert!(store.check().unwrap().is_empty());
    }
    assert!(accepted.len() > 100 && !answered.is_empty());
}
