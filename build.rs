//! Generates the Rust types of `proto/arqondb.proto`, and its descriptors for reflection, in pure
//! Rust: no protoc is needed.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto/arqondb.proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.open_file("arqondb.proto")?;

    // Reflection is served without the comments; as Rust documentation they are wanted.
    let served = compiler.include_source_info(false).encode_file_descriptor_set();
    std::fs::write(out.join("arqondb.fds"), served)?;
    let documented = compiler.include_source_info(true).file_descriptor_set();
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .codec_path("crate::rpc::codec::BoundedCodec")
        .emit_rerun_if_changed(false)
        .out_dir(&out)
        .compile_fds(documented)?;
    Ok(())
}
