//! A build that takes long, and requests that wait for it.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Daemon, Options, engine};

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
