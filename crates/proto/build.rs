//! Compiles `proto/` with protox, so that no `protoc` is needed.

use std::{env, error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    // Not `env!`: clones that share a build folder share this program as well, each with a folder of its own.
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = ["common", "query", "executor", "consensus", "cluster"];
    let files = files.map(|name| root.join(format!("polybolos/v1/{name}.proto")));
    let descriptors = protox::compile(files, [&root])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
