//! Adds the init to an image as one layer with one file. Built through the Engine API, so that it
//! also works on a remote engine.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use docker::{BuildOptions, Client, Error as EngineError};
use sha2::{Digest, Sha256};

use super::catalog::append;
use crate::policy::INIT_PATH;

/// The label of a layer: the id of the image below.
pub const BELOW_LABEL: &str = "assay.image";

/// The repository of layered images.
pub const REPOSITORY: &str = "assay/sandbox";

/// Hexadecimal digits of a layered image's tag.
const TAG_DIGITS: usize = 16;

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
