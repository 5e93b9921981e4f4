//! The `groundswell` binary; everything is in the library, so that tests can build it under their own roof.

fn main() -> std::process::ExitCode {
    groundswell::main()
}
