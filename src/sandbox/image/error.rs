//! Why an image cannot be used: the error of one attempt to build it, of the image as a whole, and
//! of a sandbox that needs it now.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use config::ImageFolders;
use config::schema::nearest;
use docker::Error as EngineError;

use super::catalog::known_images;

/// Why one attempt to make an image failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The definition of the base cannot be read, or the build context cannot be written.
    #[error("read the image's definition: {0}")]
    Definition(#[source] io::Error),
    /// The bootstrap script cannot be started.
    #[error("could not start {program}: {source}", program = program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The helper unit's socket cannot be used.
    #[error("could not ask {socket}: {source}", socket = socket.display())]
    Helper {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The helper unit's stream is empty or truncated.
    #[error("the bootstrap failed; its output: journalctl -u 'assay-bootstrap@*'")]
    HelperFailed,
    #[error("read the bootstrap's output: {0}")]
    Read(#[source] io::Error),
    #[error("the bootstrap wrote nothing")]
    Empty,
    #[error("the bootstrap wrote nothing in {minutes} min")]
    Silent { minutes: u64 },
    #[error("the bootstrap failed ({status})")]
    Bootstrap { status: std::process::ExitStatus },
}

/// Where a package has the shipped images.
const SHIPPED: &str = "/usr/share/assay/images";

/// The most images that a message lists.
const FEW_IMAGES: usize = 6;

/// The bootstrap script exits with this status when a prerequisite is missing.
const EXIT_PREREQUISITE_MISSING: i32 = 3;

impl AttemptError {
    /// Whether the next attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            AttemptError::Engine(error) => error.retryable(),
            AttemptError::Definition(_) | AttemptError::Start { .. } => false,
            AttemptError::Bootstrap { status } => status.code() != Some(EXIT_PREREQUISITE_MISSING),
            AttemptError::Helper { .. }
            | AttemptError::HelperFailed
            | AttemptError::Read(_)
            | AttemptError::Empty
            | AttemptError::Silent { .. } => true,
        }
    }
}

/// Why an image is not available.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("read the definition of image {name:?} in {}: {source}", images.of(name).join(name).display())]
    Definition {
        name: String,
        /// Where it was looked for.
        images: ImageFolders,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Every attempt to build it failed.
    #[error("build image {name:?} in {tries} tries: {last_lines}; the whole log is in {log}", log = log.display())]
    Failed {
        name: String,
        tries: u32,
        /// The end of the log.
        last_lines: String,
        log: PathBuf,
        /// The error of the last attempt.
        #[source]
        source: Box<AttemptError>,
    },
    /// It may not be used, or its registry does not have it.
    #[error("use image {name:?}: {message}")]
    Registry { name: String, message: String },
    /// The engine does not get it from its registry.
    #[error("pull image {name:?}: {source}")]
    Pull {
        name: String,
        #[source]
        source: EngineError,
    },
    /// It does not exist, and was not to be built.
    #[error("find image {tag} of {name:?}: it is not built yet")]
    Missing { name: String, tag: String },
}

impl ImageError {
    /// The Engine's error, if one is the cause.
    pub fn engine_error(&self) -> Option<&EngineError> {
        match self {
            ImageError::Engine(error) | ImageError::Pull { source: error, .. } => Some(error),
            ImageError::Failed { source, .. } => match &**source {
                AttemptError::Engine(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the image may be there, and only the engine could not say so.
    pub fn is_engine_trouble(&self) -> bool {
        matches!(self, ImageError::Engine(error) if error.retryable())
    }

    /// What the operator can do about it, as a sentence, if known. `profile` is the name of a
    /// profile that has the image.
    pub fn remedy(&self, profile: &str) -> Option<String> {
        match self {
            ImageError::Definition { name, images, .. } => {
                let folder = images.of(name).join(name);
                if folder.is_dir() && !folder.join("Dockerfile").is_file() {
                    return Some(format!("Put what the image is built from into {}/Dockerfile.", folder.display()));
                }
                if folder.join("Dockerfile").is_file() {
                    let shipped = "add the folder with the shipped images to images.dir, as a list";
                    return Some(format!(
                        "What it is built on has to be there as well: {shipped}, such as [{:?}, {SHIPPED:?}].",
                        images.of(name)
                    ));
                }
                let known = known_images(images.all());
                let near = nearest(name, known.iter().map(String::as_str));
                let shown = images.shown();
                let has = if images.all().len() == 1 { "has" } else { "have" };
                Some(match (known.len(), near) {
                    (0, _) => format!("Set images.dir to the folder with the images; {shown} has none."),
                    (_, Some(near)) => {
                        format!(
                            "Correct `image` in the profile {profile}, perhaps {near:?} (`ls` of {shown} shows all)."
                        )
                    }
                    (..=FEW_IMAGES, None) => {
                        format!("Correct `image` in the profile {profile}; {shown} {has} {}.", known.join(", "))
                    }
                    (many, None) => format!(
                        "Correct `image` in the profile {profile}: none of the {many} images of {shown} has a name like \
                         it (`ls` shows them). An image is named as its folder, which need not be its compiler's name."
                    ),
                })
            }
            ImageError::Engine(error) => error.remedy(),
            ImageError::Failed { log, source, .. } => {
                let engine = match &**source {
                    AttemptError::Engine(error) => error.remedy().map(|remedy| format!("{remedy}. ")),
                    _ => None,
                };
                Some(format!(
                    "{}Read {}, correct the cause, and build it again: assay images build {profile}.",
                    engine.unwrap_or_default(),
                    log.display()
                ))
            }
            ImageError::Registry { .. } => None,
            ImageError::Pull { name, source } => Some(match source.remedy() {
                Some(remedy) => remedy,
                None => format!(
                    "See how it fails on the engine's machine: docker pull {name}. An image that was loaded there by \
                     hand (docker load) is used as well."
                ),
            }),
            ImageError::Missing { .. } => {
                Some(format!("Build it: assay images build {profile}; or set images.build_missing = true."))
            }
        }
    }

    /// Whether another attempt may succeed without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            ImageError::Engine(error) | ImageError::Pull { source: error, .. } => error.retryable(),
            ImageError::Failed { source, .. } => source.is_retryable(),
            ImageError::Definition { .. } | ImageError::Registry { .. } | ImageError::Missing { .. } => false,
        }
    }
}

/// Why no sandbox can be created from an image now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageUnavailable {
    /// It is missing, and a build has just been started.
    #[error("image {name:?} is missing and is being built")]
    BuildStarted { name: String },
    #[error("image {name:?} is being built: {step}")]
    Building { name: String, step: String },
    #[error(transparent)]
    Failed(Arc<ImageError>),
}

impl From<ImageError> for ImageUnavailable {
    fn from(error: ImageError) -> ImageUnavailable {
        ImageUnavailable::Failed(Arc::new(error))
    }
}

impl ImageUnavailable {
    /// The Engine's error, if one is the cause.
    pub fn engine_error(&self) -> Option<&EngineError> {
        match self {
            ImageUnavailable::Failed(error) => error.engine_error(),
            _ => None,
        }
    }

    /// Whether the image may become available without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            ImageUnavailable::BuildStarted { .. } | ImageUnavailable::Building { .. } => true,
            ImageUnavailable::Failed(error) => error.is_retryable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_depends_on_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for (path, file) in [("lua", "Dockerfile"), ("low", "dockerfile")] {
            std::fs::create_dir(folder.path().join(path)).unwrap();
            std::fs::write(folder.path().join(path).join(file), "").unwrap();
        }
        let remedy = |images: ImageFolders, name: &str| {
            let source = io::Error::from(io::ErrorKind::NotFound);
            ImageError::Definition { name: name.to_owned(), images, source }.remedy("c").unwrap()
        };
        let images = || ImageFolders::from([folder.path()]);
        assert!(remedy(images(), "low").contains("low/Dockerfile"), "{}", remedy(images(), "low"));
        assert!(remedy(images(), "lau").contains("perhaps \"lua\""), "{}", remedy(images(), "lau"));
        assert!(!remedy(images(), "lau").contains("low"), "{}", remedy(images(), "lau"));
        assert!(remedy(images(), "gcc").contains("has lua"), "{}", remedy(images(), "gcc"));
        for number in 0..40 {
            std::fs::create_dir(folder.path().join(format!("z{number}"))).unwrap();
            std::fs::write(folder.path().join(format!("z{number}/Dockerfile")), "").unwrap();
        }
        let many = remedy(images(), "gcc");
        assert!(many.contains("the profile c: none of the 41 images") && !many.contains("z3"), "{many}");
        let missing = ImageError::Missing { name: "own".to_owned(), tag: "assay/own:1".to_owned() };
        assert!(missing.remedy("shell2").unwrap().contains("assay images build shell2;"));
        assert!(remedy(ImageFolders::from(["/nonexistent"]), "lua").contains("Set images.dir"));
    }
}
