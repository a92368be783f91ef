//! PID 1 of a sandbox. Everything is in [`init`].
fn main() -> ! {
    init::run()
}
