//! Starts a host: the tasks that watch its engine, and a pool for each profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{Profile, ReusePolicy};

use super::factory::ProfileFactory;
use super::handle::Host;
use super::options::HostOptions;
use super::watch::watch;
use crate::image::ImageUnavailable;
use crate::pool::{Levels, MakeError, Pool, PoolSettings, ReuseRule};

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
                let settings = settings(profile, self.options().reuse);
                Pool::start(&profile.name, self.name(), settings, self.share().clone(), Box::new(factory))
            });
        }
        drop(pools);
        if self.answers() {
            let host = self.clone();
            tokio::spawn(async move { host.check_images().await });
        }
    }

    /// Has the pools of an image that was just made, or asked for again, use the one with this id.
    /// Submissions are not refused for its sake any more.
    pub fn use_image(&self, image: &str, id: &str) {
        for profile in self.profiles.lock().iter().filter(|profile| profile.image == image) {
            if let Some(pool) = self.pool(&profile.name) {
                pool.use_image(id);
            }
        }
    }

    /// Finds the profiles whose images cannot be had, before anyone submits to them.
    pub(super) async fn check_images(&self) {
        let profiles = self.profiles.lock().clone();
        let mut unavailable: BTreeMap<&str, Option<ImageUnavailable>> = BTreeMap::new();
        for profile in &profiles {
            let image = profile.image.as_str();
            if !unavailable.contains_key(image) {
                unavailable.insert(image, self.images().check(image).await.err());
            }
            let error = unavailable.get(image).cloned().flatten().map(MakeError::from);
            if let (Some(error), Some(pool)) = (error, self.pool(&profile.name)) {
                pool.record_failure(error);
            }
        }
    }
}

fn settings(profile: &Profile, policy: ReusePolicy) -> PoolSettings {
    PoolSettings {
        levels: Levels { floor: profile.pool.floor, ceiling: profile.pool.ceiling },
        max_age: profile.pool.max_age(),
        priority: profile.pool.priority,
        reuse: ReuseRule { policy, uses: profile.pool.reuse },
        hot: if profile.prewarm.is_empty() { 0 } else { profile.pool.hot },
    }
}
