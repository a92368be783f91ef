//! Who gets what: every kind of caller times every route, and the ways around that are closed.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, COOKIE};
use http::{Request, StatusCode};
use strum::VariantArray;

use super::*;
use crate::calls::peer::Roles;
use crate::calls::state::LiveSettings;
use config::{CallerRule, HttpToken, SocketSettings};
use protocol::ReusePolicy;
use protocol::routes::{ROUTES, Route};

const NOW: i64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;

const LOCAL: PeerAddress = PeerAddress::Tcp {
    from: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5),
    is_loopback_listener: true,
};

fn remote() -> PeerAddress {
    PeerAddress::Tcp { from: "192.0.2.7:5".parse().unwrap(), is_loopback_listener: false }
}

fn live(socket: &SocketSettings) -> Arc<Live> {
    let roles = Arc::new(Roles::new(socket).unwrap());
    Arc::new(Live::new(LiveSettings { profiles: Arc::default(), roles, reuse: ReusePolicy::default() }))
}

fn socket() -> SocketSettings {
    let rules = |uids: &[u32]| uids.iter().map(|uid| CallerRule::Uid(*uid)).collect();
    SocketSettings { submit: rules(&[1000]), admin: rules(&[2000]), ..SocketSettings::default() }
}

fn token(name: &str) -> String {
    format!("assay_{}", base16ct::lower::encode_string(&SecretHash::of(name).0))
}

fn stored(name: &str, expires_ms: Option<i64>, role: TokenRole) -> StoredToken {
    StoredToken {
        name: name.to_owned(),
        hash: Some(SecretHash::of(&token(name)).0),
        tenant: "acme".to_owned(),
        role: role.as_str().to_owned(),
        created_ms: 0,
        created_by: "uid:0".to_owned(),
        expires_ms,
        used_ms: None,
        revoked_ms: None,
    }
}

fn settings() -> HttpSettings {
    HttpSettings { api: true, peer_uids: vec![1000, 2000, 3000], ..HttpSettings::default() }
}

fn control(http: &HttpSettings) -> AccessControl {
    let access = AccessControl::new(http, live(&socket()));
    access.set_stored(vec![
        stored("ci", None, TokenRole::Submit),
        stored("root", None, TokenRole::Admin),
        stored("late", Some(NOW), TokenRole::Admin),
        stored("gone", None, TokenRole::Admin),
    ]);
    access.revoke_stored("gone");
    access
}

/// A request's head, for this machine.
#[derive(Clone)]
struct Head {
    method: &'static str,
    uri: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn new(method: &'static str, uri: &str) -> Head {
        Head { method, uri: uri.to_owned(), fields: vec![("host".to_owned(), "localhost:9464".to_owned())] }
    }

    fn with(mut self, name: impl AsRef<str>, value: &str) -> Head {
        self.fields.push((name.as_ref().to_owned(), value.to_owned()));
        self
    }

    fn bearer(self, token: &str) -> Head {
        self.with(AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// As a page of this server sends it.
    fn by_own_page(self) -> Head {
        self.with("sec-fetch-site", "same-origin")
    }

    fn parts(&self) -> Parts {
        let mut request = Request::builder().method(self.method).uri(&self.uri);
        for (name, value) in &self.fields {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }
}

fn get() -> Head {
    Head::new("GET", "/api/v1/submissions")
}

/// The cookie that a browser sends after `Set-Cookie`.
fn sent_back(cookie: &HeaderValue) -> String {
    cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
}

fn status(result: Result<(), AccessError>) -> u16 {
    result.err().map_or(200, |error| error.status().as_u16())
}

/// What a route answers to a caller, as far as access decides.
fn answer(access: &AccessControl, route: &Route, head: &Head, from: &PeerAddress) -> u16 {
    let parts = head.parts();
    status(match route.operation {
        "openSession" => access.open_session_at(&parts, from, None, NOW).map(drop),
        "closeSession" => access.close_session(&parts).map(drop),
        operation => {
            let action = ApiAction::of_operation(operation).unwrap_or_else(|| panic!("{operation} has no action"));
            access.identify_at(&parts, from, NOW).and_then(|identity| may(&identity, action))
        }
    })
}

/// Rows: who. Columns: the routes of the API in the order of `ROUTES`.
const RIGHTS: &str = "
                    submit list get cancel follow input receipt putBlob getBlob profiles status openapi open close run
 nothing               401  401 401    401    401   401     401     401     401      401    401     401  401   200 401
 wrong_token           401  401 401    401    401   401     401     401     401      401    401     401  401   200 401
 expired_token         401  401 401    401    401   401     401     401     401      401    401     401  401   200 401
 revoked_token         401  401 401    401    401   401     401     401     401      401    401     401  401   200 401
 token                 200  200 200    200    200   200     200     200     200      200    200     200  200   200 200
 admin_token           200  200 200    200    200   200     200     200     200      200    200     200  200   200 200
 session               200  200 200    200    200   200     200     200     200      200    200     200  401   200 200
 session_of_a_code     200  200 200    200    200   200     200     200     200      200    200     200  401   200 200
 ended_session         401  401 401    401    401   401     401     401     401      401    401     401  401   200 401
 foreign_page          403  403 403    403    403   403     403     403     403      403    403     403  403   403 403
 browser               200  200 200    200    200   200     200     200     200      200    403     200  200   200 200
 one_shot              200  403 200    200    200   200     200     403     200      200    403     200  200   200 200
 peer_uid              200  200 200    200    200   200     200     200     200      200    200     200  401   200 200
 peer_uid_no_submit    403  200 200    200    200   200     200     403     200      200    200     200  401   200 403
 peer_uid_unlisted     401  401 401    401    401   401     401     401     401      401    401     401  401   200 401
";

#[test]
fn every_caller_gets_of_every_route_what_the_table_says() {
    let strict = control(&settings());
    let open = control(&HttpSettings { anonymous: true, ..settings() });
    // a route of the table ends the session, so that each gets one of its own
    let of_code = || {
        let code = strict.new_code_at(&strict.live.roles().of(2000, 2000).unwrap(), NOW);
        let parts = Head::new("POST", "/api/v1/session").with("content-type", "application/json").parts();
        sent_back(&strict.open_session_at(&parts, &LOCAL, Some(&code), NOW).unwrap().cookie)
    };
    let of_token = || {
        let parts = Head::new("POST", "/api/v1/session").bearer(&token("ci")).parts();
        sent_back(&strict.open_session_at(&parts, &LOCAL, None, NOW).unwrap().cookie)
    };
    let ended = of_token();
    strict.close_session(&Head::new("DELETE", "/").by_own_page().with(COOKIE, &ended).parts()).unwrap();
    let browser = Head::new("POST", "/api/v1/session").by_own_page().parts();
    let browser = sent_back(&open.open_session_at(&browser, &LOCAL, None, NOW).unwrap().cookie);
    let uid = |uid| PeerAddress::Unix { uid, gid: uid };

    let routes: Vec<&Route> = ROUTES.iter().filter(|route| route.is_api()).collect();
    let mut lines = RIGHTS.lines().filter(|line| !line.trim().is_empty());
    assert_eq!(lines.next().unwrap().split_whitespace().count(), routes.len(), "a column for each route");
    let mut wrong = Vec::new();
    for line in lines {
        let mut cells = line.split_whitespace();
        let who = cells.next().unwrap();
        for (route, expected) in routes.iter().zip(cells) {
            let head = Head::new(route.verb.as_str(), &route.path.replace("{id}", "x"));
            let answered = match who {
                "nothing" => answer(&strict, route, &head, &LOCAL),
                "wrong_token" => answer(&strict, route, &head.bearer(&token("other")), &LOCAL),
                "expired_token" => answer(&strict, route, &head.bearer(&token("late")), &LOCAL),
                "revoked_token" => answer(&strict, route, &head.bearer(&token("gone")), &LOCAL),
                "token" => answer(&strict, route, &head.bearer(&token("ci")), &remote()),
                "admin_token" => answer(&strict, route, &head.bearer(&token("root")), &remote()),
                "session" => answer(&strict, route, &head.by_own_page().with(COOKIE, &of_token()), &remote()),
                "session_of_a_code" => answer(&strict, route, &head.by_own_page().with(COOKIE, &of_code()), &remote()),
                "ended_session" => answer(&strict, route, &head.by_own_page().with(COOKIE, &ended), &LOCAL),
                "foreign_page" => {
                    let head = head.with("origin", "http://evil.example").with(COOKIE, &of_token());
                    answer(&strict, route, &head, &LOCAL)
                }
                "browser" => answer(&open, route, &head.by_own_page().with(COOKIE, &browser), &LOCAL),
                "one_shot" => answer(&open, route, &head, &LOCAL),
                "peer_uid" => answer(&strict, route, &head, &uid(1000)),
                "peer_uid_no_submit" => answer(&strict, route, &head, &uid(3000)),
                "peer_uid_unlisted" => answer(&strict, route, &head, &uid(0)),
                _ => panic!("{who}"),
            };
            if answered.to_string() != expected {
                wrong.push(format!("{who} {}: {answered} instead of {expected}", route.operation));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_id_of_its_own_and_an_answer_later_are_for_callers_who_can_come_back() {
    let access = control(&HttpSettings { anonymous: true, ..settings() });
    let one_shot = access.identify_at(&get().parts(), &LOCAL, NOW).unwrap();
    let token = access.identify_at(&get().bearer(&token("ci")).parts(), &LOCAL, NOW).unwrap();
    for action in [ApiAction::SubmitNamed, ApiAction::SubmitLater, ApiAction::PutBlob, ApiAction::List] {
        assert_eq!(may(&one_shot, action), Err(AccessError::OneShot), "{action:?}");
        assert_eq!(may(&token, action), Ok(()), "{action:?}");
    }
    let again = access.identify_at(&get().parts(), &LOCAL, NOW).unwrap();
    assert_ne!(one_shot.peer.principal, again.peer.principal, "each request is a caller of its own");
    assert_eq!(one_shot.peer.principal.account(), again.peer.principal.account());
}

#[test]
fn every_route_of_the_api_has_an_action() {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for route in ROUTES.iter().filter(|route| route.is_api()) {
        let action = ApiAction::of_operation(route.operation);
        let action = action.unwrap_or_else(|| panic!("{} has no action", route.operation));
        assert_eq!(seen.insert(format!("{action:?}"), route.operation), None, "{action:?}");
    }
    // those that a parameter makes of `submit`
    assert_eq!(seen.len() + 2, ApiAction::VARIANTS.len());
}

#[test]
fn what_is_wrong_with_a_token_is_not_told() {
    let access = control(&settings());
    let identify = |head: Head| access.identify_at(&head.parts(), &LOCAL, NOW).unwrap_err();
    let errors = [
        identify(get()),
        identify(get().bearer(&token("other"))),
        identify(get().bearer(&token("late"))),
        identify(get().bearer(&token("gone"))),
        identify(get().bearer("assay_x")),
        identify(get().with(AUTHORIZATION, "Basic dXNlcjpwYXNz")),
        identify(get().by_own_page().with(COOKIE, &format!("assay_session=s{}", "0".repeat(64)))),
    ];
    assert!(errors.iter().all(|error| *error == AccessError::Unauthenticated), "{errors:?}");
    assert_eq!(errors[0].status(), StatusCode::UNAUTHORIZED);
}

#[test]
fn a_credential_that_is_not_accepted_is_not_overlooked_in_favour_of_a_weaker_one() {
    let access = control(&HttpSettings { anonymous: true, ..settings() });
    let session = Head::new("POST", "/api/v1/session").bearer(&token("ci")).parts();
    let session = sent_back(&access.open_session_at(&session, &LOCAL, None, NOW).unwrap().cookie);
    let of = |head: Head, from: &PeerAddress| access.identify_at(&head.parts(), from, NOW).map(|found| found.kind);
    let bad = get().bearer(&token("gone")).by_own_page();
    let refused = Err(AccessError::Unauthenticated);
    assert_eq!(of(bad.clone(), &LOCAL), refused);
    assert_eq!(of(bad.clone().with(COOKIE, &session), &LOCAL), refused);
    assert_eq!(of(bad, &PeerAddress::Unix { uid: 1000, gid: 1000 }), refused);
    let stale = get().by_own_page().with(COOKIE, &format!("assay_session=s{}", "1".repeat(64)));
    assert_eq!(of(stale.clone(), &LOCAL), refused);
    assert_eq!(of(stale, &PeerAddress::Unix { uid: 1000, gid: 1000 }), refused);
    let twice = get().bearer(&token("ci")).bearer(&token("ci"));
    assert_eq!(of(twice, &LOCAL), Err(AccessError::SeveralCredentials));
    // and the stronger one counts
    let both = get().bearer(&token("root")).with(COOKIE, &session);
    assert_eq!(of(both, &LOCAL), Ok(IdentityKind::Token));
}

#[test]
fn a_token_is_its_principal_with_a_tenant_and_a_role() {
    let access = control(&settings());
    let of = |name: &str| access.identify_at(&get().bearer(&token(name)).parts(), &remote(), NOW).unwrap().peer;
    let (ci, root) = (of("ci"), of("root"));
    assert_eq!((ci.principal.to_string().as_str(), ci.tenant.as_deref()), ("token:ci", Some("acme")));
    assert!(ci.may_submit && !ci.is_admin && root.is_admin);
    let uid = access.identify_at(&get().parts(), &PeerAddress::Unix { uid: 2000, gid: 1 }, NOW).unwrap().peer;
    assert_eq!((uid.principal, uid.tenant, uid.is_admin), (Principal::Uid(2000), None, true));
}

#[test]
fn a_token_in_a_url_and_a_foreign_host_are_refused_whatever_else_is_right() {
    let access = control(&HttpSettings { anonymous: true, ..settings() });
    let secret = token("ci");
    let in_url = Head::new("GET", &format!("/api/v1/submissions?token={secret}")).bearer(&secret);
    assert_eq!(access.identify(&in_url.parts(), &LOCAL), Err(AccessError::TokenInUrl));
    assert_eq!(access.check_head(&in_url.parts()), Err(AccessError::TokenInUrl));
    let mut rebound = get().bearer(&secret);
    rebound.fields[0].1 = "evil.example".to_owned();
    assert_eq!(access.identify(&rebound.parts(), &LOCAL), Err(AccessError::ForeignHost));
    assert_eq!(access.close_session(&rebound.parts()).unwrap_err(), AccessError::ForeignHost);
    assert_eq!(access.open_session(&rebound.parts(), &LOCAL, None).unwrap_err(), AccessError::ForeignHost);
    let text = [AccessError::TokenInUrl, AccessError::ForeignHost].map(|error| error.to_string()).concat();
    assert!(!text.contains("evil") && !text.contains(&secret));
}

#[test]
fn anonymous_callers_are_on_this_machine_and_behind_no_proxy() {
    let (none, local, everywhere) = (
        control(&settings()),
        control(&HttpSettings { anonymous: true, ..settings() }),
        control(&HttpSettings { anonymous: true, anonymous_remote: true, ..settings() }),
    );
    let behind = |is_loopback_listener| PeerAddress::Tcp { from: "127.0.0.1:5".parse().unwrap(), is_loopback_listener };
    let mapped = PeerAddress::Tcp { from: "[::ffff:127.0.0.1]:5".parse().unwrap(), is_loopback_listener: true };
    let unlisted = PeerAddress::Unix { uid: 4000, gid: 4000 };
    for (from, expected) in [
        (LOCAL, [401, 200, 200]),
        (mapped, [401, 200, 200]),
        (behind(false), [401, 401, 200]),
        (remote(), [401, 401, 200]),
        (unlisted, [401, 401, 200]),
    ] {
        let of = |access: &AccessControl| status(access.identify_at(&get().parts(), &from, NOW).map(drop));
        assert_eq!([&none, &local, &everywhere].map(of), expected, "{from:?}");
        for header in ["forwarded", "x-forwarded-for", "X-Forwarded-Proto", "x-real-ip"] {
            let of = |access: &AccessControl| {
                let parts = get().with(header, "for=192.0.2.1").parts();
                let opened = access.open_session_at(&parts, &from, None, NOW).map(drop);
                [status(access.identify_at(&parts, &from, NOW).map(drop)), status(opened)]
            };
            assert_eq!([&none, &local, &everywhere].map(of), [[401; 2]; 3], "{from:?} {header}");
        }
    }
}

#[test]
fn a_proxy_lends_its_uid_to_none_of_its_callers() {
    let access = control(&settings());
    let from = PeerAddress::Unix { uid: 2000, gid: 2000 };
    assert!(access.identify_at(&get().parts(), &from, NOW).is_ok());
    let forwarded = get().with("x-forwarded-for", "192.0.2.1").parts();
    assert_eq!(access.identify_at(&forwarded, &from, NOW), Err(AccessError::Unauthenticated));
    let overflow = PeerAddress::Unix { uid: 65_534, gid: 65_534 };
    let open = control(&HttpSettings { peer_uids: vec![65_534], ..settings() });
    assert_eq!(open.identify_at(&get().parts(), &overflow, NOW), Err(AccessError::Unauthenticated));
}

#[test]
fn a_page_of_another_site_gets_nothing_from_a_browser_that_is_logged_in() {
    let access = control(&HttpSettings { anonymous: true, ..settings() });
    let open = |head: Head| sent_back(&access.open_session_at(&head.parts(), &LOCAL, None, NOW).unwrap().cookie);
    let session = open(Head::new("POST", "/api/v1/session").bearer(&token("ci")));
    let browser = open(Head::new("POST", "/api/v1/session"));
    let json = |head: Head| head.with("content-type", "application/json").with("content-length", "2");
    let form = |head: Head| head.with("content-type", "text/plain").with("content-length", "2");
    let post = || Head::new("POST", "/api/v1/submissions");
    let of = |head: Head| access.identify_at(&head.parts(), &LOCAL, NOW).map(|found| found.kind);
    for cookie in [&session, &browser] {
        assert!(of(json(post()).by_own_page().with(COOKIE, cookie)).is_ok());
        assert!(of(json(post()).with("origin", "http://localhost:9464").with(COOKIE, cookie)).is_ok());
        assert_eq!(of(form(post()).by_own_page().with(COOKIE, cookie)), Err(AccessError::NotJson));
        for site in ["cross-site", "same-site", "none"] {
            let foreign = json(post()).with("sec-fetch-site", site).with(COOKIE, cookie);
            assert_eq!(of(foreign), Err(AccessError::CrossOrigin), "{site}");
        }
        // a browser that says nothing, and another server on this machine
        assert_eq!(of(json(post()).with(COOKIE, cookie)), Err(AccessError::CrossOrigin));
        let neighbour = json(post()).with("origin", "http://localhost:8080").with(COOKIE, cookie);
        assert_eq!(of(neighbour), Err(AccessError::CrossOrigin));
        // a URL that the user opens
        let opened = get().with("sec-fetch-site", "none").with("sec-fetch-mode", "navigate").with(COOKIE, cookie);
        assert!(of(opened).is_ok());
    }
    // without a cookie, too: code would run on this machine
    assert_eq!(of(json(post()).with("origin", "http://evil.example")), Err(AccessError::CrossOrigin));
    assert_eq!(of(json(post()).with("sec-fetch-site", "cross-site")), Err(AccessError::CrossOrigin));
    assert_eq!(of(form(post())), Err(AccessError::NotJson));
    assert_eq!(of(json(post())), Ok(IdentityKind::OneShot));
    let uid = PeerAddress::Unix { uid: 1000, gid: 1000 };
    let foreign = json(post()).with("origin", "http://evil.example").parts();
    assert_eq!(access.identify_at(&foreign, &uid, NOW), Err(AccessError::CrossOrigin));
    // nor does such a page log the browser in
    let login = Head::new("POST", "/api/v1/session").with("origin", "http://evil.example");
    assert_eq!(access.open_session_at(&login.parts(), &LOCAL, None, NOW).unwrap_err(), AccessError::CrossOrigin);
    let form_login = form(Head::new("POST", "/api/v1/session"));
    assert_eq!(access.open_session_at(&form_login.parts(), &LOCAL, None, NOW).unwrap_err(), AccessError::NotJson);
}

#[test]
fn the_cookie_is_for_this_server_alone_and_secure_where_the_operator_says_https() {
    let access = control(&HttpSettings {
        hosts: vec!["localhost".to_owned(), "https://judge.example".to_owned()],
        ..settings()
    });
    let head = Head::new("POST", "/api/v1/session").bearer(&token("ci"));
    let open = |head: &Head| access.open_session_at(&head.parts(), &LOCAL, None, NOW).unwrap().cookie;
    let plain = open(&head);
    let plain = plain.to_str().unwrap();
    assert!(plain.starts_with("assay_session=s"), "{plain}");
    assert!(plain.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{plain}");
    let mut tls = head.clone();
    tls.fields[0].1 = "judge.example".to_owned();
    let secure = open(&tls);
    let text = secure.to_str().unwrap();
    assert!(text.starts_with("__Host-assay_session=s") && text.ends_with("; SameSite=Strict; Secure"), "{text}");
    // one that another host of the site could have set is not looked at
    let mut request = get().with("origin", "https://judge.example").with(COOKIE, plain.split(';').next().unwrap());
    request.fields[0].1 = "judge.example".to_owned();
    assert_eq!(access.identify_at(&request.parts(), &remote(), NOW), Err(AccessError::Unauthenticated));
    let mut request = get().with("origin", "https://judge.example").with(COOKIE, &sent_back(&secure));
    request.fields[0].1 = "judge.example".to_owned();
    assert!(access.identify_at(&request.parts(), &remote(), NOW).is_ok());
    let ended = access.close_session(&request.parts()).unwrap();
    assert!(ended.to_str().unwrap().starts_with("__Host-assay_session=; Path=/; Max-Age=0; "), "{ended:?}");
    assert!(access.identify_at(&request.parts(), &remote(), NOW).is_err());
}

#[test]
fn a_session_ends_with_its_token_its_time_and_the_roles_of_its_caller() {
    let access = control(&settings());
    let open = |head: Head, code: Option<&str>, now| {
        sent_back(&access.open_session_at(&head.parts(), &LOCAL, code, now).unwrap().cookie)
    };
    let of = |cookie: &str, now| access.identify_at(&get().by_own_page().with(COOKIE, cookie).parts(), &remote(), now);
    let login = || Head::new("POST", "/api/v1/session");
    let session = open(login().bearer(&token("ci")), None, NOW);
    let found = of(&session, NOW).unwrap();
    assert_eq!((found.kind, found.peer.principal), (IdentityKind::Session, Principal::Token("ci".into())));
    assert_eq!(found.expires_ms, Some(NOW + 12 * HOUR_MS));
    assert!(of(&session, NOW + 12 * HOUR_MS - 1).is_ok() && of(&session, NOW + 12 * HOUR_MS).is_err());
    access.revoke_stored("ci");
    assert_eq!(of(&session, NOW), Err(AccessError::Unauthenticated));

    let admin = access.live.roles().of(2000, 2000).unwrap();
    let now = NOW;
    let code = access.new_code_at(&admin, now);
    let session = open(login(), Some(&code), now);
    let again = access.open_session_at(&login().parts(), &LOCAL, Some(&code), now).unwrap_err();
    assert_eq!((again, again.status()), (AccessError::InvalidCode, StatusCode::UNAUTHORIZED));
    assert_eq!(of(&session, now).unwrap().peer, admin);
    let same = Arc::new(Roles::new(&socket()).unwrap());
    let replace = |roles| {
        access.live.replace(LiveSettings { profiles: Arc::default(), roles, reuse: ReusePolicy::default() });
    };
    replace(same);
    assert!(of(&session, now).is_ok(), "a reload that changes no role");
    replace(Arc::new(Roles::new(&SocketSettings::default()).unwrap()));
    assert_eq!(of(&session, now), Err(AccessError::Unauthenticated));
}

#[test]
fn a_reload_takes_away_what_the_configuration_gave() {
    let hash = base16ct::lower::encode_string(&SecretHash::of(&token("file")).0);
    let file = HttpToken { name: "file".to_owned(), sha256: hash, tenant: "t".to_owned(), ..HttpToken::default() };
    let given = HttpSettings { anonymous: true, tokens: vec![file], ..settings() };
    let access = control(&given);
    let uid = PeerAddress::Unix { uid: 1000, gid: 1000 };
    let of = |head: &Head, from: &PeerAddress| access.identify_at(&head.parts(), from, NOW);
    let by_token = get().bearer(&token("file"));
    let held = [of(&by_token, &remote()), of(&get(), &uid), of(&get(), &LOCAL)].map(Result::unwrap);
    assert!(held.iter().all(|identity| access.is_current(identity)));
    access.set_settings(&HttpSettings::default());
    assert!([of(&by_token, &remote()), of(&get(), &uid), of(&get(), &LOCAL)].iter().all(Result::is_err));
    assert!(!held.iter().any(|identity| access.is_current(identity)));
    assert!(access.is_current(&of(&get().bearer(&token("ci")), &remote()).unwrap()), "the store's stay");
}

#[tokio::test(start_paused = true)]
async fn what_a_token_follows_ends_when_it_is_revoked() {
    let access = Arc::new(control(&settings()));
    let [kept, ended] =
        ["root", "ci"].map(|name| access.identify(&get().bearer(&token(name)).parts(), &LOCAL).unwrap());
    let watching = |identity: Identity| {
        let access = access.clone();
        tokio::spawn(async move { access.ended(&identity).await })
    };
    let (keeps, ends) = (watching(kept), watching(ended));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!keeps.is_finished() && !ends.is_finished());
    access.revoke_stored("ci");
    ends.await.unwrap();
    assert!(!keeps.is_finished());
    keeps.abort();
}
