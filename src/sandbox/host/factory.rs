//! Makes the sandboxes of one profile on one host.

use std::sync::{Arc, Weak};

use super::Host;
use crate::lifecycle::{self, CreateOptions, Sandbox};
use crate::policy::{self, MemoryOverheads, SandboxPlan};
use crate::pool::{Factory, MakeError, Making};
use protocol::{Isolation, IsolationRequest, Limits, Profile};

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
            let limits = profile.run_limits().map_err(|error| MakeError::NotReady(error.to_string()))?;
            let order = Order { host: &host, profile: &profile, image: &image.layered, limits };
            let sandbox = match (profile.isolation, host.cell_unavailable_reason()) {
                (IsolationRequest::Split, _) | (IsolationRequest::Auto, Some(_)) => {
                    order.make(Isolation::Split).await?
                }
                (IsolationRequest::Cell, _) => order.make(Isolation::Cell).await?,
                (IsolationRequest::Auto, None) => match order.make(Isolation::Cell).await {
                    // what the engine refuses for cells only is found out by making the other kind
                    Err(MakeError::Create(error)) if error.may_be_the_cells() => {
                        let sandbox = order.make(Isolation::Split).await?;
                        host.set_cell_unavailable(&error);
                        sandbox
                    }
                    made => made?,
                },
            };
            Ok((sandbox, Arc::from(image.id.as_str())))
        })
    }
}

/// A sandbox to be made.
struct Order<'a> {
    host: &'a Arc<Host>,
    profile: &'a Profile,
    image: &'a str,
    limits: Limits,
}

impl Order<'_> {
    async fn make(&self, isolation: Isolation) -> Result<Sandbox, MakeError> {
        let Order { host, profile, limits, .. } = *self;
        let refused = |reason: String| MakeError::NotReady(reason);
        if isolation == Isolation::Split && host.config.require_nonroot {
            let why = host.cell_unavailable_reason().unwrap_or_else(|| "the profile wants split".to_owned());
            return Err(refused(format!("require_nonroot wants cells, and they cannot be had: {why}")));
        }
        let name = format!("assay-{}-{}", profile.name, uuid::Uuid::new_v4().simple());
        let slot = host.config.slots.take(name).ok_or_else(|| refused("every uid is in use".to_owned()))?;
        let plan = SandboxPlan {
            image_id: self.image.to_owned(),
            instance: host.config.instance.clone(),
            profile: profile.name.clone(),
            slot: slot.number(),
            uid: slot.uid(),
            isolation,
            runtime: profile.runtime.clone().or_else(|| host.config.runtime.clone()),
            apparmor: host.config.apparmor.clone(),
            limits,
            overheads: MemoryOverheads {
                runtime: profile.runtime.is_some() || host.config.runtime.is_some(),
                template: isolation == Isolation::Cell && profile.prewarm.iter().any(|prewarm| prewarm.fork),
                loaded: profile.prewarm.iter().any(|prewarm| prewarm.fork && !prewarm.load.is_empty()),
            },
            // halves a start with runc; overheads fail with it (ENGINE.md)
            network_disabled: profile.runtime.is_none() && host.config.runtime.is_none(),
        };
        let approved = policy::approve(policy::build(&plan)).map_err(|denial| refused(denial.to_string()))?;
        let made = lifecycle::create(
            &host.client,
            CreateOptions {
                approved,
                limits,
                isolation,
                overheads: plan.overheads,
                slot,
                prewarm: lifecycle::convert::prepares(profile, &limits),
            },
        )
        .await;
        if let Err(error) = &made
            && error.is_unreachable()
        {
            host.mark_suspect();
        }
        let sandbox = made?;
        if host.config.require_userns && isolation == Isolation::Split && !sandbox.ready().userns_remapped {
            let why = "require_userns wants an engine with user namespaces (userns-remap, rootless), or cells";
            return Err(refused(why.to_owned()));
        }
        Ok(sandbox)
    }
}
