//! Compiles the `.proto` files with protox, so that no system `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=groundswell");
    let descriptors = protox::compile(["groundswell/v1/groundswell.proto"], ["."])?;
    tonic_prost_build::configure().bytes(".groundswell.v1.Delta.figures").compile_fds(descriptors)?;
    Ok(())
}
