//! PID 1 of a sandbox. Everything is in [`assay::init`].
fn main() -> ! {
    assay::init::run()
}
