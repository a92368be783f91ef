//! Images on the engine: requests that wait for a slow build, and the removal of those that are not
//! needed.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::packages::assay;
use crate::harness::{Daemon, Options, engine};
use crate::private_engine::PrivateEngine;

/// A bootstrap script of next to nothing.
const TINY: &str = "#!/bin/sh
root=$(mktemp -d)
trap 'rm -rf \"$root\"' EXIT
echo UNIQUE >\"$root/only\"
tar -C \"$root\" -cf - .
";

/// A bootstrap script that reports its steps, and writes its first byte later than the longest
/// pause that an upload may have.
const SLOW: &str = "#!/bin/sh
set -eu
for step in 1 2 3 4 5 6 7; do sleep 10; echo \"step $step\" >&2; done
root=$(mktemp -d)
trap 'rm -rf \"$root\"' EXIT
echo UNIQUE >\"$root/only\"
tar -C \"$root\" -cf - .
";

#[test]
fn a_slow_base_is_built_and_every_waiting_request_sees_its_progress() {
    let folder = tempfile::tempdir().unwrap();
    let (images, profiles) = (folder.path().join("images"), folder.path().join("profiles"));
    std::fs::create_dir_all(images.join("base")).unwrap();
    std::fs::create_dir(&profiles).unwrap();
    let bootstrap = images.join("base/bootstrap");
    std::fs::write(&bootstrap, SLOW.replace("UNIQUE", &uuid::Uuid::new_v4().to_string())).unwrap();
    std::fs::set_permissions(&bootstrap, std::fs::Permissions::from_mode(0o755)).unwrap();
    let profile = "name = 'slow'\ndescription = 'nothing'\nimage = 'base'\nentry = 'a'\nrun = ['a']\n";
    std::fs::write(profiles.join("slow.toml"), profile).unwrap();
    let daemon = Daemon::start_bare(&Options {
        profiles: "slow",
        profiles_dir: Some(&profiles),
        floor: 0,
        trusted: "[]",
        env: &[("ASSAY_IMAGES_DIR", images.to_str().unwrap())],
        ..Options::default()
    });
    daemon.wait_for_engine();
    let tags: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut caller = daemon.caller();
                    let call = caller.send("image.build", &json!({ "profile": "slow" }));
                    let mut lines = Vec::new();
                    loop {
                        let line = caller.line();
                        if line["id"] == call {
                            assert!(lines.contains(&json!("step 7")), "{lines:?} {line}");
                            return line["result"]["tag"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
                        }
                        lines.push(line["params"]["line"].clone());
                    }
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(tags[0], tags[1]);
    drop(daemon);
    let (status, layered) = engine(&format!("GET /images/{}/json", tags[0]));
    assert_eq!(status, 200, "{layered}");
    let id = serde_json::from_str::<Value>(&layered).unwrap()["Id"].as_str().unwrap().to_owned();
    // the layered image and the image itself
    let filter = format!("%7B%22label%22%3A%5B%22assay.image%3D{id}%22%5D%7D");
    let rows: Value = serde_json::from_str(&engine(&format!("GET /images/json?filters={filter}")).1).unwrap();
    let ids = rows.as_array().unwrap().iter().map(|row| row["Id"].as_str().unwrap().to_owned());
    for id in ids.chain([tags[0].clone()]) {
        assert_eq!(engine(&format!("DELETE /images/{id}?force=1")).0, 200, "{id}");
    }
}

/// The names of all images of an engine, without those that have none.
fn tags(docker: &dyn Fn(&[&str]) -> String) -> Vec<String> {
    let all = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut tags: Vec<String> = all.lines().filter(|tag| !tag.contains("<none>")).map(str::to_owned).collect();
    tags.sort();
    tags
}

/// Four versions of an image. Of the first, another program has made an image, and has given it a
/// second name; a container uses the second; nothing needs the third; the profile needs the fourth.
#[test]
fn images_that_are_not_needed_are_removed_and_those_of_others_never() {
    // an engine of its own: on a shared one this would remove images of other tests
    let private = PrivateEngine::start(&[]);
    let host = format!("unix://{}", private.socket().display());
    let docker = |args: &[&str]| {
        let done = std::process::Command::new("docker").args(["--host", &host]).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let (images, profiles) = (folder.path().join("images"), folder.path().join("profiles"));
    for folder in [&images.join("base"), &images.join("one"), &profiles] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let bootstrap = images.join("base/bootstrap");
    std::fs::write(&bootstrap, TINY.replace("UNIQUE", "1")).unwrap();
    std::fs::set_permissions(&bootstrap, std::fs::Permissions::from_mode(0o755)).unwrap();
    let profile = "name = 'one'\ndescription = 'nothing'\nimage = 'one'\nentry = 'a'\nrun = ['a']\n";
    std::fs::write(profiles.join("one.toml"), profile).unwrap();
    let daemon = Daemon::start_bare(&Options {
        profiles: "",
        profiles_dir: Some(&profiles),
        floor: 0,
        trusted: "[]",
        engine: Some(&host),
        env: &[("ASSAY_IMAGES_DIR", images.to_str().unwrap())],
        ..Options::default()
    });
    daemon.wait_for_engine();
    let build = |version: &str| {
        std::fs::write(images.join("one/file"), version).unwrap();
        std::fs::write(images.join("one/Dockerfile"), "ARG BASE\nFROM ${BASE}\nCOPY file /file\n").unwrap();
        let made = daemon.caller().ok("image.build", json!({ "profile": "one" }));
        made["tag"].as_str().unwrap().to_owned()
    };
    let first = build("1");
    docker(&["tag", &first, "shop/app:1"]);
    let layers = || tags(&docker).into_iter().filter(|tag| tag.starts_with("assay/sandbox:")).collect::<Vec<_>>();
    // an operator's own image that was made of ours, and has its labels
    let container = docker(&["create", &first, "/x"]);
    docker(&["commit", container.trim(), "shop/made:1"]);
    docker(&["rm", container.trim()]);
    let second = build("2");
    docker(&["create", &second, "/x"]);
    let (third, old) = (build("3"), layers());
    let fourth = build("4");
    let before = tags(&docker);
    let (mut surplus, base) = (old.clone(), before.iter().find(|tag| tag.starts_with("assay/base:")).unwrap());
    surplus.push(third.clone());
    surplus.sort();
    assert_eq!(surplus.len(), 4, "{before:?}");
    let listed = |args: &[&str]| {
        let (status, out, error) = assay(&daemon, args);
        assert_eq!(status, 0, "{out}{error}");
        let document: Value = serde_json::from_str(&out).unwrap();
        let rows = document["images"].as_array().unwrap().clone();
        let mut named: Vec<String> = rows.iter().map(|row| row["tags"][0].as_str().unwrap().to_owned()).collect();
        named.sort();
        (named, rows)
    };
    let (named, rows) = listed(&["images", "prune", "--dry-run", "--json"]);
    assert_eq!(named, surplus);
    assert!(rows.iter().all(|row| row["removed"] == false && row["reason"].is_null()), "{rows:?}");
    assert_eq!(tags(&docker), before, "a dry run removed something");
    let (named, rows) = listed(&["images", "prune", "--json"]);
    assert_eq!(named, surplus);
    assert!(rows.iter().all(|row| row["removed"] == true), "{rows:?}");
    let after = tags(&docker);
    let expected: Vec<String> = before.iter().filter(|tag| !surplus.contains(tag)).cloned().collect();
    assert_eq!(after, expected);
    for kept in [&first, &second, &fourth, base, &"shop/app:1".to_owned(), &"shop/made:1".to_owned()] {
        assert!(after.contains(kept), "{kept} is gone: {after:?}");
    }
    let (status, out, _) = assay(&daemon, &["images", "prune"]);
    assert_eq!((status, out.as_str()), (0, "nothing to remove\n"));
    // another configuration: nothing of it is needed
    let profile = profile.replace("'one'", "'two'");
    std::fs::write(profiles.join("one.toml"), profile).unwrap();
    std::fs::rename(images.join("one"), images.join("two")).unwrap();
    daemon.caller().ok("daemon.reload", json!({}));
    let (named, _) = listed(&["images", "prune", "--dry-run", "--json"]);
    assert!(named.contains(&fourth) && !named.contains(base), "{named:?}");
    // others may look at images, and not remove them
    let error = daemon.caller_as(3003).error("image.prune", json!({ "dry_run": true }));
    assert_eq!(error["data"]["code"], "forbidden");
}
