//! What a request for an image reports: its progress and its result.

use std::time::Duration;

/// Progress of a build or a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildEvent {
    /// The image's name.
    pub image: String,
    /// The current activity, in a few words.
    pub step: String,
    /// Steps completed so far.
    pub done: Option<u32>,
    /// Steps in total.
    pub total: Option<u32>,
    /// A line of the log.
    pub line: Option<String>,
}

impl BuildEvent {
    /// An event without step numbers.
    pub(super) fn new(image: &str, step: impl Into<String>, line: Option<String>) -> BuildEvent {
        BuildEvent { image: image.to_owned(), step: step.into(), done: None, total: None, line }
    }
}

/// Called for each event.
pub type BuildWatcher<'a> = &'a mut (dyn FnMut(BuildEvent) + Send);

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    pub id: String,
    pub tag: String,
    /// Whether this request built or pulled it.
    pub built: bool,
    /// Duration of the build or pull.
    pub took: Duration,
}

/// When to pull an image from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullMode {
    /// As the setting `images.pull` says.
    AsConfigured,
    /// Even if the engine has the image.
    Always,
}
