//! The binary that the tests start: the same code as `groundswell`, built with this package so that it is never stale.

fn main() -> std::process::ExitCode {
    groundswell::main()
}
