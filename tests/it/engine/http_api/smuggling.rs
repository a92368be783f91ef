//! Requests whose end two parsers see in two places. Each row has what it may lead to: it is
//! refused with one answer and the end of the connection, or it is parsed in the one way that RFC
//! 9112 has. Bare, and behind nginx over a kept connection, where a second request that the daemon
//! saw and nginx did not would be the answer to the next caller.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{fields, raw, serve};
use crate::harness::{Options, eventually, root, skip};

/// A name, a request, and the statuses of all answers until the end of the connection; `|` between
/// what RFC 9112 leaves to choose.
type Row = (&'static str, &'static str, &'static str);

/// What a smuggler hides behind a request. It ends the connection, if it is seen.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// `{F}` is the valid fields, `{P}` the path of a route with a body, `{HIDDEN}` a whole request.
#[rustfmt::skip]
const CORPUS: &[Row] = &[
    // the length is said twice
    ("CL.TE", "POST {P} HTTP/1.1\r\n{F}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE.CL", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{HIDDEN}", "400|404"),
    ("CL.0", "POST {P} HTTP/1.1\r\n{F}content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE.TE: chunked twice", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE.TE: identity last", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE: chunked, identity", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE: gzip, chunked", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE: identity", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: identity\r\n\r\n{HIDDEN}", "400"),
    ("TE: xchunked", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE: chunked;q=1", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE: \"chunked\"", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE: empty", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: \r\n\r\n{HIDDEN}", "400"),
    ("TE with a vertical tab", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("TE in HTTP/1.0", "POST {P} HTTP/1.0\r\n{F}connection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("CL twice, differing", "POST {P} HTTP/1.1\r\n{F}content-length: 0\r\ncontent-length: 60\r\n\r\n{HIDDEN}", "400"),
    ("CL twice in one field, differing", "POST {P} HTTP/1.1\r\n{F}content-length: 0, 60\r\n\r\n{HIDDEN}", "400"),
    ("CL with a sign", "POST {P} HTTP/1.1\r\n{F}content-length: +0\r\n\r\n{HIDDEN}", "400"),
    ("CL negative", "POST {P} HTTP/1.1\r\n{F}content-length: -1\r\n\r\n{HIDDEN}", "400"),
    ("CL hexadecimal", "POST {P} HTTP/1.1\r\n{F}content-length: 0x0\r\n\r\n{HIDDEN}", "400"),
    ("CL with an underscore", "POST {P} HTTP/1.1\r\n{F}content-length: 0_0\r\n\r\n{HIDDEN}", "400"),
    ("CL with a space inside", "POST {P} HTTP/1.1\r\n{F}content-length: 0 0\r\n\r\n{HIDDEN}", "400"),
    ("CL empty", "POST {P} HTTP/1.1\r\n{F}content-length: \r\n\r\n{HIDDEN}", "400"),
    ("CL beyond 64 bits", "POST {P} HTTP/1.1\r\n{F}content-length: 18446744073709551616\r\n\r\n{HIDDEN}", "400"),
    ("CL in other digits", "POST {P} HTTP/1.1\r\n{F}content-length: \u{0661}\r\n\r\n{HIDDEN}", "400"),
    // chunks
    ("chunk size with a sign", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk size negative", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk size with 0x", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk size with an underscore", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n0_2\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk size overflows", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk size empty", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk size after a space", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n 2\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk size with a bare LF", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk size with a bare CR", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n2\r{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk longer than it says", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk ended by LF", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n{HIDDEN}", "400"),
    ("chunk extension with a bare LF", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("trailer with a length", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 60\r\n\r\n{HIDDEN}", "400"),
    // field lines
    ("space before the colon", "POST {P} HTTP/1.1\r\n{F}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("tab before the colon", "POST {P} HTTP/1.1\r\n{F}content-length\t: 47\r\n\r\n{HIDDEN}", "400"),
    ("obs-fold", "POST {P} HTTP/1.1\r\n{F}transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("obs-fold with a tab", "POST {P} HTTP/1.1\r\n{F}x: y\r\n\ttransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("first field line begins with a space", "POST {P} HTTP/1.1\r\n transfer-encoding: chunked\r\n{F}\r\n0\r\n\r\n{HIDDEN}", "400"),
    ("bare CR in a value", "POST {P} HTTP/1.1\r\n{F}x: y\rcontent-length: 60\r\n\r\n{HIDDEN}", "400"),
    ("NUL in a value", "POST {P} HTTP/1.1\r\n{F}x: y\0z\r\n\r\n{HIDDEN}", "400"),
    ("NUL in a name", "POST {P} HTTP/1.1\r\n{F}content\0-length: 47\r\n\r\n{HIDDEN}", "400"),
    ("no name", "POST {P} HTTP/1.1\r\n{F}: y\r\n\r\n{HIDDEN}", "400"),
    ("no colon", "POST {P} HTTP/1.1\r\n{F}content-length 60\r\n\r\n{HIDDEN}", "400"),
    ("a name that is not ASCII", "POST {P} HTTP/1.1\r\n{F}cont\u{e9}nt-length: 47\r\n\r\n{HIDDEN}", "400"),
    ("a name with an underscore is another one", "POST {P} HTTP/1.1\r\n{F}content_length: 47\r\n\r\n{HIDDEN}", "400 404"),
    // request lines
    ("two spaces", "POST  {P} HTTP/1.1\r\n{F}\r\n{HIDDEN}", "400"),
    ("a tab", "POST\t{P} HTTP/1.1\r\n{F}\r\n{HIDDEN}", "400"),
    ("HTTP/1.2", "POST {P} HTTP/1.2\r\n{F}\r\n{HIDDEN}", "400"),
    ("HTTP/2.0", "POST {P} HTTP/2.0\r\n{F}\r\n{HIDDEN}", "400"),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{HIDDEN}", "|400"),
    ("HTTP/0.9", "GET /livez\r\n{HIDDEN}", "400"),
    ("lower case version", "POST {P} http/1.1\r\n{F}\r\n{HIDDEN}", "400"),
    ("a path without a slash", "POST api HTTP/1.1\r\n{F}\r\n{HIDDEN}", "400 404"),
    ("CR LF in the path", "GET /livez\r\nx: HTTP/1.1\r\n{F}\r\n{HIDDEN}", "400"),
    ("CONNECT", "CONNECT localhost:443 HTTP/1.1\r\n{F}\r\n{HIDDEN}", "400 404"),
    ("two hosts", "GET /api/v1/profiles HTTP/1.1\r\n{F}host: elsewhere\r\n\r\n{HIDDEN}", "400|400 404"),
    ("upgrade to h2c", "GET /livez HTTP/1.1\r\n{F}connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n{HIDDEN}", "200 404"),
];

/// Requests that are valid, and what follows them is a request of its own. Nothing follows chunks.
#[rustfmt::skip]
const VALID: &[Row] = &[
    ("CL twice, equal", "POST {P} HTTP/1.1\r\n{F}content-length: 2\r\ncontent-length: 2\r\n\r\n{}{HIDDEN}", "404 404|400"),
    ("chunk extensions", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n2;a=b;c=\"d\"\r\n{}\r\n0\r\n\r\n{HIDDEN}", "404"),
    ("TE in capitals", "POST {P} HTTP/1.1\r\n{F}Transfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n{HIDDEN}", "404"),
    ("leading zeros of a chunk size", "POST {P} HTTP/1.1\r\n{F}transfer-encoding: chunked\r\n\r\n0002\r\n{}\r\n0\r\n\r\n{HIDDEN}", "404"),
    ("absolute form", "GET http://localhost/livez HTTP/1.1\r\n{F}\r\n{HIDDEN}", "200 404"),
    ("an empty line first", "\r\nGET /livez HTTP/1.1\r\n{F}\r\n{HIDDEN}", "200 404"),
    ("HTTP/1.0 is closed", "GET /livez HTTP/1.0\r\n{F}\r\n{HIDDEN}", "200"),
    ("HTTP/1.0 is kept on request", "GET /livez HTTP/1.0\r\n{F}connection: keep-alive\r\n\r\n{HIDDEN}", "200 404"),
    ("close ends it", "GET /livez HTTP/1.1\r\n{F}connection: close\r\n\r\n{HIDDEN}", "200"),
    ("pipelined after an error", "GET /nowhere HTTP/1.1\r\n{F}\r\nGET /livez HTTP/1.1\r\n{F}\r\n{HIDDEN}", "404 200 404"),
];

fn request(template: &str) -> Vec<u8> {
    // its body is read before the submission is looked for, which does not exist
    let path = "/api/v1/submissions/x/input";
    let fields = fields() + "content-type: application/json\r\n";
    template.replace("{F}", &fields).replace("{P}", path).replace("{HIDDEN}", HIDDEN).into_bytes()
}

fn statuses(address: &str, template: &str) -> String {
    let answers = raw(address, &request(template));
    answers.iter().map(|answer| answer.status.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_request_with_two_ends_is_refused_and_a_valid_one_has_one_end() {
    let (daemon, address) = serve(&Options { profiles: "bash", floor: 0, ..Options::default() });
    let mut wrong = Vec::new();
    for (name, template, expected) in CORPUS.iter().chain(VALID) {
        let seen = statuses(&address, template);
        if !expected.split('|').any(|expected| expected == seen) {
            wrong.push(format!("{name}: {seen:?} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(daemon.caller().run("bash", "echo 1")["verdict"], "accepted");
}

/// A running nginx, until dropped.
pub struct Nginx(Child);

impl Nginx {
    /// Starts it with this configuration; waits until it listens on a port.
    pub fn start(program: &Path, folder: &Path, config: &str, port: u16) -> Nginx {
        std::fs::write(folder.join("nginx.conf"), config).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null());
        let nginx = Nginx(command.spawn().unwrap());
        eventually("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's nginx, unpacked by scripts/http-tools; `None` if it cannot be had.
pub fn nginx_program() -> Option<PathBuf> {
    let done = Command::new(root().join("scripts/http-tools")).arg("nginx").output().unwrap();
    if !done.status.success() {
        skip(&format!("scripts/http-tools nginx: {}", String::from_utf8_lossy(&done.stderr)));
        return None;
    }
    Some(PathBuf::from(String::from_utf8(done.stdout).unwrap().trim()))
}

/// A configuration of nginx with these servers; everything that it writes is in `folder`.
pub fn nginx_config(folder: &Path, http: &str) -> String {
    let at = folder.display();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths: String = paths.iter().map(|name| format!("{name}_temp_path {at}/{name};\n")).collect();
    format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{paths}{http}\n}}\n"
    )
}

/// nginx with one kept connection to the daemon.
fn start_nginx(program: &Path, folder: &Path, address: &str, port: u16) -> Nginx {
    let http = format!(
        "upstream assay {{ server {address}; keepalive 1; }}\n\
         server {{ listen 127.0.0.1:{port};\n\
         location / {{ proxy_pass http://assay; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host localhost; proxy_request_buffering off; }} }}"
    );
    Nginx::start(program, folder, &nginx_config(folder, &http), port)
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn behind_nginx_no_caller_gets_the_answer_to_a_hidden_request() {
    let Some(program) = nginx_program() else { return };
    let (_daemon, address) = serve(&Options { profiles: "bash", floor: 0, ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _nginx = start_nginx(&program, folder.path(), &address, port);
    let front = format!("127.0.0.1:{port}");
    let victim = format!("GET /livez HTTP/1.1\r\n{}connection: close\r\n\r\n", fields());
    for (name, template, expected) in CORPUS.iter().chain(VALID) {
        // which nginx answers itself, without a head
        if ["HTTP/0.9", "CR LF in the path"].contains(name) {
            continue;
        }
        // a hidden request that nginx forwards as a part of another one must not be answered apart
        let seen = statuses(&front, template);
        let most = expected.split('|').map(|one| one.split(' ').count()).max().unwrap_or_default();
        assert!(seen.split(' ').count() <= most.max(2), "{name}: {seen}");
        for _ in 0..2 {
            let answers = raw(&front, victim.as_bytes());
            let told: Vec<_> = answers.iter().map(|answer| (answer.status, answer.body.trim())).collect();
            assert_eq!(told, [(200, r#"{"status":"alive"}"#)], "the next caller after {name}");
        }
    }
}
