//! Starts a host: the tasks that watch its engine, and a pool for each profile.

use std::sync::Arc;

use protocol::Profile;

use super::factory::ProfileFactory;
use super::handle::Host;
use super::options::HostOptions;
use super::watch::watch;
use crate::pool::{Levels, Pool, PoolSettings};

impl Host {
    /// Starts a host, its pools, and the tasks that watch its engine.
    pub fn start(options: HostOptions) -> Arc<Host> {
        let profiles = options.profiles.clone();
        let host = Arc::new(Host::new(options));
        host.set_profiles(&profiles);
        tokio::spawn(watch(host.clone()));
        host
    }

    /// Replaces the profiles. A new or changed profile gets a new pool; pools of removed and
    /// changed profiles are closed.
    pub fn set_profiles(self: &Arc<Self>, profiles: &[Arc<Profile>]) {
        let before = std::mem::replace(&mut *self.profiles.lock(), profiles.to_vec());
        let is_unchanged = |profile: &Profile| before.iter().any(|other| **other == *profile);
        let mut pools = self.pools.lock();
        pools.retain(|name, pool| {
            let stays = profiles.iter().any(|profile| profile.name == *name && is_unchanged(profile));
            if !stays {
                pool.close();
            }
            stays
        });
        for profile in profiles {
            pools.entry(profile.name.clone()).or_insert_with(|| {
                let factory = ProfileFactory::new(Arc::downgrade(self), profile.clone());
                Pool::start(&profile.name, self.name(), settings(profile), self.share().clone(), Box::new(factory))
            });
        }
    }
}

fn settings(profile: &Profile) -> PoolSettings {
    PoolSettings {
        levels: Levels { floor: profile.pool.floor, ceiling: profile.pool.ceiling },
        max_age: profile.pool.max_age(),
        priority: profile.pool.priority,
        reuse: profile.pool.reuse,
        hot: if profile.prewarm.is_empty() { 0 } else { profile.pool.hot },
    }
}
