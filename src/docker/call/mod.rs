//! The calls, a file per endpoint family.

pub(super) mod containers;
pub(super) mod images;
pub(super) mod system;
