//! The calls, one file for each family of endpoints.

pub(super) mod archive;
pub(super) mod containers;
pub(super) mod images;
pub(super) mod lifecycle;
pub(super) mod networks;
pub(super) mod system;
pub(super) mod transfer;
