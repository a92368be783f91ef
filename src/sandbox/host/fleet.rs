//! The hosts of the daemon. A reload may add and remove hosts.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::rows::HostState;

use super::handle::Host;

/// All hosts of the daemon.
#[derive(Debug, Default)]
pub struct Fleet {
    hosts: Mutex<Arc<Vec<Arc<Host>>>>,
}

impl Fleet {
    pub fn new(hosts: Vec<Arc<Host>>) -> Fleet {
        Fleet { hosts: Mutex::new(Arc::new(hosts)) }
    }

    /// All hosts in the order of the configuration.
    pub fn all(&self) -> Arc<Vec<Arc<Host>>> {
        self.hosts.lock().clone()
    }

    /// Replaces the hosts. The caller closes those that are removed.
    pub fn replace(&self, hosts: Vec<Arc<Host>>) {
        *self.hosts.lock() = Arc::new(hosts);
    }

    /// Finds a host by its name.
    pub fn find(&self, name: &str) -> Option<Arc<Host>> {
        self.all().iter().find(|host| host.name() == name).cloned()
    }

    /// The hosts that may be given work: those that are up, or if there is none, those that are
    /// suspect.
    pub fn schedulable(&self) -> Vec<Arc<Host>> {
        let all = self.all();
        let in_state = |state: HostState| all.iter().filter(|host| host.state() == state).cloned().collect::<Vec<_>>();
        match in_state(HostState::Up) {
            none if none.is_empty() => in_state(HostState::Suspect),
            up => up,
        }
    }
}
