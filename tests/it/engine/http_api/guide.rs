//! The commands of docs/HTTP.md work, one after the other, and print what the page shows; its
//! configuration of nginx works with TLS.

use std::path::Path;
use std::process::{Command, Stdio};

use super::smuggling::{free_port, nginx_config, nginx_program};
use super::{HASH, TOKEN};
use crate::documents::{Step, steps};
use crate::engine::http::http_address;
use crate::harness::{Daemon, Options, eventually, root};

/// A shell that runs blocks of commands in one environment, each with an output of its own.
fn script(steps: &[Step<'_>]) -> String {
    let blocks = steps.iter().enumerate().filter_map(|(number, step)| match step {
        Step::Run(commands) => Some(format!("{{\n{commands}\n}} >out.{number} 2>err.{number}\n")),
        _ => None,
    });
    blocks.collect()
}

#[test]
fn the_commands_of_the_guide_to_http_print_what_it_shows() {
    let text = std::fs::read_to_string(root().join("docs/HTTP.md")).unwrap();
    let steps = steps(&text);
    let config = "[http]\nlisten='127.0.0.1:0'\napi=true\n";
    let daemon = Daemon::start(&Options { floor: 1, config, ..Options::default() });
    daemon.warm();
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", crate::programs::programs().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-eo", "pipefail", "-c", &script(&steps)]).current_dir(folder.path()).env("PATH", path);
    command.env("ASSAY_SOCKET", daemon.socket()).env("ASSAY_URL", format!("http://{}", http_address(&daemon)));
    let status = command.stdin(Stdio::null()).status().unwrap();
    let printed = |number: usize, stream: &str| {
        std::fs::read_to_string(folder.path().join(format!("{stream}.{number}"))).unwrap_or("(was not run)".to_owned())
    };
    let mut shown = 0;
    let mut last = 0;
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Run(_) => last = number,
            Step::Prints(_, expected) => {
                assert_eq!(printed(last, "out"), *expected, "{}", printed(last, "err"));
                shown += 1;
            }
            _ => {}
        }
    }
    assert!(status.success() && shown >= 11, "{status}, {shown} outputs: {}", printed(last, "err"));
}

/// A certificate for the guide's name, and its key.
fn certificate(folder: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=judge.example", "-addext", "subjectAltName=DNS:judge.example"]);
    openssl.arg("-keyout").arg(folder.join("judge.example.key")).arg("-out").arg(folder.join("judge.example.pem"));
    assert!(openssl.output().unwrap().status.success());
}

#[test]
fn the_configuration_of_nginx_in_the_guide_works() {
    let Some(program) = nginx_program() else { return };
    let text = std::fs::read_to_string(root().join("docs/HTTP.md")).unwrap();
    let given = steps(&text).into_iter().find_map(|step| match step {
        Step::Write("/etc/nginx/conf.d/assay.conf", config) => Some(config.to_owned()),
        _ => None,
    });
    let config = format!(
        "[http]\nlisten='127.0.0.1:0'\napi=true\nhosts=['https://judge.example']\n\
         [[http.tokens]]\nname='ci'\nsha256='{HASH}'\ntenant='school'\n"
    );
    let daemon = Daemon::start(&Options { profiles: "bash", floor: 1, config: &config, ..Options::default() });
    daemon.wait_for_engine();
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let port = free_port();
    let given = given.expect("the guide has a configuration of nginx");
    for changed in ["127.0.0.1:9464", "listen 443", "/etc/ssl"] {
        assert!(given.contains(changed), "{changed}");
    }
    let given = given
        .replace("127.0.0.1:9464", &http_address(&daemon))
        .replace("listen 443", &format!("listen 127.0.0.1:{port}"))
        .replace("/etc/ssl", &folder.path().display().to_string());
    let _nginx = super::smuggling::Nginx::start(&program, folder.path(), &nginx_config(folder.path(), &given), port);
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.arg("-sS").arg("--cacert").arg(folder.path().join("judge.example.pem"));
        curl.args(["--resolve", &format!("judge.example:{port}:127.0.0.1"), "-w", " %{http_code}"]);
        curl.args(["-H", &format!("Authorization: Bearer {TOKEN}")]);
        let (path, rest) = arguments.split_first().unwrap();
        let done = curl.arg(format!("https://judge.example:{port}{path}")).args(rest).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
    };
    let work = r#"{"id":"tls","language":"bash","files":[{"path":"main.sh","content":"echo through"}]}"#;
    let json = "Content-Type: application/json";
    let report = curl(&["/api/v1/submissions", "-H", json, "-d", work]);
    assert!(report.contains(r#""verdict":"accepted""#) && report.ends_with(" 200"), "{report}");
    let events = curl(&["/api/v1/submissions/tls/events"]);
    assert!(events.contains("event: accepted\n") && events.contains("event: done\n"), "{events}");
    // what nginx does not have in memory, it hands on as well
    std::fs::write(folder.path().join("large"), vec![b'x'; 20 << 20]).unwrap();
    let large = format!("@{}", folder.path().join("large").display());
    let blob = ["/api/v1/blobs", "-X", "PUT", "-H", "Content-Type: application/octet-stream", "--data-binary", &large];
    let blob = curl(&blob);
    assert!(blob.ends_with(" 201"), "{blob}");
    for outside in ["/metrics", "/health", "/"] {
        assert!(curl(&[outside]).ends_with(" 404"), "{outside}");
    }
    // its own caller is not anonymous, and another name is not the daemon's
    eventually("the log says who called", || daemon.log().contains("serving"));
    let other = curl(&["/api/v1/profiles", "-H", "Host: evil.example"]);
    assert!(other.ends_with(" 403"), "{other}");
}
