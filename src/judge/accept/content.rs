//! Decodes the content and files of a submission: text, base64 or blobs, within the bound on all of
//! them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::{BlobLookup, bad};
use crate::rejected::Rejected;
use crate::work::WorkFile;
use config::bounds;
use protocol::submission::{Content, FileMode, FileSpec};

/// Decodes content and counts its bytes.
pub(super) struct ContentDecoder<'a> {
    blobs: BlobLookup<'a>,
    total_bytes: u64,
}

impl<'a> ContentDecoder<'a> {
    pub(super) fn new(blobs: BlobLookup<'a>) -> ContentDecoder<'a> {
        ContentDecoder { blobs, total_bytes: 0 }
    }

    fn count(&mut self, field: &str, data: Bytes) -> Result<Bytes, Rejected> {
        self.count_copy(field, data.len() as u64)?;
        Ok(data)
    }

    /// Counts what is made of the submission besides its content: the arguments and the environment
    /// of each test that has some of its own.
    pub(super) fn count_copy(&mut self, field: &str, bytes: u64) -> Result<(), Rejected> {
        self.total_bytes += bytes;
        if self.total_bytes > bounds::MAX_SUBMISSION_BYTES {
            let message = format!("the submission exceeds {} bytes in all", bounds::MAX_SUBMISSION_BYTES);
            return Err(Rejected::TooLarge { field: field.to_owned(), message });
        }
        Ok(())
    }

    /// The bytes of `field` or of `field_b64`; `None` if both are absent.
    pub(super) fn content(
        &mut self,
        field: &str,
        content: Option<&Content>,
        b64: Option<&str>,
    ) -> Result<Option<Bytes>, Rejected> {
        let data = match (content, b64) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(bad(field, format!("give {field} or {field}_b64, not both"))),
            (Some(Content::Text(text)), None) => Bytes::copy_from_slice(text.as_bytes()),
            (Some(Content::Blob(reference)), None) => (self.blobs)(&reference.blob)
                .ok_or_else(|| Rejected::NoBlob { field: field.to_owned(), blob: reference.blob.clone() })?,
            (None, Some(b64)) => BASE64
                .decode(b64)
                .map(Bytes::from)
                .map_err(|error| bad(format!("{field}_b64"), format!("is not valid base64: {error}")))?,
        };
        self.count(field, data).map(Some)
    }

    /// The files of a list, with paths that differ and do not contain each other.
    pub(super) fn files(&mut self, field: &str, specs: &[FileSpec]) -> Result<Vec<WorkFile>, Rejected> {
        if specs.len() > bounds::MAX_FILES {
            let message = format!("at most {} files", bounds::MAX_FILES);
            return Err(Rejected::TooLarge { field: field.to_owned(), message });
        }
        let mut paths = BTreeSet::new();
        let mut files = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let entry = format!("{field}[{index}]");
            check_path(&format!("{entry}.path"), &spec.path)?;
            if !paths.insert(spec.path.clone()) {
                return Err(bad(format!("{entry}.path"), format!("{:?} is given twice", spec.path)));
            }
            let data = self
                .content(&format!("{entry}.content"), spec.content.as_ref(), spec.content_b64.as_deref())?
                .ok_or_else(|| {
                bad(format!("{entry}.content"), "is missing; give content, content_b64 or a blob")
            })?;
            let mode = mode(&format!("{entry}.mode"), spec.mode.as_ref())?;
            files.push(WorkFile { path: spec.path.clone(), mode, data });
        }
        for file in &files {
            let below = format!("{}/", file.path);
            if let Some(other) = files.iter().find(|other| other.path.starts_with(&below)) {
                return Err(bad(field, format!("{:?} is both a file and the folder of {:?}", file.path, other.path)));
            }
        }
        Ok(files)
    }
}

/// Checks that a path stays below the submission's folder and is not written in two ways.
fn check_path(field: &str, path: &str) -> Result<(), Rejected> {
    if path.is_empty() {
        return Err(bad(field, "is empty"));
    }
    if path.len() > bounds::MAX_PATH_BYTES {
        return Err(bad(field, format!("is longer than {} bytes", bounds::MAX_PATH_BYTES)));
    }
    if path.starts_with('/') {
        return Err(bad(field, format!("{path:?} is absolute; use a path relative to the submission")));
    }
    if path.chars().any(char::is_control) {
        return Err(bad(field, "contains a control character"));
    }
    if path.split('/').count() > bounds::MAX_PATH_DEPTH {
        return Err(bad(field, format!("is more than {} folders deep", bounds::MAX_PATH_DEPTH)));
    }
    for component in path.split('/') {
        match component {
            ".." => return Err(bad(field, format!("{path:?} leaves the submission's folder"))),
            "" | "." => return Err(bad(field, format!("{path:?} has an empty component or a single dot"))),
            name if name.len() > bounds::MAX_NAME_BYTES => {
                return Err(bad(field, format!("a name is longer than {} bytes", bounds::MAX_NAME_BYTES)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Permission bits from a mode; 0644 if it is absent.
fn mode(field: &str, mode: Option<&FileMode>) -> Result<u32, Rejected> {
    let number = match mode {
        None => return Ok(0o644),
        Some(FileMode::Number(number)) => *number,
        Some(FileMode::Octal(text)) => u32::from_str_radix(text, 8)
            .map_err(|_| bad(field, format!("{text:?} is not an octal number; use something like \"0755\"")))?,
    };
    const TYPE_BITS: u32 = 0o170_000;
    if number & TYPE_BITS != 0 && number & TYPE_BITS != 0o100_000 {
        return Err(bad(field, "is not the mode of a regular file; only regular files can be submitted"));
    }
    if number & !(TYPE_BITS | 0o777) != 0 {
        return Err(bad(field, "only the nine permission bits can be set"));
    }
    Ok(number & 0o777)
}
