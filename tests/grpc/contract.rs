//! The contract with clients that were generated long ago: no line of it may go or change.

use arqondb::rpc::pb;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use std::collections::BTreeSet;
use std::path::Path;

/// One line for each thing that a client's code or bytes depend on, each readable by itself.
fn lines(file: &FileDescriptorProto) -> Vec<String> {
    let mut out = vec![format!("package {}", file.package())];
    let options = file.options.clone().unwrap_or_default();
    out.push(format!("java_package {}", options.java_package()));
    out.push(format!("java_outer_classname {}", options.java_outer_classname()));
    out.push(format!("java_multiple_files {}", options.java_multiple_files()));
    for service in &file.service {
        for rpc in &service.method {
            out.push(format!(
                "rpc {}.{}({}{}) returns ({}{})",
                service.name(),
                rpc.name(),
                if rpc.client_streaming() { "stream " } else { "" },
                rpc.input_type().trim_start_matches('.'),
                if rpc.server_streaming() { "stream " } else { "" },
                rpc.output_type().trim_start_matches('.'),
            ));
        }
    }
    for item in &file.enum_type {
        for value in &item.value {
            out.push(format!("enum {}: {} = {}", item.name(), value.name(), value.number()));
        }
    }
    for message in &file.message_type {
        out.push(format!("message {}", message.name()));
        out.extend(message.field.iter().map(|field| field_line(message, field)));
        assert!(message.nested_type.is_empty() && message.enum_type.is_empty(), "list them too");
    }
    out
}

fn field_line(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_string(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
    let group = match field.oneof_index {
        Some(i) => format!(" in oneof {}", message.oneof_decl[i as usize].name()),
        None => String::new(),
    };
    let (number, name) = (field.number(), field.name());
    format!("field {}: {repeated}{kind} {name} = {number}{group}", message.name())
}

fn file() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
    assert_eq!(set.file.len(), 1, "the file stands alone");
    set.file.into_iter().next().unwrap()
}

#[test]
fn nothing_of_the_contract_has_gone_or_changed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/proto_contract.txt");
    let now = lines(&file());
    let kept = std::fs::read_to_string(&golden).unwrap_or_default();
    let present: BTreeSet<&str> = now.iter().map(String::as_str).collect();
    let broken: Vec<&str> = kept.lines().filter(|line| !present.contains(line)).collect();
    assert!(
        broken.is_empty(),
        "clients depend on what proto/arqondb.proto no longer has; put it back:\n{}",
        broken.join("\n")
    );
    let text = now.join("\n") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, text).unwrap();
    } else {
        assert_eq!(
            kept, text,
            "new in the contract: if it is meant, run UPDATE_GOLDEN=1 cargo test --test grpc"
        );
    }
}

#[test]
fn the_conventions_of_the_contract_are_kept() {
    for message in &file().message_type {
        let name = message.name();
        for field in &message.field {
            let whole = format!("{name}.{}", field.name());
            assert_eq!(
                field.name() == "cf",
                field.number() == 1 && field.name() == "cf",
                "{whole}"
            );
            assert_eq!(field.name() == "request_id", field.number() == 15, "{whole}");
            assert_eq!(field.name() == "read_options", field.number() == 14, "{whole}");
        }
    }
    for item in &file().enum_type {
        assert_eq!(item.value[0].number(), 0, "{}", item.name());
        assert!(item.value[0].name().ends_with("_UNSPECIFIED"), "{}", item.name());
    }
    for service in &file().service {
        for rpc in &service.method {
            let own = |kind: &str| format!(".arqondb.v1.{}{kind}", rpc.name());
            assert_eq!(rpc.input_type(), own("Request"));
            assert_eq!(rpc.output_type(), own("Response"));
        }
    }
}
