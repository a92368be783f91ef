//! Makes the sandboxes of one profile on one host.

use std::sync::{Arc, Weak};

use super::Host;
use crate::model::Profile;
use crate::policy::{self, SandboxPlan};
use crate::pool::{Factory, MakeError, Making};
use crate::sandbox::{self, Recipe};

#[derive(Debug)]
pub(super) struct ProfileFactory {
    host: Weak<Host>,
    profile: Arc<Profile>,
}

impl ProfileFactory {
    pub(super) fn new(host: Weak<Host>, profile: Arc<Profile>) -> ProfileFactory {
        ProfileFactory { host, profile }
    }
}

impl Factory for ProfileFactory {
    fn make(&self) -> Making {
        let (host, profile) = (self.host.clone(), self.profile.clone());
        Box::pin(async move {
            let not_ready = |reason: &str| MakeError::NotReady(reason.to_owned());
            let host = host.upgrade().ok_or_else(|| not_ready("the host is gone"))?;
            if !host.answers() {
                let reason = host.health().reason;
                return Err(MakeError::NotReady(reason.unwrap_or_else(|| "the engine was not asked yet".to_owned())));
            }
            let image = host.images.ready(&profile.image).await.map_err(MakeError::NotReady)?;
            let name = format!("assay-{}-{}", profile.name, uuid::Uuid::new_v4().simple());
            let slot = host.config.slots.take(name).ok_or_else(|| not_ready("every uid is in use"))?;
            let limits = profile.run_limits().map_err(|error| MakeError::NotReady(error.to_string()))?;
            let plan = SandboxPlan {
                image_id: image.layered.clone(),
                instance: host.config.instance.clone(),
                profile: profile.name.clone(),
                slot: slot.number(),
                limits,
                network_disabled: true,
            };
            let approved =
                policy::approve(policy::build(&plan)).map_err(|denial| MakeError::NotReady(denial.to_string()))?;
            let made = sandbox::create(&host.client, Recipe { approved, limits, slot }).await;
            if let Err(error) = &made
                && error.is_unreachable()
            {
                host.doubt();
            }
            Ok((made?, Arc::from(image.id.as_str())))
        })
    }
}
