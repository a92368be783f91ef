//! Images that are missing, misspelt, or cannot be made.

use super::*;

#[test]
fn a_misspelt_image_is_an_error_at_the_start_and_refused_at_once() {
    let daemon = Site::new("image = 'bsah'").start();
    daemon.wait_for_engine();
    expect(&daemon, &[" ERROR ", "profile=bash", "image \\\"bsah\\\"", "perhaps \\\"bash\\\""]);
    let message = refused(&daemon, "image_failed");
    assert!(message.contains("Remedy") && message.contains("perhaps \"bash\""), "{message}");
    let health = daemon.caller().ok("daemon.health", json!({}));
    let check = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "pool bash").unwrap();
    assert!(check["ok"] == false && check["remedy"].as_str().unwrap().contains("image"), "{health}");
    // the operator corrects the profile: no restart
    let profile = daemon.site.path().join("profiles/bash.toml");
    std::fs::write(profile, format!("image = 'bash'\n{BASH}")).unwrap();
    daemon.caller().ok("daemon.reload", json!({}));
    eventually("it runs", || daemon.caller().call("submission.run", echo())["result"]["verdict"] == "accepted");
}

#[test]
fn an_image_folder_that_appears_is_noticed() {
    let site = Site::new("image = 'own'").own_image("RUN true");
    let images = site.folder.path().join("images");
    std::fs::rename(images.join("own"), images.join("away")).unwrap();
    let daemon = site.start();
    daemon.wait_for_engine();
    expect(&daemon, &[" ERROR ", "profile=bash", "images has away"]);
    refused(&daemon, "image_failed");
    std::fs::rename(images.join("away"), images.join("own")).unwrap();
    eventually("it runs", || daemon.caller().call("submission.run", echo())["result"]["verdict"] == "accepted");
    expect_info(&daemon, &["an image is ready", "image=\"own\""]);
}

#[test]
fn without_a_folder_of_images_each_profile_is_an_error() {
    let env = vec![("ASSAY_IMAGES_DIR", "/nonexistent/images")];
    let daemon = Site { env, ..Site::bash() }.start();
    daemon.wait_for_engine();
    expect(&daemon, &[" ERROR ", "profile=bash", "/nonexistent/images", "images.dir"]);
    assert!(refused(&daemon, "image_failed").contains("images.dir"));
}

#[test]
fn a_folder_of_images_without_the_base_is_an_error_that_names_the_base() {
    let site = Site::new("image = 'own'").own_image("RUN true");
    std::fs::remove_dir_all(site.folder.path().join("images/base")).unwrap();
    let daemon = site.start();
    daemon.wait_for_engine();
    expect(&daemon, &[" ERROR ", "profile=bash", "it is built on base", "remedy=", "images.dir, as a list"]);
    assert!(refused(&daemon, "image_failed").contains("it is built on base"));
}

#[test]
fn an_image_that_may_not_be_built_is_an_error_until_it_is_built() {
    let site = Site::new("image = 'own'").own_image("RUN true");
    let daemon = Site { env: vec![("ASSAY_IMAGES_BUILD_MISSING", "false")], ..site }.start();
    daemon.wait_for_engine();
    expect(&daemon, &[" ERROR ", "it is not built yet", "assay images build", "images.build_missing"]);
    assert!(refused(&daemon, "image_failed").contains("assay images build"));
    let built = daemon.caller().ok("image.build", json!({ "profile": "bash" }));
    assert_eq!(daemon.caller().ok("submission.run", echo())["verdict"], "accepted");
    // another program removes it from the engine, and all that was made of it
    let (tag, filter) = (built["tag"].as_str().unwrap(), format!("assay.image%3D{}", built["id"].as_str().unwrap()));
    let rows = engine(&format!("GET /images/json?filters=%7B%22label%22%3A%5B%22{filter}%22%5D%7D")).1;
    let rows: Value = serde_json::from_str(&rows).unwrap();
    let layers = rows.as_array().unwrap().iter().map(|row| row["Id"].as_str().unwrap().to_owned());
    for image in layers.chain([tag.to_owned()]) {
        eventually("the image is gone", || {
            for sandbox in daemon.containers() {
                engine(&format!("DELETE /containers/{sandbox}?force=1"));
            }
            [200, 404].contains(&engine(&format!("DELETE /images/{image}?force=1")).0)
        });
    }
    let lines = attention(&daemon).len();
    eventually("it is refused again", || {
        daemon.caller().call("submission.run", echo())["error"]["data"]["code"] == "image_failed"
    });
    assert!(attention(&daemon)[lines..].iter().any(|line| line.contains("it is not built yet")));
}

#[test]
fn an_image_that_cannot_be_built_answers_those_who_wait_for_it() {
    let site = Site::new("image = 'own'").own_image("RUN echo no-such-thing >&2; exit 3");
    let daemon = site.start();
    daemon.wait_for_engine();
    // the default patience is two minutes, and three tries take six seconds
    let report = daemon.caller().ok("submission.run", echo());
    assert_eq!((&report["verdict"], &report["blame"]), (&json!("system_error"), &json!("assay")), "{report}");
    expect(&daemon, &[" ERROR ", "an image could not be built", "image=own", "build-logs"]);
    expect(&daemon, &["WARN", "verdict=\"system_error\"", "reason=", "build image"]);
    assert!(refused(&daemon, "image_failed").contains("build-logs"));
}

#[test]
fn images_of_registries_that_cannot_be_had_are_errors() {
    let daemon = Site::new("image = 'docker.io/other/bash:1'").start();
    expect(&daemon, &[" ERROR ", "profile=bash", "images.trusted"]);
    assert!(refused(&daemon, "image_failed").contains("images.trusted"));
    let site = Site::new("image = 'docker.io/trusted/bash:1'");
    let daemon = Site { env: vec![("ASSAY_IMAGES_PULL", "never")], ..site }.start();
    daemon.wait_for_engine();
    let refused = || daemon.caller().call("submission.run", echo());
    eventually("it is refused", || refused()["error"]["data"]["code"] == "image_failed");
    expect(&daemon, &[" ERROR ", "profile=bash", "docker pull"]);
    // a registry that the engine does not reach: its name does not exist
    let site = Site::new("image = 'registry.invalid/judge/bash:1'");
    let daemon = Site { env: vec![("ASSAY_IMAGES_TRUSTED", "registry.invalid/judge/*")], ..site }.start();
    daemon.wait_for_engine();
    let submit = || daemon.caller().call("submission.run", echo());
    eventually("it is refused", || submit()["error"]["data"]["code"] == "image_failed");
    let error = submit()["error"].to_string();
    assert!(error.contains("failed to pull image") && error.contains("docker pull registry.invalid"), "{error}");
    expect(&daemon, &[" ERROR ", "an image could not be built", "remedy=", "docker pull", "again_after_s"]);
    expect(&daemon, &[" ERROR ", "submissions of this profile are refused", "profile=bash", "remedy="]);
}
