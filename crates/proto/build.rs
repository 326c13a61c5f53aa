//! Compiles `proto/` with protox, so that no `protoc` is needed, and tells the codec what messages are made of.

use std::{collections::BTreeMap, env, error::Error, fmt::Write, fs, path::Path};

use tonic_prost_build::{Config, FileDescriptorSet};

/// `TYPE_MESSAGE`, `TYPE_STRING` and `TYPE_BYTES` of `FieldDescriptorProto.Type`.
const MESSAGE: i32 = 11;
const TEXTS: [i32; 2] = [9, 12];
/// `LABEL_REPEATED`.
const REPEATED: i32 = 3;

#[allow(clippy::disallowed_methods, reason = "a build script writes where cargo says")]
fn main() -> Result<(), Box<dyn Error>> {
    // Not `env!`: clones that share a build folder share this program as well, each with a folder of its own.
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = ["common", "query", "executor", "consensus", "cluster", "planning"];
    let files = files.map(|name| root.join(format!("polybolos/v1/{name}.proto")));
    let descriptors = protox::compile(files, [&root])?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("shapes.rs"), shapes(&descriptors)?)?;
    let mut config = Config::new();
    config.enable_type_names();
    let builder = tonic_prost_build::configure().bytes(".").codec_path("crate::BoundedCodec");
    builder.compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// The table of `src/bounded.rs`: of each message its name, its size in memory, and its fields that hold more than their
/// bytes.
fn shapes(descriptors: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    // The entries of a map are messages that Rust has no type for.
    let mut all = BTreeMap::new();
    for message in descriptors.file.iter().flat_map(|file| &file.message_type) {
        all.insert(message.name().to_owned(), (message, true));
        for entry in &message.nested_type {
            all.insert(format!("{}.{}", message.name(), entry.name()), (entry, false));
        }
    }
    let position = |type_name: &str| {
        let name = type_name.trim_start_matches(".polybolos.v1.");
        all.keys().position(|known| known == name).ok_or_else(|| format!("no message {name}"))
    };
    let mut table = String::from("&[\n");
    for (name, (message, is_type)) in &all {
        let bytes = match is_type {
            true => format!("::core::mem::size_of::<crate::v1::{name}>()"),
            false => "MAP_ENTRY_BYTES".to_owned(),
        };
        write!(table, "Shape {{ name: {name:?}, bytes: {bytes}, fields: &[")?;
        for field in &message.field {
            let kind = field.r#type.unwrap_or_default();
            if kind == MESSAGE {
                write!(table, "({}, Holds::Message({})), ", field.number(), position(field.type_name())?)?;
            } else if field.label == Some(REPEATED) && !TEXTS.contains(&kind) {
                write!(table, "({}, Holds::Numbers), ", field.number())?;
            }
        }
        table.push_str("] },\n");
    }
    table.push(']');
    Ok(table)
}
