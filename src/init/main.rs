//! `assay-init`, PID 1 of a sandbox. The implementation is the library [`init`].
fn main() -> ! {
    init::run()
}
