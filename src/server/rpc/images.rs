//! `image.build` and `image.pull`, with their progress; `image.prune`.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::context::Context;
use crate::calls::context::{CallResult, ResultText};
use crate::calls::error::CallError;
use crate::calls::params::params;
use crate::calls::to_value;
use crate::calls::views::find_host;
use config::bounds;
use protocol::code::Code;
use protocol::method::Notification;
use protocol::params::{ImageParams, ImagePruneParams};
use protocol::results::{ImageMade, ImageProgress, ImagesMade, ImagesPruned};
use sandbox::host::Host;
use sandbox::image::{BuildEvent, ImageError, PullMode, ResolvedImage, is_registry_name};

pub(super) async fn build(context: &Context, given: Value) -> CallResult {
    let ImageParams { profile, host } = params(given)?;
    let image = image_of(context, &profile)?;
    make(context, &profile, &image, host, PullMode::AsConfigured).await
}

/// Asks the registry even if the engine has the image.
pub(super) async fn pull(context: &Context, given: Value) -> CallResult {
    let ImageParams { profile, host } = params(given)?;
    let image = image_of(context, &profile)?;
    if !is_registry_name(&image) {
        let message = format!("profile: the image of {profile:?} is built from the folder {image:?}: use image.build");
        return Err(CallError::bad("profile", message));
    }
    make(context, &profile, &image, host, PullMode::Always).await
}

/// Removes images of ours that no profile and no container needs.
pub(super) async fn prune(context: &Context, given: Value) -> CallResult {
    let ImagePruneParams { dry_run, host } = params(given)?;
    context.daemon.submissions.wait_for_first_probe().await;
    let hosts = hosts(context, host)?;
    if hosts.is_empty() {
        return Err(CallError::new(Code::NoHost, "no Docker host is up"));
    }
    let profiles = context.daemon.live.profiles();
    let mut images = Vec::new();
    for host in &hosts {
        let names = profiles.values().map(|profile| profile.image.as_str());
        let pruned = host.images().prune(names, dry_run).await;
        let failed = |error| CallError::new(Code::ImageFailed, format!("failed to {error}"));
        images.extend(pruned.map_err(failed)?);
    }
    Ok(ResultText::of(&ImagesPruned { dry_run, images }))
}

/// The host of this name, or every host that answers.
fn hosts(context: &Context, name: Option<String>) -> Result<Vec<Arc<Host>>, CallError> {
    match name {
        Some(name) => Ok(vec![find_host(&context.daemon, &name)?]),
        None => Ok(context.daemon.fleet.all().iter().filter(|host| host.answers()).cloned().collect()),
    }
}

fn image_of(context: &Context, profile: &str) -> Result<String, CallError> {
    let profiles = context.daemon.live.profiles();
    let found = profiles.get(profile).ok_or_else(|| {
        let known = profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let message = format!("profile: the profile {profile:?} does not exist; the profiles are {known}");
        CallError::new(Code::UnknownProfile, message).at_field("profile")
    })?;
    Ok(found.image.clone())
}

/// Makes the image on `host`, or on every host that answers.
async fn make(context: &Context, profile: &str, image: &str, host: Option<String>, mode: PullMode) -> CallResult {
    context.daemon.submissions.wait_for_first_probe().await;
    let hosts = hosts(context, host)?;
    let mut rows = Vec::new();
    for host in &hosts {
        let made = make_on(context, host, profile, image, mode).await?;
        rows.push(ImageMade {
            host: host.name().to_owned(),
            image: image.to_owned(),
            id: made.id,
            tag: made.tag,
            built: made.built,
            took_ms: made.took.as_millis() as u64,
        });
    }
    let first = rows.first().cloned().ok_or_else(|| CallError::new(Code::NoHost, "no Docker host is up"))?;
    Ok(ResultText::of(&ImagesMade { first, hosts: rows }))
}

/// Makes the image on one host and sends its progress. A slow reader misses progress lines; the
/// build never waits.
async fn make_on(
    context: &Context,
    host: &Arc<Host>,
    profile: &str,
    image: &str,
    mode: PullMode,
) -> Result<ResolvedImage, CallError> {
    let (sender, mut events) = mpsc::channel::<BuildEvent>(bounds::MAX_OUTBOUND_MESSAGES);
    let mut watch = move |event| drop(sender.try_send(event));
    let making = async move { host.images().ensure(image, mode, &mut watch).await };
    let reporting = async {
        while let Some(event) = events.recv().await {
            let body = ImageProgress {
                profile: profile.to_owned(),
                host: host.name().to_owned(),
                image: event.image,
                step: event.step,
                done: event.done,
                total: event.total,
                line: event.line,
            };
            if !context.notify(Notification::ImageProgress, || to_value(&body)).await {
                return;
            }
        }
    };
    let (made, ()) = tokio::join!(making, reporting);
    if let Ok(made) = &made {
        host.use_image(image, &made.id);
    }
    for pool in host.pools() {
        pool.reset_backoff();
    }
    made.map_err(|error| {
        let remedy = match &error {
            // its message names the log and the engine's error
            ImageError::Failed { .. } => None,
            other => other.remedy(profile).map(|remedy| format!(". Remedy: {remedy}")),
        };
        CallError::new(Code::ImageFailed, format!("{error}{}", remedy.unwrap_or_default()))
    })
}
