//! The hosts, which come and go by reload.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Host, HostState};

/// All hosts. Shared by whoever gives out work and whoever shows it.
#[derive(Debug, Default)]
pub struct Fleet {
    hosts: Mutex<Arc<Vec<Arc<Host>>>>,
}

impl Fleet {
    /// A fleet of these.
    pub fn new(hosts: Vec<Arc<Host>>) -> Fleet {
        Fleet { hosts: Mutex::new(Arc::new(hosts)) }
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> Arc<Vec<Arc<Host>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Others from now on; what is no longer there is for the caller to close.
    pub fn replace(&self, hosts: Vec<Arc<Host>>) {
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(hosts);
    }

    /// One by its name.
    pub fn find(&self, name: &str) -> Option<Arc<Host>> {
        self.all().iter().find(|host| host.name() == name).cloned()
    }

    /// Those that may be given work: the ones that are up, or when there is none the ones that are suspect.
    pub fn schedulable(&self) -> Vec<Arc<Host>> {
        let all = self.all();
        let in_state = |state: HostState| all.iter().filter(|host| host.state() == state).cloned().collect::<Vec<_>>();
        match in_state(HostState::Up) {
            none if none.is_empty() => in_state(HostState::Suspect),
            up => up,
        }
    }
}
