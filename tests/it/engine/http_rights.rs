//! Who reaches what over the real listeners: every kind of caller, times every route that names a
//! submission or a blob, times whose it is. What belongs to another caller is answered as what
//! never was.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::engine::http::http_address;
use crate::harness::{Daemon, Options, eventually};

/// A token whose hash is in the configuration, with an end that is over.
const LATE: &str = "assay_1111111111111111111111111111111111111111111111111111111111111111";

/// Where a request goes, and as which uid.
#[derive(Clone)]
enum Door {
    Tcp(String),
    Unix(PathBuf, u32),
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Door {
    /// Sends a request of JSON, or without a body.
    fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        let host = match self {
            Door::Tcp(address) => address.as_str(),
            Door::Unix(..) => "localhost",
        };
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = if method == "GET" { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{kind}{length}{fields}connection: close\r\n\r\n{body}"
        );
        let mut all = Vec::new();
        match self {
            Door::Tcp(address) => exchange(TcpStream::connect(address).unwrap(), &text, &mut all),
            Door::Unix(path, uid) => exchange(connect_as(path.clone(), *uid), &text, &mut all),
        }
        let text = String::from_utf8_lossy(&all).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text:?}"));
        Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
    }
}

fn exchange(mut stream: impl Read + Write, text: &str, all: &mut Vec<u8>) {
    stream.write_all(text.as_bytes()).unwrap();
    stream.read_to_end(all).unwrap();
}

/// Connects with another uid: SO_PEERCRED reports the uid of the connecting thread.
#[allow(unsafe_code)]
fn connect_as(path: PathBuf, uid: u32) -> UnixStream {
    let connecting = std::thread::spawn(move || {
        // SAFETY: plain numbers. The raw system call changes this thread only.
        let done = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, uid, uid, uid) };
        assert_eq!(done, 0);
        UnixStream::connect(path).unwrap()
    });
    connecting.join().unwrap()
}

/// A caller: its door, and the fields of its credential.
struct Who {
    name: &'static str,
    door: Door,
    fields: String,
    /// The id of a blob of its own.
    blob: String,
}

impl Who {
    fn new(name: &'static str, door: &Door, fields: &str) -> Who {
        Who { name, door: door.clone(), fields: fields.to_owned(), blob: String::new() }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.door.ask(method, path, &self.fields, body)
    }

    /// Hands in a submission and a blob of its own.
    fn hand_in(mut self, id: &str) -> Who {
        let submission = json!({ "id": id, "language": "bash", "files": [{ "path": "main.sh", "content": "echo 1" }] });
        let answer = self.ask("POST", "/api/v1/submissions", &submission.to_string());
        assert_eq!(answer.status, 200, "{}: {}", self.name, answer.body);
        let fields = format!("content-type: application/octet-stream\r\n{}", self.fields);
        let put = self.door.ask_bytes("/api/v1/blobs", &fields, "bytes");
        assert_eq!(put.status, 201, "{}: {}", self.name, put.body);
        self.blob = serde_json::from_str::<Value>(&put.body).unwrap()["blob"].as_str().unwrap().to_owned();
        // its receipt follows behind the answer
        let path = format!("/api/v1/submissions/{id}/receipt");
        eventually("its receipt is there", || self.ask("GET", &path, "").status == 200);
        self
    }
}

impl Door {
    fn ask_bytes(&self, path: &str, fields: &str, body: &str) -> Answer {
        let fields = format!("content-length: {}\r\n{fields}", body.len());
        let mut all = Vec::new();
        let host = if let Door::Tcp(address) = self { address.as_str() } else { "localhost" };
        let text = format!("PUT {path} HTTP/1.1\r\nhost: {host}\r\n{fields}connection: close\r\n\r\n{body}");
        match self {
            Door::Tcp(address) => exchange(TcpStream::connect(address).unwrap(), &text, &mut all),
            Door::Unix(path, uid) => exchange(connect_as(path.clone(), *uid), &text, &mut all),
        }
        let text = String::from_utf8_lossy(&all).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
    }
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// The cookie of an answer, with what a page of this server sends.
fn cookie_of(answer: &Answer) -> String {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    format!("cookie: {}\r\nsec-fetch-site: same-origin\r\n", line.split(';').next().unwrap())
}

/// The routes that name something, with the status for it if it may be reached.
const ROUTES: [(&str, &str, u16); 6] = [
    ("GET", "/api/v1/submissions/{id}", 200),
    ("DELETE", "/api/v1/submissions/{id}", 204),
    ("GET", "/api/v1/submissions/{id}/events", 200),
    ("GET", "/api/v1/submissions/{id}/receipt", 200),
    ("POST", "/api/v1/submissions/{id}/input", 400),
    ("GET", "/api/v1/blobs/{id}", 200),
];

/// Asks every route for what is its own, another's and what does not exist, and compares: `own` and
/// `others` say whether they are reached.
fn check(who: &Who, own_id: &str, other: &Who, other_id: &str, own: Reach, others: Reach, wrong: &mut Vec<String>) {
    for (method, path, reached) in ROUTES {
        let is_blob = path.contains("blobs");
        let ids = match is_blob {
            true => [who.blob.as_str(), &other.blob, "00000000-0000-4000-8000-000000000000"],
            false => [own_id, other_id, "none"],
        };
        let body = if method == "POST" { r#"{"data": "x"}"# } else { "" };
        let answers = ids.map(|id| who.ask(method, &path.replace("{id}", id), body));
        // an admin sees another's submissions, and no blob that was uploaded for one
        let others = if is_blob && others == Reach::Yes { Reach::Absent } else { others };
        let expected = [own.status(reached), others.status(reached), own.max(Reach::Absent).status(404)];
        for ((answer, expected), whose) in answers.iter().zip(expected).zip(["own", "another's", "absent"]) {
            if answer.status != expected {
                let got = answer.status;
                wrong.push(format!(
                    "{} {method} {path} {whose}: {got} instead of {expected}: {}",
                    who.name, answer.body
                ));
            }
        }
        let [_, theirs, absent] = &answers;
        // the answers repeat the id that was asked for
        let (theirs, absent) = (theirs.body.replace(ids[1], "ID"), absent.body.replace(ids[2], "ID"));
        if answers[1].status == 404 && theirs != absent {
            wrong.push(format!("{} {method} {path}: {theirs} tells from {absent}", who.name));
        }
    }
}

/// Whether a caller reaches something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Yes,
    Absent,
    Unknown,
}

impl Reach {
    fn status(self, reached: u16) -> u16 {
        match self {
            Reach::Yes => reached,
            Reach::Absent => 404,
            Reach::Unknown => 401,
        }
    }
}

#[test]
fn every_caller_reaches_its_own_and_what_is_anothers_is_absent() {
    let late = base16ct::lower::encode_string(&<sha2::Sha256 as sha2::Digest>::digest(LATE.as_bytes()));
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let tokens = format!("[[http.tokens]]\nname = 'late'\ntenant = 'T'\nexpires = '2020-01-01'\nsha256 = '{late}'\n");
    let strict = format!("[http]\napi = true\nlisten = '127.0.0.1:0'\n{tokens}");
    let open = "[http]\napi = true\nlisten = '127.0.0.1:0'\nanonymous = true\n";
    let socket = folder.path().join("http.sock");
    let unix = format!("[http]\napi = true\nlisten = 'unix:{}'\npeer_uids = [3031, 3032]\n", socket.display());
    let start = |config: &str| Daemon::start(&Options { profiles: "bash", floor: 1, config, ..Options::default() });
    let (strict, open, unix) = (start(&strict), start(open), start(&unix));
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();

    let mut admin = strict.caller();
    let mut add = |name: &str, tenant: &str, role: &str| -> String {
        let made = admin.ok("token.add", json!({ "name": name, "tenant": tenant, "role": role }));
        made["token"].as_str().unwrap().to_owned()
    };
    let (ci, ops, other, gone) =
        (add("ci", "T", "submit"), add("ops", "T", "admin"), add("other", "T", "submit"), add("gone", "T", "admin"));
    admin.ok("token.revoke", json!({ "name": "gone" }));
    let door = Door::Tcp(http_address(&strict));
    let session = |fields: &str, body: &str| {
        let answer = door.ask("POST", "/api/v1/session", fields, body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        cookie_of(&answer)
    };
    let of_token = session(&bearer(&ci), "");
    let code = admin.ok("session.code", json!({}))["code"].as_str().unwrap().to_owned();
    let of_code = session("", &json!({ "code": code }).to_string());
    let used = door.ask("POST", "/api/v1/session", "", &json!({ "code": code }).to_string());
    assert_eq!(used.status, 401, "a code is used once");

    let other = Who::new("other", &door, &bearer(&other)).hand_in("theirs");
    let token = Who::new("token", &door, &bearer(&ci)).hand_in("own");
    let mut wrong = Vec::new();
    check(&token, "own", &other, "theirs", Reach::Yes, Reach::Absent, &mut wrong);
    let by_cookie = Who { blob: token.blob.clone(), ..Who::new("session", &door, &of_token) };
    check(&by_cookie, "own", &other, "theirs", Reach::Yes, Reach::Absent, &mut wrong);
    let ops = Who::new("admin token", &door, &bearer(&ops)).hand_in("of-ops");
    check(&ops, "of-ops", &other, "theirs", Reach::Yes, Reach::Yes, &mut wrong);
    let by_code = Who::new("session of a code", &door, &of_code).hand_in("of-code");
    check(&by_code, "of-code", &other, "theirs", Reach::Yes, Reach::Yes, &mut wrong);
    for (name, fields) in [
        ("nothing", String::new()),
        ("wrong token", bearer(&LATE.replace('1', "2"))),
        ("expired token", bearer(LATE)),
        ("revoked token", bearer(&gone)),
        ("ended session", "cookie: assay_session=s00\r\nsec-fetch-site: same-origin\r\n".to_owned()),
    ] {
        let who = Who { blob: token.blob.clone(), ..Who::new(name, &door, &fields) };
        check(&who, "own", &other, "theirs", Reach::Unknown, Reach::Unknown, &mut wrong);
        for path in ["/api/v1/submissions", "/api/v1/profiles", "/api/v1/status", "/api/v1/openapi.json"] {
            let answer = who.ask("GET", path, "");
            let is_told = answer.head.contains("www-authenticate: Bearer");
            assert!(answer.status == 401 && is_told, "{name} {path}: {} {}", answer.head, answer.body);
        }
    }
    // lists
    let listed = |who: &Who| who.ask("GET", "/api/v1/submissions?limit=100", "").body;
    assert!(listed(&token).contains("\"own\"") && !listed(&token).contains("theirs"), "{}", listed(&token));
    assert!(listed(&ops).contains("\"own\"") && listed(&ops).contains("theirs"), "{}", listed(&ops));
    // a tenant that is not its own
    let foreign = json!({ "tenant": "U", "language": "bash", "files": [{ "path": "main.sh", "content": "echo 1" }] });
    assert_eq!(token.ask("POST", "/api/v1/submissions", &foreign.to_string()).status, 403);
    for path in
        ["/api/v1/submissions/own?tenant=U", "/api/v1/submissions?tenant=U", "/api/v1/submissions?tenant=U&limit=1"]
    {
        assert_eq!(token.ask("GET", path, "").status, 403, "{path}");
    }
    assert_eq!(token.ask("DELETE", "/api/v1/submissions/own?tenant=U", "").status, 403);
    assert_eq!(token.ask("GET", "/api/v1/submissions/own?tenant=T", "").status, 200);
    // a page of another site, with the browser's cookie
    let fields = of_token.replace("same-origin", "cross-site");
    assert_eq!(door.ask("GET", "/api/v1/submissions/own", &fields, "").status, 403);
    // revoked while it is in use
    admin.ok("token.revoke", json!({ "name": "ci" }));
    assert_eq!([&token, &by_cookie].map(|who| who.ask("GET", "/api/v1/submissions/own", "").status), [401; 2]);

    let door = Door::Tcp(http_address(&open));
    let browser = |id: &str| {
        let opened = door.ask("POST", "/api/v1/session", "sec-fetch-site: same-origin\r\n", "");
        assert_eq!(opened.status, 200, "{}", opened.body);
        Who::new("browser", &door, &cookie_of(&opened)).hand_in(id)
    };
    let (one, another) = (browser("own"), browser("theirs"));
    check(&one, "own", &another, "theirs", Reach::Yes, Reach::Absent, &mut wrong);
    let once = Who { blob: one.blob.clone(), ..Who::new("one-shot", &door, "") };
    check(&once, "own", &another, "theirs", Reach::Absent, Reach::Absent, &mut wrong);
    let submission = json!({ "language": "bash", "files": [{ "path": "main.sh", "content": "echo 1" }] });
    for (path, more, expected) in [
        ("/api/v1/submissions", json!({}), 200),
        ("/api/v1/submissions", json!({ "id": "named" }), 403),
        ("/api/v1/submissions?wait=false", json!({}), 403),
    ] {
        let mut submission = submission.clone();
        submission.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = once.ask("POST", path, &submission.to_string());
        assert_eq!(answer.status, expected, "{path} {more}: {}", answer.body);
    }
    let forwarded = door.ask("GET", "/api/v1/profiles", "x-forwarded-for: 192.0.2.1\r\n", "");
    assert_eq!(forwarded.status, 401);

    let of_uid = |name, uid| Who::new(name, &Door::Unix(socket.clone(), uid), "");
    let (one, another) = (of_uid("peer uid", 3031).hand_in("own"), of_uid("peer uid", 3032).hand_in("theirs"));
    check(&one, "own", &another, "theirs", Reach::Yes, Reach::Absent, &mut wrong);
    let unlisted = Who { blob: one.blob.clone(), ..of_uid("unlisted uid", 3033) };
    check(&unlisted, "own", &another, "theirs", Reach::Unknown, Reach::Unknown, &mut wrong);
    // the same principal as on the daemon's socket
    assert_eq!(unix.caller_as(3031).ok("submission.get", json!({ "id": "own" }))["state"], "done");
    assert!(wrong.is_empty(), "{} of the table are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
