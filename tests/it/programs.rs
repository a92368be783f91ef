//! Where the workspace's programs are: built before the first use, so that a test never runs an old
//! one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Says that the programs are built already: set by the scripts that build everything first.
const BUILT: &str = "ASSAY_PROGRAMS_BUILT";

/// The folder with `assayd`, `assay`, `assay-init` and `assay-egress` of this build.
pub fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if std::env::var_os(BUILT).is_none() {
            build();
        }
        // this program is in deps/ of that folder
        let this = std::env::current_exe().unwrap();
        this.parent().unwrap().parent().unwrap().to_owned()
    })
}

/// The path of one program.
pub fn program(name: &str) -> &'static str {
    let path = Box::leak(programs().join(name).into_boxed_path());
    path.to_str().unwrap()
}

/// Builds with the same selection of packages as `cargo test --test it`, so that nothing is
/// compiled twice.
fn build() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet"]);
    match cfg!(debug_assertions) {
        true => command.args(["--bins", "--test", "it"]),
        false => command.arg("--release"),
    };
    assert!(command.status().unwrap().success(), "failed to build the programs");
}
