//! PID 1 of a sandbox. See `assay::init`.

fn main() -> std::process::ExitCode {
    assay::init::run()
}
