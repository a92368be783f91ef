//! The thin layer that brings the init into any image: one file, made through the Engine's builder, so that it works
//! the same on a remote engine.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::catalog::{append, hex};
use crate::policy::INIT_PATH;
use docker::{BuildOptions, Client, Error};

/// The repository of layered images.
pub const REPOSITORY: &str = "assay/sandbox";

/// Finds or makes the layered image of `image_id` with this init: its id.
///
/// # Errors
/// See [`Error`]; a build that fails is worth another try.
pub async fn ensure(client: &Client, image_id: &str, init: &[u8]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update(image_id.as_bytes());
    hash.update([0]);
    hash.update(init);
    let tag = format!("{REPOSITORY}:{}", &hex(&hash.finalize())[..16]);
    match client.inspect_image(&tag).await {
        Ok(found) => return Ok(found.id),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    let options = BuildOptions {
        tag: tag.clone(),
        labels: BTreeMap::from([("assay.image".to_owned(), image_id.to_owned())]),
        ..BuildOptions::default()
    };
    client.build_image(&options, context(image_id, init), &mut |_| {}).await?;
    Ok(client.inspect_image(&tag).await?.id)
}

fn context(image_id: &str, init: &[u8]) -> Bytes {
    let dockerfile = format!("FROM {image_id}\nCOPY init {INIT_PATH}\n");
    let mut tar = tar::Builder::new(Vec::new());
    // writing into memory cannot fail, and the names fit
    let _ = append(&mut tar, Path::new("Dockerfile"), dockerfile.as_bytes(), 0o644);
    let _ = append(&mut tar, Path::new("init"), init, 0o755);
    Bytes::from(tar.into_inner().unwrap_or_default())
}
