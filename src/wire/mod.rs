//! Host <-> init frames. Sans-IO and std only: it is the one thing that both sides share.
//!
//! [`frame`] is the vocabulary, [`codec`] turns frames into bytes and back, [`stream`] cuts a byte stream into frames.
//! The decoders are strict: what they do not understand to the last byte is an error, and the session is over.

pub mod codec;
pub mod frame;
pub mod stream;
