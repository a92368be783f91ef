//! Who may use the API.
//!
//! ```text
//!  request --> a token in its URL? ------------------------------------------------ 400
//!     |--> Host is one of http.hosts? no ------------------------------------------ 403
//!     |--> Authorization? ------- one token that is accepted ---> token:NAME   else 401
//!     |--> a cookie of ours? ---- a page of ours, JSON? no -------------------- 403, 415
//!     |                          a session ----> its token's, or the uid that made its code
//!     |                          a browser's id, anonymous callers allowed ---> anon:HASH
//!     |                                                                        else 401
//!     |--> Unix socket, its uid is in http.peer_uids, not forwarded ---------> uid:N
//!     '--> anonymous callers allowed: loopback, not forwarded, a page of ours or none
//!              '--> anon:RANDOM, for this one request                         else 401
//! ```
//!
//! The first credential that is there decides: one that is not accepted is never overlooked in
//! favour of a weaker one. Why it is not accepted is not told. Nothing here reads a disk, and no
//! credential is kept, compared or logged but as its SHA-256.
//!
//! A cookie, an address and a uid are things that a browser or a proxy has without knowing: with
//! those, a page of another site must not be what asks ([`same_origin`]). A token in a header is
//! put there on purpose.

mod credentials;
mod error;
mod identity;
mod refusal;
mod same_origin;
mod secret;
mod sessions;
#[cfg(test)]
mod tests;
mod token_table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use http::request::Parts;
use parking_lot::RwLock;
use tokio::sync::watch;

pub use error::AccessError;
pub use identity::{ApiAction, Identity, IdentityKind, may};

use crate::calls::audit;
use crate::calls::peer::Peer;
use crate::calls::state::Live;
use config::{AllowedHost, HttpSettings, bounds};
use credentials::GivenCookie;
use identity::Grant;
use protocol::Principal;
use protocol::token::{TokenRole, TokenRow};
use same_origin::{PageEvidence, RequestedHost};
use secret::SecretHash;
use sessions::{BrowserSession, LoginCodes, SessionOwner, Sessions};
use store::StoredToken;
use token_table::{KnownToken, TokenTable};

/// The other end of a connection, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    Tcp {
        from: SocketAddr,
        /// Whether only this machine reaches the listener.
        is_loopback_listener: bool,
    },
    Unix {
        uid: u32,
        gid: u32,
    },
}

impl PeerAddress {
    /// Whether the caller is on this machine, by its address.
    fn is_loopback(&self) -> bool {
        match self {
            PeerAddress::Tcp { from, is_loopback_listener } => {
                *is_loopback_listener && from.ip().to_canonical().is_loopback()
            }
            PeerAddress::Unix { .. } => false,
        }
    }
}

/// What the configuration says.
#[derive(Debug, Default)]
struct AccessRules {
    hosts: Vec<AllowedHost>,
    peer_uids: Vec<u32>,
    anonymous: bool,
    anonymous_remote: bool,
}

/// A session that was opened.
#[derive(Debug)]
pub struct OpenedSession {
    pub identity: Identity,
    /// The value of `Set-Cookie`.
    pub cookie: HeaderValue,
    pub lasts: Duration,
}

/// Decides who makes a request.
#[derive(Debug)]
pub struct AccessControl {
    /// Whether the API is served; a restart changes it.
    is_api: bool,
    live: Arc<Live>,
    rules: RwLock<Arc<AccessRules>>,
    tokens: TokenTable,
    sessions: Sessions,
    codes: LoginCodes,
    listener: RwLock<Option<SocketAddr>>,
    /// Raised whenever something was taken away.
    changes: watch::Sender<u64>,
}

/// For the signatures of callbacks.
impl scheduler::TokenHashes for AccessControl {
    fn sha256(&self, name: &str) -> Option<[u8; 32]> {
        self.tokens.hash_of(name, now_ms()).map(|hash| hash.0)
    }
}

fn now_ms() -> i64 {
    AccessControl::now_ms()
}

impl AccessControl {
    /// With the tokens of the configuration; those of the store follow when it is open. `live` has
    /// the roles of uids.
    pub fn new(http: &HttpSettings, live: Arc<Live>) -> AccessControl {
        let access = AccessControl {
            is_api: http.api,
            live,
            rules: RwLock::default(),
            tokens: TokenTable::default(),
            sessions: Sessions::default(),
            codes: LoginCodes::default(),
            listener: RwLock::default(),
            changes: watch::channel(0).0,
        };
        access.set_settings(http);
        access
    }

    /// Applies a configuration.
    pub fn set_settings(&self, http: &HttpSettings) {
        let rules = AccessRules {
            hosts: http.allowed_hosts(),
            peer_uids: http.peer_uids.clone(),
            anonymous: http.anonymous,
            anonymous_remote: http.anonymous_remote,
        };
        *self.rules.write() = Arc::new(rules);
        self.tokens.set_configured(http.tokens.clone());
        self.warn_of_shadowed();
        self.changed();
    }

    /// The tokens that the store has, when it was opened.
    pub fn set_stored(&self, tokens: Vec<StoredToken>) {
        self.tokens.set_stored(tokens);
        self.warn_of_shadowed();
        self.changed();
    }

    fn warn_of_shadowed(&self) {
        for name in self.tokens.shadowed() {
            tracing::warn!(
                name,
                "the configuration has a token of this name (http.tokens): the one that the store has is not accepted"
            );
        }
    }

    /// A token was added to the store.
    pub fn add_stored(&self, token: StoredToken) {
        self.tokens.insert(token);
        self.changed();
    }

    /// A token of the store is not accepted any more, from now on.
    pub fn revoke_stored(&self, name: &str) {
        self.tokens.revoke(name, now_ms());
        self.changed();
    }

    /// Whether the configuration has a token of this name.
    pub fn is_configured(&self, name: &str) -> bool {
        self.tokens.is_configured(name)
    }

    /// All tokens, by name.
    pub fn token_rows(&self) -> Vec<TokenRow> {
        self.tokens.rows(now_ms())
    }

    /// When tokens of the store were last used, of those that were used since the last call.
    pub fn take_used(&self) -> Vec<(String, i64)> {
        self.tokens.take_used()
    }

    /// Milliseconds since 1970.
    pub fn now_ms() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    /// Notes where browsers reach the page: `address` is that of the TCP listener, if it is one.
    pub fn set_listener(&self, address: Option<SocketAddr>) {
        *self.listener.write() = address;
    }

    /// Whether the API is served.
    pub fn is_api(&self) -> bool {
        self.is_api
    }

    /// The address of the page, without a path: by the name of the operator's proxy, if there is
    /// one.
    pub fn page_url(&self) -> Option<String> {
        if let Some(proxy) = self.rules().hosts.iter().find(|host| host.is_https) {
            let port = proxy.port.filter(|port| *port != 443).map_or(String::new(), |port| format!(":{port}"));
            return Some(format!("https://{}{port}", proxy.name));
        }
        let listener = (*self.listener.read())?;
        let ip = match listener.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        Some(format!("http://{}", SocketAddr::new(ip, listener.port())))
    }

    /// A new token, and its hash for the store.
    pub fn new_token() -> (String, [u8; 32]) {
        let token = secret::new_token();
        let hash = SecretHash::of(&token);
        (token, hash.0)
    }

    /// A code that opens one browser session as this caller of the socket.
    pub fn new_code(&self, peer: &Peer) -> (String, Duration) {
        (self.new_code_at(peer, now_ms()), bounds::LOGIN_CODE_TIME)
    }

    fn new_code_at(&self, peer: &Peer, now_ms: i64) -> String {
        self.codes.add(SessionOwner::Caller { peer: peer.clone(), roles: self.live.roles() }, now_ms)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn rules(&self) -> Arc<AccessRules> {
        self.rules.read().clone()
    }

    /// Checks what holds for every request of the API and the page, from any caller.
    ///
    /// # Errors
    /// It is for another host, or has a token in its URL.
    pub fn check_head(&self, parts: &Parts) -> Result<(), AccessError> {
        self.requested_host(parts).map(drop)
    }

    fn requested_host(&self, parts: &Parts) -> Result<RequestedHost, AccessError> {
        if credentials::is_token_in_url(&parts.uri) {
            return Err(AccessError::TokenInUrl);
        }
        RequestedHost::of(parts, &self.rules().hosts)
    }

    /// Who makes a request.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn identify(&self, parts: &Parts, from: &PeerAddress) -> Result<Identity, AccessError> {
        self.identify_at(parts, from, now_ms())
    }

    fn identify_at(&self, parts: &Parts, from: &PeerAddress, now_ms: i64) -> Result<Identity, AccessError> {
        let host = self.requested_host(parts)?;
        if let Some(hash) = credentials::token(&parts.headers)? {
            let token = self.tokens.use_token(hash, now_ms).ok_or(AccessError::Unauthenticated)?;
            return Ok(of_token(&token, hash));
        }
        let page = PageEvidence::of(parts, &host);
        if let Some(cookie) = credentials::cookie(&parts.headers, credentials::cookie_name(host.is_https)) {
            return self.of_cookie(parts, from, &cookie, page, now_ms);
        }
        if let PeerAddress::Unix { uid, gid } = *from
            && !credentials::is_forwarded(&parts.headers)
            && let Some(peer) = self.peer_of_uid(uid, gid)
        {
            let identity =
                Identity { peer, kind: IdentityKind::PeerUid, expires_ms: None, grant: Grant::Uid { uid, gid } };
            return if page == PageEvidence::Foreign { Err(AccessError::CrossOrigin) } else { Ok(identity) };
        }
        let grant = self.anonymous_grant(parts, from)?;
        match page {
            PageEvidence::Foreign => Err(AccessError::CrossOrigin),
            _ if !credentials::has_no_form(parts) => Err(AccessError::NotJson),
            _ => {
                let id = secret::random_browser_id();
                Ok(Identity { peer: anonymous(&id), kind: IdentityKind::OneShot, expires_ms: None, grant })
            }
        }
    }

    fn of_cookie(
        &self,
        parts: &Parts,
        from: &PeerAddress,
        cookie: &GivenCookie,
        page: PageEvidence,
        now_ms: i64,
    ) -> Result<Identity, AccessError> {
        let identity = match cookie {
            GivenCookie::Invalid => return Err(AccessError::Unauthenticated),
            GivenCookie::Session(id) => {
                let session = self.sessions.find(*id, now_ms).ok_or(AccessError::Unauthenticated)?;
                self.of_session(*id, &session, now_ms)?
            }
            GivenCookie::Browser(id) => {
                let grant = self.anonymous_grant(parts, from)?;
                let peer = anonymous(&id.short_name());
                Identity { peer, kind: IdentityKind::Browser, expires_ms: None, grant }
            }
        };
        match page {
            PageEvidence::Foreign | PageEvidence::Absent => Err(AccessError::CrossOrigin),
            _ if !credentials::has_no_form(parts) => Err(AccessError::NotJson),
            PageEvidence::Own | PageEvidence::Navigation => Ok(identity),
        }
    }

    fn of_session(&self, id: SecretHash, session: &BrowserSession, now_ms: i64) -> Result<Identity, AccessError> {
        let peer = match &session.owner {
            SessionOwner::Token(hash) => {
                let token = self.tokens.use_token(*hash, now_ms).ok_or(AccessError::Unauthenticated)?;
                peer_of_token(&token)
            }
            SessionOwner::Caller { peer, roles } if **roles == *self.live.roles() => peer.clone(),
            SessionOwner::Caller { .. } => return Err(AccessError::Unauthenticated),
        };
        let (kind, grant) = (IdentityKind::Session, Grant::Session(id));
        Ok(Identity { peer, kind, expires_ms: Some(session.expires_ms), grant })
    }

    /// The caller with a uid that needs no token.
    fn peer_of_uid(&self, uid: u32, gid: u32) -> Option<Peer> {
        let is_listed = self.rules().peer_uids.contains(&uid);
        is_listed.then(|| self.live.roles().of(uid, gid)).flatten()
    }

    fn anonymous_grant(&self, parts: &Parts, from: &PeerAddress) -> Result<Grant, AccessError> {
        let is_remote = !from.is_loopback();
        let grant = Grant::Anonymous { is_remote };
        match self.is_anonymous_allowed(is_remote) && !credentials::is_forwarded(&parts.headers) {
            true => Ok(grant),
            false => Err(AccessError::Unauthenticated),
        }
    }

    fn is_anonymous_allowed(&self, is_remote: bool) -> bool {
        let rules = self.rules();
        rules.anonymous && (!is_remote || rules.anonymous_remote)
    }

    /// Opens a browser session: with the token in the header, else with a code, else for an
    /// anonymous browser.
    ///
    /// # Errors
    /// As [`AccessControl::identify`]; the code is not valid; too many are open.
    pub fn open_session(
        &self,
        parts: &Parts,
        from: &PeerAddress,
        code: Option<&str>,
    ) -> Result<OpenedSession, AccessError> {
        self.open_session_at(parts, from, code, now_ms())
    }

    fn open_session_at(
        &self,
        parts: &Parts,
        from: &PeerAddress,
        code: Option<&str>,
        now_ms: i64,
    ) -> Result<OpenedSession, AccessError> {
        let host = self.requested_host(parts)?;
        // a page of another site must not log a browser in as a caller of its choice
        if PageEvidence::of(parts, &host) == PageEvidence::Foreign {
            return Err(AccessError::CrossOrigin);
        }
        let token = credentials::token(&parts.headers)?;
        if token.is_none() && !credentials::has_no_form(parts) {
            return Err(AccessError::NotJson);
        }
        let owner = match (token, code) {
            (Some(hash), _) => {
                self.tokens.use_token(hash, now_ms).ok_or(AccessError::Unauthenticated)?;
                SessionOwner::Token(hash)
            }
            (None, Some(code)) => self.codes.take(code, now_ms).ok_or(AccessError::InvalidCode)?,
            (None, None) => {
                let grant = self.anonymous_grant(parts, from)?;
                let id = secret::random_browser_id();
                let peer = anonymous(&SecretHash::of(&id).short_name());
                let identity = Identity { peer, kind: IdentityKind::Browser, expires_ms: None, grant };
                return opened(identity, &credentials::browser_cookie(&id), host.is_https);
            }
        };
        let (id, session) = self.sessions.open(owner, now_ms).map_err(|_| AccessError::TooManySessions)?;
        let identity = self.of_session(SecretHash::of(&id), &session, now_ms)?;
        audit::write("session.open", "", &identity.peer.principal, &format!("http {from}"), Ok(()));
        opened(identity, &credentials::session_cookie(&id), host.is_https)
    }

    /// Ends the browser session of the cookie, if there is one. Returns the value of `Set-Cookie`.
    ///
    /// # Errors
    /// A page of another site asks.
    pub fn close_session(&self, parts: &Parts) -> Result<HeaderValue, AccessError> {
        let host = self.requested_host(parts)?;
        if PageEvidence::of(parts, &host) == PageEvidence::Foreign {
            return Err(AccessError::CrossOrigin);
        }
        if let Some(GivenCookie::Session(id)) =
            credentials::cookie(&parts.headers, credentials::cookie_name(host.is_https))
        {
            self.sessions.close(id);
            self.changed();
        }
        cookie_header("", Duration::ZERO, host.is_https)
    }

    /// Whether an identity still holds: its token, session, uid or setting is there.
    pub fn is_current(&self, identity: &Identity) -> bool {
        let now_ms = now_ms();
        match identity.grant {
            Grant::Token(hash) => self.tokens.find(hash, now_ms).is_some(),
            Grant::Session(id) => {
                let session = self.sessions.find(id, now_ms);
                session.is_some_and(|session| self.of_session(id, &session, now_ms).is_ok())
            }
            Grant::Uid { uid, gid } => self.peer_of_uid(uid, gid).is_some_and(|peer| peer == identity.peer),
            Grant::Anonymous { is_remote } => self.is_anonymous_allowed(is_remote),
        }
    }

    /// Waits until an identity does not hold any more, for answers that take long, such as streams
    /// of events. Nothing is lost when it is dropped.
    pub async fn ended(&self, identity: &Identity) {
        let mut changes = self.changes.subscribe();
        while self.is_current(identity) {
            let left = identity.expires_ms.map(|at| Duration::from_millis((at - now_ms()).max(0).unsigned_abs()));
            let over = async {
                match left {
                    // the wall's clock may be set: looked at again
                    Some(left) => tokio::time::sleep(left.min(LOOK) + Duration::from_millis(1)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = over => {}
            }
        }
    }
}

/// How often [`AccessControl::ended`] looks at the clock.
const LOOK: Duration = Duration::from_secs(60);

fn anonymous(id: &str) -> Peer {
    Peer { principal: Principal::Anonymous(id.into()), tenant: None, may_submit: true, is_admin: false }
}

fn peer_of_token(token: &KnownToken) -> Peer {
    Peer {
        principal: Principal::Token(token.name.clone()),
        tenant: Some(token.tenant.clone()),
        may_submit: true,
        is_admin: token.role == TokenRole::Admin,
    }
}

fn of_token(token: &KnownToken, hash: SecretHash) -> Identity {
    let (peer, expires_ms) = (peer_of_token(token), token.expires_ms);
    Identity { peer, kind: IdentityKind::Token, expires_ms, grant: Grant::Token(hash) }
}

fn opened(identity: Identity, value: &str, is_https: bool) -> Result<OpenedSession, AccessError> {
    let lasts = bounds::HTTP_SESSION_TIME;
    Ok(OpenedSession { identity, cookie: cookie_header(value, lasts, is_https)?, lasts })
}

fn cookie_header(value: &str, lasts: Duration, is_https: bool) -> Result<HeaderValue, AccessError> {
    let (name, secure) = (credentials::cookie_name(is_https), if is_https { "; Secure" } else { "" });
    let text = format!("{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", lasts.as_secs());
    HeaderValue::from_str(&text).map_err(|_| AccessError::Unauthenticated)
}
