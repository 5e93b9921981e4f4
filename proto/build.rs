//! Compiles the `.proto` files with protox, so that no system `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=groundswell");
    let descriptors = protox::compile(["groundswell/v1/groundswell.proto"], ["."])?;
    tonic_prost_build::configure()
        .bytes(".groundswell.v1.Delta.figures")
        // It has secrets in it; `lib.rs` says what of it may be shown.
        .skip_debug(["groundswell.v1.Arm"])
        .compile_fds(descriptors)?;
    Ok(())
}
