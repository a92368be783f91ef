//! The `blob.*` methods.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::Value;

use super::blob_store::BlobError;
use super::context::{CallContext, CallReply, CallResult, ResultText};
use super::error::CallError;
use super::params::params;
use super::socket_bytes::{ByteAccount, HeldBytes};
use super::{decode, history};
use config::bounds;
use protocol::code::Code;
use protocol::params::{BlobGetParams, BlobPutParams};
use protocol::results::{BlobPiece, BlobPut};

impl From<BlobError> for CallError {
    fn from(error: BlobError) -> CallError {
        let (code, field) = match &error {
            BlobError::Unknown(_) => (Code::NotFound, "blob"),
            BlobError::Complete(_) => (Code::BadRequest, "blob"),
            BlobError::Offset { .. } => (Code::BadRequest, "offset"),
            BlobError::Full(_) => (Code::TooLarge, "data_b64"),
        };
        CallError::new(code, error.to_string()).at_field(field)
    }
}

pub(crate) fn put(context: &CallContext, given: Value) -> CallResult {
    let BlobPutParams { data_b64, offset, eof, blob } = params(given)?;
    let data = decode("data_b64", &data_b64)?;
    let id = context.daemon.blobs.put(&context.peer.principal, blob.as_deref(), offset, &data, eof)?;
    Ok(ResultText::of(&BlobPut { blob: id }))
}

/// The bytes of a blob.
#[derive(Debug)]
pub(crate) struct FoundBlob {
    pub(crate) bytes: Bytes,
    /// Counts bytes that the blobs in memory do not count.
    _held: Option<HeldBytes>,
}

/// A complete blob, or one of a report that only the store still has. Such a one is read once for
/// all who ask, and kept as one of its owner's.
pub(crate) async fn find(context: &CallContext, blob: &str) -> Result<FoundBlob, CallError> {
    let unknown = || BlobError::Unknown(blob.chars().take(64).collect());
    let (blobs, owner) = (&context.daemon.blobs, &context.peer.principal);
    let in_memory = |bytes| FoundBlob { bytes, _held: None };
    if let Some(bytes) = blobs.get(owner, blob) {
        return Ok(in_memory(bytes));
    }
    let _turn = blobs.restoring().await;
    if let Some(bytes) = blobs.get(owner, blob) {
        return Ok(in_memory(bytes));
    }
    if let Some(bytes) = history::output(context, blob, Some(owner)).await? {
        return match blobs.restore(owner, blob, bytes.clone()) {
            true => Ok(in_memory(bytes)),
            false => Err(CallError::new(Code::QuotaExceeded, "your blobs take all the room there is; try again later")
                .retry_after(bounds::BLOB_TTL)),
        };
    }
    // an admin reads another's: it stays its owner's
    let other = if context.peer.is_admin { history::output(context, blob, None).await? } else { None };
    let bytes = other.ok_or_else(unknown)?;
    let held = context.account.hold(bytes.len()).ok_or_else(ByteAccount::refusal)?;
    Ok(FoundBlob { bytes, _held: Some(held) })
}

/// A piece of a blob, which counts for the uid before it is made. A blob of a report that memory no
/// longer has is read from the store.
pub(crate) async fn get(context: &CallContext, given: Value) -> Result<CallReply, CallError> {
    let BlobGetParams { blob, offset, max } = params(given)?;
    let found = find(context, &blob).await?;
    context.account.work(0, || piece(context, &found.bytes, offset, max)).await
}

fn piece(context: &CallContext, bytes: &[u8], offset: u64, max: Option<u64>) -> Result<CallReply, CallError> {
    // base64 makes four bytes of three, and the line has a bound
    let most = (bounds::MAX_LINE_BYTES / 2) as u64;
    let start = offset.min(bytes.len() as u64);
    let end = start.saturating_add(max.unwrap_or(most).min(most)).min(bytes.len() as u64);
    let piece = &bytes[start as usize..end as usize];
    let held = context.account.hold(piece.len().div_ceil(3) * 4).ok_or_else(ByteAccount::refusal)?;
    let result = ResultText::of(&BlobPiece { data_b64: BASE64.encode(piece), eof: end == bytes.len() as u64 });
    Ok(CallReply { held: Some(held), ..CallReply::from(result) })
}
