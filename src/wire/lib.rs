//! Frames between the daemon and the init: their values, their bytes, and how to split a byte
//! stream into them. No I/O, standard library only.
//!
//! ```text
//! bytes from a pipe --push--> stream::FrameReader --next--> body of one frame --decode--> value
//! value --encode--> [u32 length][u8 kind][payload] appended to a buffer --> a pipe
//! ```
pub mod codec;
pub mod frame;
mod prepare;
pub mod stream;
