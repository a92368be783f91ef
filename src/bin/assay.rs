//! `assay`: see [`assay::cli`].

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(assay::cli::start())
}
