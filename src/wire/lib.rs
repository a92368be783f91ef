//! Host <-> init frames: vocabulary, bytes, stream. Sans-IO and std only.
//!
//! ```text
//! bytes from a pipe --push--> stream::FrameReader --next--> one frame's body --decode--> a value of frame
//! a value of frame --encode--> [u32 length][u8 kind][payload] appended to a buffer --> a pipe
//! ```
pub mod codec;
pub mod frame;
pub mod stream;
