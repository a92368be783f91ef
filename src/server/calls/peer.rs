//! Who calls, and what it may do.
//!
//! On a Unix socket, the identity is the uid that called connect(). The pid is not used: pids are
//! reused, and descriptors are passed on. The kernel reports 65534 for a uid that this user
//! namespace cannot express, so that uid is refused. Names are looked up in /etc/passwd and
//! /etc/group directly, because the daemon is a static program without NSS.

use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixStream;

use super::error::CallError;
use config::{CallerRule, SocketSettings};
use protocol::Principal;
use protocol::code::Code;

const OVERFLOW_UID: u32 = 65_534;

/// An identified caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub principal: Principal,
    /// The only tenant that it may state.
    pub tenant: Option<Arc<str>>,
    pub may_submit: bool,
    pub is_admin: bool,
}

impl Peer {
    /// The tenant whose submissions a call is about, if it is about one. A caller whose tenant is
    /// fixed sees those of no other one, also of a time when it had another.
    ///
    /// # Errors
    /// It names another tenant than its own.
    pub(crate) fn visible_tenant<'a>(&'a self, given: Option<&'a str>) -> Result<Option<&'a str>, CallError> {
        match (&self.tenant, given) {
            (Some(own), Some(given)) if !self.is_admin && **own != *given => {
                let message = format!("tenant: your token is for the tenant {own:?}; leave the field out");
                Err(CallError::new(Code::Forbidden, message).at_field("tenant"))
            }
            (Some(own), _) if !self.is_admin => Ok(Some(own)),
            _ => Ok(given),
        }
    }
}

/// The roles of the configuration with all names resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    submit: Vec<RoleRule>,
    admin: Vec<RoleRule>,
    own_uid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RoleRule {
    Everyone,
    Uid(u32),
    Group { gid: u32, members: Vec<u32> },
}

/// Finds a name in /etc/passwd or /etc/group: its number, and the fourth field.
fn find_row(file: &Path, name: &str) -> Option<(u32, String)> {
    std::fs::read_to_string(file).ok()?.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_match = fields.first() == Some(&name);
        is_match.then(|| Some((fields.get(2)?.parse().ok()?, (*fields.get(3)?).to_owned())))?
    })
}

fn resolve(rule: &CallerRule) -> Result<RoleRule, String> {
    let (passwd, group) = (Path::new("/etc/passwd"), Path::new("/etc/group"));
    match rule {
        CallerRule::Uid(uid) => Ok(RoleRule::Uid(*uid)),
        CallerRule::Named(name) if name == "*" => Ok(RoleRule::Everyone),
        CallerRule::Named(name) => match name.split_once(':') {
            Some(("user", name)) => find_row(passwd, name)
                .map(|(uid, _)| RoleRule::Uid(uid))
                .ok_or_else(|| format!("the user {name:?} does not exist on this host")),
            Some(("group", name)) => {
                let (gid, members) =
                    find_row(group, name).ok_or_else(|| format!("the group {name:?} does not exist on this host"))?;
                let members = members.split(',').filter_map(|member| Some(find_row(passwd, member)?.0)).collect();
                Ok(RoleRule::Group { gid, members })
            }
            _ => Err(format!("{name:?} is not a valid caller; use a uid, \"*\", \"user:NAME\" or \"group:NAME\"")),
        },
    }
}

impl RoleRule {
    fn matches(&self, uid: u32, gid: u32) -> bool {
        match self {
            RoleRule::Everyone => true,
            RoleRule::Uid(own) => *own == uid,
            RoleRule::Group { gid: own, members } => *own == gid || members.contains(&uid),
        }
    }
}

impl Roles {
    /// # Errors
    /// The setting, and a message: a user or group does not exist.
    pub fn new(socket: &SocketSettings) -> Result<Roles, (&'static str, String)> {
        let all = |key, rules: &[CallerRule]| {
            rules.iter().map(resolve).collect::<Result<Vec<_>, _>>().map_err(|message| (key, message))
        };
        Ok(Roles {
            submit: all("socket.submit", &socket.submit)?,
            admin: all("socket.admin", &socket.admin)?,
            own_uid: nix::unistd::getuid().as_raw(),
        })
    }

    /// The caller with this uid and gid; `None` for the overflow uid.
    pub fn of(&self, uid: u32, gid: u32) -> Option<Peer> {
        if uid == OVERFLOW_UID {
            return None;
        }
        let is_admin = uid == 0 || uid == self.own_uid || self.admin.iter().any(|rule| rule.matches(uid, gid));
        let may_submit = is_admin || self.submit.iter().any(|rule| rule.matches(uid, gid));
        Some(Peer { principal: Principal::Uid(uid), tenant: None, may_submit, is_admin })
    }

    pub(crate) fn identify(&self, stream: &UnixStream) -> Option<Peer> {
        let credentials = stream.peer_cred().ok()?;
        self.of(credentials.uid(), credentials.gid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(submit: &[RoleRule], admin: &[RoleRule]) -> Roles {
        Roles { submit: submit.to_vec(), admin: admin.to_vec(), own_uid: 900 }
    }

    #[test]
    fn the_overflow_uid_is_refused() {
        assert_eq!(roles(&[RoleRule::Everyone], &[]).of(OVERFLOW_UID, 0), None);
    }

    #[test]
    fn roles_come_from_uid_and_group() {
        let group = RoleRule::Group { gid: 50, members: vec![7] };
        let roles = roles(&[group], &[RoleRule::Uid(8)]);
        let of = |uid, gid| roles.of(uid, gid).map(|peer| (peer.may_submit, peer.is_admin));
        assert_eq!(of(1, 1), Some((false, false)));
        assert_eq!(of(1, 50), Some((true, false)));
        assert_eq!(of(7, 1), Some((true, false)));
        assert_eq!(of(8, 1), Some((true, true)));
        assert_eq!(of(0, 0), Some((true, true)));
        assert_eq!(of(900, 1), Some((true, true)));
    }

    #[test]
    fn a_caller_with_a_tenant_of_its_own_sees_no_other() {
        let peer = |tenant: Option<&str>, is_admin| Peer {
            principal: Principal::Token("ci".into()),
            tenant: tenant.map(Arc::from),
            may_submit: true,
            is_admin,
        };
        let (token, admin, uid) = (peer(Some("T"), false), peer(Some("T"), true), peer(None, false));
        assert_eq!([None, Some("T")].map(|given| token.visible_tenant(given)), [Ok(Some("T")), Ok(Some("T"))]);
        assert_eq!(token.visible_tenant(Some("U")).unwrap_err().code, Code::Forbidden);
        assert_eq!(token.visible_tenant(Some("")).unwrap_err().code, Code::Forbidden);
        for peer in [admin, uid] {
            assert_eq!([None, Some("U")].map(|given| peer.visible_tenant(given)), [Ok(None), Ok(Some("U"))]);
        }
    }

    #[test]
    fn an_unknown_user_is_an_error() {
        let socket = SocketSettings {
            admin: vec![CallerRule::Named("user:no-such-user".to_owned())],
            ..SocketSettings::default()
        };
        assert!(Roles::new(&socket).unwrap_err().1.contains("no-such-user"));
        let root =
            SocketSettings { admin: vec![CallerRule::Named("user:root".to_owned())], ..SocketSettings::default() };
        assert!(Roles::new(&root).is_ok());
    }
}
