//! Adds the init to an image as one layer with one file. Built through the Engine API, so that it
//! also works on a remote engine.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use docker::{BuildOptions, Client, Error as EngineError};
use sha2::{Digest, Sha256};
use wire::frame::INIT_MARKER;

use super::catalog::append;
use crate::policy::INIT_PATH;

/// The label of a layer: the id of the image below.
pub const BELOW_LABEL: &str = "assay.image";

/// The repository of layered images.
pub const REPOSITORY: &str = "assay/sandbox";

/// Hexadecimal digits of a layered image's tag.
const TAG_DIGITS: usize = 16;

/// Why a file cannot be the init of sandboxes of this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InitProblem {
    #[error("it is not a program")]
    NotAProgram,
    #[error("it is another program")]
    OtherProgram,
    #[error("it is assay-init of another release, which this daemon cannot talk to")]
    OtherRelease,
}

/// The first bytes of a program.
const ELF: &[u8] = b"\x7fELF";

/// Whether sandboxes of this daemon can work with an init, as far as its bytes tell.
///
/// # Errors
/// Why they cannot.
pub fn check_init(init: &[u8]) -> Result<(), InitProblem> {
    let has = |text: &str| init.windows(text.len()).any(|part| part == text.as_bytes());
    // every release of the init has its name in it
    match (init.starts_with(ELF), has(INIT_MARKER), has("assay-init")) {
        (false, ..) => Err(InitProblem::NotAProgram),
        (true, true, _) => Ok(()),
        (true, false, true) => Err(InitProblem::OtherRelease),
        (true, false, false) => Err(InitProblem::OtherProgram),
    }
}

/// The tag of the image `image_id` with this init added.
pub fn tag(image_id: &str, init: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(image_id.as_bytes());
    hash.update([0]);
    hash.update(init);
    format!("{REPOSITORY}:{}", &base16ct::lower::encode_string(&hash.finalize())[..TAG_DIGITS])
}

/// Finds or builds the image `image_id` with this init added. Returns the layered image's id.
///
/// # Errors
/// An Engine call failed.
pub async fn ensure(client: &Client, image_id: &str, init: &[u8]) -> Result<String, EngineError> {
    let tag = tag(image_id, init);
    match client.inspect_image(&tag).await {
        Ok(found) => return Ok(found.id),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    let options = BuildOptions {
        tag: tag.clone(),
        labels: BTreeMap::from([(BELOW_LABEL.to_owned(), image_id.to_owned())]),
        ..BuildOptions::default()
    };
    client.build_image(&options, context(image_id, init), &mut |_| {}).await?;
    Ok(client.inspect_image(&tag).await?.id)
}

fn context(image_id: &str, init: &[u8]) -> Bytes {
    let dockerfile = format!("FROM {image_id}\nCOPY init {INIT_PATH}\n");
    let mut tar = tar::Builder::new(Vec::new());
    // writing to memory cannot fail, and the names fit a tar header
    let _ = append(&mut tar, Path::new("Dockerfile"), dockerfile.as_bytes(), 0o644);
    let _ = append(&mut tar, Path::new("init"), init, 0o755);
    Bytes::from(tar.into_inner().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_known_by_its_name_and_its_version() {
        let of = |bytes: &[u8]| check_init(&[ELF, bytes].concat());
        assert!(INIT_MARKER.contains(&format!("version {})", wire::frame::VERSION)));
        assert_eq!(of(INIT_MARKER.as_bytes()), Ok(()));
        assert_eq!(of(b"assay-init (wire version 1)"), Err(InitProblem::OtherRelease));
        assert_eq!(of(b"/bin/ls"), Err(InitProblem::OtherProgram));
        assert_eq!(check_init(INIT_MARKER.as_bytes()), Err(InitProblem::NotAProgram));
    }
}
