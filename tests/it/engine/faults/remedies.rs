//! What a stranger was misled by when he was given logs and the manual: remedies that do not fit
//! the cause, and lines that do not say where to change something.

use super::*;

#[test]
fn a_profile_that_asks_for_split_is_told_to_remove_that_line() {
    let site = Site::new("image = 'bash'\nisolation = 'split'");
    let daemon = site.floor(1).config("[isolation]\nrequire_nonroot = true").start();
    let remedy = ["Remove the line isolation = \\\"split\\\"", "profiles/bash.toml"];
    expect(&daemon, &[&[" ERROR ", "profile=bash", "require_nonroot"], remedy.as_slice()].concat());
    let message = refused(&daemon, "unsupported");
    assert!(message.contains("profiles/bash.toml") && !message.contains("require_nonroot = false"), "{message}");
}

#[test]
fn a_drained_hosts_line_has_the_whole_command() {
    let daemon = Site::bash().start();
    daemon.wait_for_engine();
    daemon.caller().ok("host.drain", json!({ "host": "local" }));
    expect(&daemon, &["WARN", "host drained by command", "`assay hosts resume local`"]);
}

#[test]
fn a_program_that_answers_404_is_called_no_engine_and_the_setting_is_named() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let path: &'static str = format!("unix://{}/other.sock", folder.path().display()).leak();
    let listener = std::os::unix::net::UnixListener::bind(path.trim_start_matches("unix://")).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found");
        }
    });
    let daemon = Site { engine: Some(path), ..Site::bash() }.start_bare();
    expect(&daemon, &[" ERROR ", "the engine does not answer", "404", "another program listens there", "engine.host"]);
    assert!(refused(&daemon, "no_host").contains("another program listens there"));
}

#[test]
fn a_full_queue_names_the_setting_to_the_caller() {
    let daemon = Site::bash().floor(1).config("[queue]\nmax = 1").start();
    daemon.warm();
    let slow = with(submission("bash", "sleep 20"), "limits", json!({ "wall_ms": 30_000 }));
    daemon.caller().ok("submission.submit", slow);
    assert!(refused(&daemon, "queue_full").contains("queue.max"));
    expect(&daemon, &["WARN", "submission refused", "queue.max"]);
}

#[test]
fn a_corrected_image_serves_the_next_submission() {
    let site = Site::new("image = 'own'").own_image("RUN true");
    let daemon = site.floor(1).start();
    let mut caller = daemon.caller();
    let ask = submission("bash", "cat /etc/corrected || echo missing");
    let answer = |caller: &mut Caller| caller.ok("submission.run", ask.clone())["run"]["stdout"].clone();
    caller.ok("image.build", json!({ "profile": "bash" }));
    // the second one is served by the sandbox that was kept
    assert_eq!([(); 2].map(|()| answer(&mut caller)), ["missing\n"; 2]);
    let dockerfile = daemon.site.path().join("images/own/Dockerfile");
    let text = std::fs::read_to_string(&dockerfile).unwrap();
    std::fs::write(&dockerfile, text + "RUN echo yes >/etc/corrected\n").unwrap();
    caller.ok("image.build", json!({ "profile": "bash" }));
    assert_eq!(answer(&mut caller), "yes\n");
}

#[test]
fn an_image_that_is_not_built_is_named_with_its_profile() {
    let site = Site::new("image = 'own'").own_image("RUN true");
    let daemon = Site { env: vec![("ASSAY_IMAGES_BUILD_MISSING", "false")], ..site }.start();
    daemon.wait_for_engine();
    expect(&daemon, &[" ERROR ", "it is not built yet", "assay images build bash;"]);
}

#[test]
fn a_variable_in_small_letters_is_told_about_capitals() {
    let daemon = Site { env: vec![("assay_queue_max", "5")], ..Site::bash() }.start();
    expect(&daemon, &["WARN", "assay_queue_max sets nothing", "ASSAY_QUEUE_MAX?", "in capitals"]);
}

#[test]
fn a_killed_sandbox_is_named_with_who_may_have_killed_it() {
    let daemon = Site::bash().floor(1).start();
    daemon.warm();
    let slow = with(submission("bash", "sleep 60"), "limits", json!({ "wall_ms": 90_000 }));
    daemon.caller().ok("submission.submit", slow);
    let mut killed = String::new();
    eventually("one is killed", || {
        let rows = daemon.caller().ok("sandbox.list", json!({}))["sandboxes"].clone();
        let leased = rows.as_array().unwrap().iter().find(|row| row["state"] == "leased");
        killed = leased.map_or(String::new(), |row| row["id"].as_str().unwrap().to_owned());
        !killed.is_empty() && engine(&format!("POST /containers/{killed}/kill")).0 == 204
    });
    let sandbox = format!("sandbox=\"{}\"", &killed[..12]);
    expect(&daemon, &["WARN", "lost during a run", &sandbox, "oom=false", "remedy=", "docker events"]);
}

#[test]
fn a_kept_submission_that_is_cut_off_is_named_and_lost() {
    let mut daemon = Site::bash().start();
    daemon.terminate();
    let kept = daemon.folder.path().join("state/kept");
    std::fs::create_dir_all(&kept).unwrap();
    let text = r#"{"version":1,"at_ms":1,"digest":[0],"work":{"id":"a1","caller":{"uid":1000,"tenant":""#;
    std::fs::write(kept.join("a.json"), text).unwrap();
    daemon.start_again();
    expect(
        &daemon,
        &[" ERROR ", "cannot read a saved submission", "submission=\"a1\"", "uid=1000", "hand it in again"],
    );
}
