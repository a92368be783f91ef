//! Host <-> init frames: vocabulary, bytes, stream. Sans-IO and std only.
pub mod frame;
