//! placeholder
use std::path::Path;
/// args
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {}
/// doctor
pub async fn doctor(_socket: &Path, _json: bool, _args: DoctorArgs) -> u8 {
    0
}
