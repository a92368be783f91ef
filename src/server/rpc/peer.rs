//! Who is at the other end: the uid that called connect(), and what it may do.
//!
//! The pid is not identity (it is reused, and descriptors are passed on); the uid is. 65534 is what the kernel says
//! for a uid that it cannot express, so it is nobody and is refused. Names are looked up in /etc/passwd and /etc/group
//! themselves: the daemon is a static program, and has no name service.

use std::path::Path;

use tokio::net::UnixStream;

use config::{Socket, Who};

/// The kernel's overflow uid.
const NOBODY: u32 = 65_534;

/// A caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its uid.
    pub uid: u32,
    /// Whether it may submit.
    pub may_submit: bool,
    /// Whether it may administer.
    pub is_admin: bool,
}

/// Who may do what, resolved.
#[derive(Debug, Clone)]
pub struct Roles {
    submit: Vec<Rule>,
    admin: Vec<Rule>,
    own_uid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Everyone,
    Uid(u32),
    Group { gid: u32, members: Vec<u32> },
}

/// A row of /etc/passwd or /etc/group: name, number, and the last field.
fn row(file: &Path, name: &str) -> Option<(u32, String)> {
    std::fs::read_to_string(file).ok()?.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_it = fields.first() == Some(&name);
        is_it.then(|| Some((fields.get(2)?.parse().ok()?, (*fields.get(3)?).to_owned())))?
    })
}

fn resolve(who: &Who) -> Result<Rule, String> {
    let (passwd, group) = (Path::new("/etc/passwd"), Path::new("/etc/group"));
    match who {
        Who::Uid(uid) => Ok(Rule::Uid(*uid)),
        Who::Named(name) if name == "*" => Ok(Rule::Everyone),
        Who::Named(name) => match name.split_once(':') {
            Some(("user", name)) => {
                row(passwd, name).map(|(uid, _)| Rule::Uid(uid)).ok_or_else(|| format!("there is no user {name:?}"))
            }
            Some(("group", name)) => {
                let (gid, members) = row(group, name).ok_or_else(|| format!("there is no group {name:?}"))?;
                let members = members.split(',').filter_map(|member| Some(row(passwd, member)?.0)).collect();
                Ok(Rule::Group { gid, members })
            }
            _ => Err(format!("{name:?}: write a uid, \"*\", \"user:NAME\" or \"group:NAME\"")),
        },
    }
}

impl Rule {
    fn fits(&self, uid: u32, gid: u32) -> bool {
        match self {
            Rule::Everyone => true,
            Rule::Uid(own) => *own == uid,
            Rule::Group { gid: own, members } => *own == gid || members.contains(&uid),
        }
    }
}

impl Roles {
    /// Resolves the configuration's names.
    ///
    /// # Errors
    /// A user or group that does not exist, in words.
    pub fn new(socket: &Socket) -> Result<Roles, String> {
        let all = |list: &[Who]| list.iter().map(resolve).collect::<Result<Vec<_>, _>>();
        Ok(Roles { submit: all(&socket.submit)?, admin: all(&socket.admin)?, own_uid: nix::unistd::getuid().as_raw() })
    }

    /// The role of a uid; none for nobody.
    pub fn of(&self, uid: u32, gid: u32) -> Option<Peer> {
        if uid == NOBODY {
            return None;
        }
        let is_admin = uid == 0 || uid == self.own_uid || self.admin.iter().any(|rule| rule.fits(uid, gid));
        let may_submit = is_admin || self.submit.iter().any(|rule| rule.fits(uid, gid));
        Some(Peer { uid, may_submit, is_admin })
    }

    /// Who connected.
    pub(super) fn identify(&self, stream: &UnixStream) -> Option<Peer> {
        let credentials = stream.peer_cred().ok()?;
        self.of(credentials.uid(), credentials.gid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(submit: &[Rule], admin: &[Rule]) -> Roles {
        Roles { submit: submit.to_vec(), admin: admin.to_vec(), own_uid: 900 }
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(roles(&[Rule::Everyone], &[]).of(NOBODY, 0), None);
    }

    #[test]
    fn roles_come_from_uid_and_group() {
        let group = Rule::Group { gid: 50, members: vec![7] };
        let roles = roles(&[group], &[Rule::Uid(8)]);
        let of = |uid, gid| roles.of(uid, gid).map(|peer| (peer.may_submit, peer.is_admin));
        assert_eq!(of(1, 1), Some((false, false)));
        assert_eq!(of(1, 50), Some((true, false)));
        assert_eq!(of(7, 1), Some((true, false)));
        assert_eq!(of(8, 1), Some((true, true)));
        assert_eq!(of(0, 0), Some((true, true)));
        assert_eq!(of(900, 1), Some((true, true)));
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_error() {
        let socket = Socket { admin: vec![Who::Named("user:no-such-user".to_owned())], ..Socket::default() };
        assert!(Roles::new(&socket).unwrap_err().contains("no-such-user"));
        let root = Socket { admin: vec![Who::Named("user:root".to_owned())], ..Socket::default() };
        assert!(Roles::new(&root).is_ok());
    }
}
