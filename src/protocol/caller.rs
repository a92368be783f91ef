//! The identity of a caller.

use serde::{Deserialize, Serialize};

use crate::principal::{Account, Principal};

/// Who calls, and for which tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "StoredCaller")]
pub struct Caller {
    pub principal: Principal,
    /// Opaque; empty if the caller stated none.
    pub tenant: String,
}

impl Caller {
    pub fn of_uid(uid: u32, tenant: impl Into<String>) -> Caller {
        Caller { principal: Principal::Uid(uid), tenant: tenant.into() }
    }

    /// Whose bounds it counts in.
    pub fn account(&self) -> Account {
        self.principal.account()
    }

    /// What takes turns within an account: its tenants, and anonymous callers, which share one.
    pub fn turn(&self) -> &str {
        match &self.principal {
            Principal::Anonymous(id) => id,
            Principal::Uid(_) | Principal::Token(_) => &self.tenant,
        }
    }
}

/// A caller in a file; version 0.1 knew only uids.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredCaller {
    Named { principal: Principal, tenant: String },
    OfUid { uid: u32, tenant: String },
}

impl From<StoredCaller> for Caller {
    fn from(stored: StoredCaller) -> Caller {
        match stored {
            StoredCaller::Named { principal, tenant } => Caller { principal, tenant },
            StoredCaller::OfUid { uid, tenant } => Caller::of_uid(uid, tenant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_of_an_old_file_is_its_uid() {
        let read = |text| serde_json::from_str::<Caller>(text).unwrap();
        let caller = read(r#"{"uid":7,"tenant":"t"}"#);
        assert_eq!(caller, Caller::of_uid(7, "t"));
        assert_eq!(read(&serde_json::to_string(&caller).unwrap()), caller);
    }
}
