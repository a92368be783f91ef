//! The commit that a program is built from, for the build scripts of the crates with programs.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Sets the variables `ASSAY_VERSION`, which is the version and the commit as `--version` shows
/// them, and `ASSAY_COMMIT`. The variable `ASSAY_COMMIT` of the build overrides git; without both
/// the commit is empty.
pub fn set() {
    println!("cargo::rerun-if-env-changed=ASSAY_COMMIT");
    // a commit, a checkout, a pull
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--path-format=absolute", "--git-path", name])
            && std::path::Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let given = std::env::var("ASSAY_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"])).unwrap_or_default();
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let shown = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo::rustc-env=ASSAY_VERSION={shown}");
    println!("cargo::rustc-env=ASSAY_COMMIT={commit}");
}
