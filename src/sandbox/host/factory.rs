//! Creates the sandboxes of one profile on one host.

use std::sync::{Arc, Weak};

use protocol::{Isolation, IsolationRequest, Limits, Profile};

use super::handle::Host;
use super::images::LayeredImage;
use crate::lifecycle::{self, CreateError, CreateOptions, Sandbox, Slot, convert};
use crate::policy::{self, MemoryOverheads, SandboxPlan};
use crate::pool::{MakeError, SandboxFactory, SandboxFuture};

#[derive(Debug)]
pub(super) struct ProfileFactory {
    /// Weak, since the host owns the pool that owns the factory.
    host: Weak<Host>,
    profile: Arc<Profile>,
}

impl ProfileFactory {
    pub(super) fn new(host: Weak<Host>, profile: Arc<Profile>) -> ProfileFactory {
        ProfileFactory { host, profile }
    }
}

impl SandboxFactory for ProfileFactory {
    fn make(&self) -> SandboxFuture {
        let (host, profile) = (self.host.clone(), self.profile.clone());
        Box::pin(async move {
            let host = host.upgrade().ok_or(MakeError::HostRemoved)?;
            if !host.answers() {
                return Err(MakeError::HostDown { source: host.health().error });
            }
            let image = host.images().ready(&profile.image).await?;
            let limits = profile.run_limits()?;
            let make = async |image: &LayeredImage| {
                let creation = SandboxCreation { host: &host, profile: &profile, image: &image.layered, limits };
                creation.make_best().await
            };
            match make(&image).await {
                Err(error) if error.is_image_gone() => {
                    // someone removed it from the engine: it may have to be built again
                    host.images().forget_one(&profile.image);
                    let image = host.images().ready(&profile.image).await?;
                    Ok((make(&image).await?, Arc::from(image.id.as_str())))
                }
                made => Ok((made?, Arc::from(image.id.as_str()))),
            }
        })
    }
}

/// One creation, with everything resolved but the isolation.
struct SandboxCreation<'a> {
    host: &'a Arc<Host>,
    profile: &'a Profile,
    /// The id of the layered image.
    image: &'a str,
    limits: Limits,
}

impl SandboxCreation<'_> {
    /// Creates a sandbox with the isolation that the profile asks for. With `auto`, falls back to
    /// `split` on a host where cells are not possible.
    async fn make_best(&self) -> Result<Sandbox, MakeError> {
        match (self.profile.isolation, self.host.cell_unavailable_reason()) {
            (IsolationRequest::Split, _) | (IsolationRequest::Auto, Some(_)) => self.make(Isolation::Split).await,
            (IsolationRequest::Cell, _) => self.make(Isolation::Cell).await,
            (IsolationRequest::Auto, None) => match self.make(Isolation::Cell).await {
                Err(MakeError::Create(error)) if error.may_be_due_to_cells() && self.host.options().require_nonroot => {
                    Err(MakeError::NeedsCells { reason: error.to_string() })
                }
                // only a successful `split` sandbox proves that cells are the cause
                Err(MakeError::Create(error)) if error.may_be_due_to_cells() => {
                    let sandbox = self.make(Isolation::Split).await?;
                    self.host.monitor().set_cell_unavailable(&error);
                    Ok(sandbox)
                }
                made => made,
            },
        }
    }

    async fn make(&self, isolation: Isolation) -> Result<Sandbox, MakeError> {
        loop {
            match self.make_one(isolation).await {
                // each attempt takes a slot out of use
                Err(MakeError::Create(CreateError::SpentUid(_))) => {}
                made => return made,
            }
        }
    }

    /// The same, with the next slot only.
    async fn make_one(&self, isolation: Isolation) -> Result<Sandbox, MakeError> {
        let (host, settings) = (self.host, self.host.options());
        if isolation == Isolation::Split && settings.require_nonroot {
            return Err(match (self.profile.isolation, host.cell_unavailable_reason()) {
                (IsolationRequest::Auto, Some(reason)) => MakeError::NeedsCells { reason },
                _ => MakeError::AsksForSplit { file: self.profile.file.clone() },
            });
        }
        let name = format!("assay-{}-{}", self.profile.name, uuid::Uuid::new_v4().simple());
        let slot = settings.slots.take(name).ok_or_else(|| MakeError::NoUid {
            spent: settings.slots.count_spent(),
            count: settings.slots.count(),
            floors: settings.profiles.iter().map(|profile| profile.pool.floor).sum(),
        })?;
        let plan = self.plan(isolation, &slot);
        let options = CreateOptions {
            approved: policy::approve(policy::build(&plan))?,
            limits: self.limits,
            isolation,
            overheads: plan.overheads,
            slot,
            prewarm: convert::prewarmed_runtimes(self.profile, &self.limits),
        };
        let made = lifecycle::create(host.client(), options).await;
        if made.as_ref().is_err_and(|error| error.is_unreachable()) {
            host.mark_suspect();
        }
        let sandbox = made?;
        if settings.require_userns && isolation == Isolation::Split && !sandbox.ready().userns_remapped {
            return Err(MakeError::NeedsUserNamespaces);
        }
        Ok(sandbox)
    }

    fn plan(&self, isolation: Isolation, slot: &Slot) -> SandboxPlan {
        let (profile, settings) = (self.profile, self.host.options());
        let runtime = profile.runtime.clone().or_else(|| settings.runtime.clone());
        let forks = || profile.prewarm.iter().filter(|prewarm| prewarm.fork);
        SandboxPlan {
            image_id: self.image.to_owned(),
            instance: settings.instance.clone(),
            profile: profile.name.clone(),
            slot: slot.number(),
            uid: slot.uid(),
            isolation,
            apparmor: settings.apparmor.clone(),
            limits: self.limits,
            overheads: MemoryOverheads {
                runtime: runtime.is_some(),
                template: isolation == Isolation::Cell && forks().next().is_some(),
                loaded: forks().any(|prewarm| !prewarm.load.is_empty()),
                // in a runtime with a kernel of its own the init sees no memory figures
                compile_bytes: if runtime.is_some() { 0 } else { profile.compile_memory_bytes() },
            },
            network_disabled: runtime.is_none(),
            runtime,
        }
    }
}
