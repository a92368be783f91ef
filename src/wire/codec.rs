//! Frames as bytes, and back.
//!
//! What `encode_*` writes, `decode_*` reads to the same value. A body that is not exactly one frame
//! is an error, never a panic or a guess. Decoding takes no more memory than a small multiple of
//! the body. Splitting a stream into frames is the task of [`super::stream`].
//!
//! ```text
//! frame   := u32 length of (kind + payload) | u8 kind | payload     all integers little-endian
//! string  := u32 length | bytes, UTF-8          bytes := u32 length | bytes
//! list    := u32 count (at most MAX_ITEMS) | items
//! option  := bool | value if true               bool := u8, 0 or 1
//! enum    := u8 tag | fields
//! ```
//!
//! Kinds to the init are below 0x80, kinds from it above, so a stream connected the wrong way round
//! fails at its first frame. The fields of each frame are listed in `layout`.

mod error;
mod field;
mod layout;

pub use self::error::DecodeError;
pub use self::field::{MAX_ITEMS, MAX_PATH_BYTES};

use self::field::{Field, PayloadReader, U8, U32, WireRecord, write_bytes};
use super::frame::{FromInit, MAX_FRAME_BYTES, OutputStream, Run, ToInit};

/// Appends `frame` to `out`.
///
/// The caller keeps the bounds (`MAX_CHUNK_BYTES` of data, [`MAX_ITEMS`], `MAX_FRAME_BYTES` in
/// all): the receiver ends the session over a frame beyond them. [`to_init_fits`] checks in
/// advance.
pub fn encode_to_init(frame: &ToInit, out: &mut Vec<u8>) {
    append(out, |out| frame.write(out));
}

/// Appends a [`ToInit::Run`] without taking ownership of the run.
pub fn encode_run(run: &Run, out: &mut Vec<u8>) {
    append(out, |out| {
        U8.write(&layout::RUN, out);
        run.write(out);
    });
}

/// Whether the init will accept `frame`: every bound that [`decode_to_init`] and the stream reader
/// check.
#[must_use]
pub fn to_init_fits(frame: &ToInit) -> bool {
    let mut bytes = Vec::new();
    encode_to_init(frame, &mut bytes);
    let body = bytes.get(4..).unwrap_or_default();
    body.len() <= MAX_FRAME_BYTES && decode_to_init(body).is_ok()
}

/// Appends `frame` to `out`. Bounds as in [`encode_to_init`].
pub fn encode_from_init(frame: &FromInit, out: &mut Vec<u8>) {
    append(out, |out| frame.write(out));
}

/// Appends a [`FromInit::Output`] without copying the data first: the init's hot path.
pub fn encode_output(run: u32, stream: OutputStream, data: &[u8], out: &mut Vec<u8>) {
    append(out, |out| {
        U8.write(&layout::OUTPUT, out);
        U32.write(&run, out);
        stream.write(out);
        write_bytes(data, out);
    });
}

/// Decodes the body of a frame (kind and payload, without the length) from the daemon.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_to_init(body: &[u8]) -> Result<ToInit, DecodeError> {
    decode(body)
}

/// Decodes the body of a frame from an init. The init is ours, but its bytes crossed a sandbox, so
/// decoding is equally strict.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_from_init(body: &[u8]) -> Result<FromInit, DecodeError> {
    decode(body)
}

fn decode<T: WireRecord>(body: &[u8]) -> Result<T, DecodeError> {
    let mut reader = PayloadReader(body);
    let frame = T::read(&mut reader)?;
    reader.end(frame)
}

/// Appends a length and the body that `write` appends.
fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    // A frame beyond u32 cannot be built within the bounds; saturating makes the reader refuse it.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
