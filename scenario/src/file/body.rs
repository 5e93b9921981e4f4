//! Bodies of requests.

use std::path::Path;
use std::time::Duration;

use super::flow::pairs;
use super::node::{Node, Value};
use super::reader::{Object, Reader};
use super::shape::{PART, STREAM};
use super::template::Names;
use super::value;
use crate::PlanSource;
use crate::http::{Body, FileBody, Part, PartValue, StreamBody, StreamSource};

/// Keys of a step that give it a body.
pub(super) const BODIES: [&str; 6] = ["text", "json", "form", "multipart", "file", "stream"];
const DEFAULT_CHUNK: usize = 64 << 10;
/// One piece is in memory for each request in flight.
const MOST_CHUNK: u64 = 16 << 20;

pub(super) fn body(reader: &mut Reader, object: &Object<'_>, names: &Names, source: &PlanSource) -> Option<Body> {
    let bodies: Vec<&str> = BODIES.into_iter().filter(|key| object.get(key).is_some()).collect();
    if let [first, second, ..] = bodies.as_slice() {
        let message = format!("a request has one body: `{first}` or `{second}`");
        reader.problem(object.place_of(second), message);
    }
    let body = *bodies.first()?;
    let node = object.get(body)?;
    match body {
        "text" => names.text(reader, node).map(Body::Text),
        "json" => names.json(reader, node).map(Body::Json),
        "form" => Some(Body::Form(pairs(reader, Some(node), names))),
        "multipart" => Some(Body::Multipart(parts(reader, node, names, source))),
        "file" => file(reader, node, source).map(Body::File),
        _ => stream(reader, node, source).map(Body::Stream),
    }
}

fn parts(reader: &mut Reader, node: &Node, names: &Names, source: &PlanSource) -> Vec<Part> {
    let mut parts = Vec::new();
    for (name, node) in reader.named(Some(node), "names with texts or files") {
        let value = match &node.value {
            Value::Map(_) => part_file(reader, node, source).map(PartValue::File),
            _ => names.text(reader, node).map(PartValue::Text),
        };
        parts.extend(value.map(|value| Part { name: name.text.clone(), value }));
    }
    parts
}

fn part_file(reader: &mut Reader, node: &Node, source: &PlanSource) -> Option<FileBody> {
    let object = reader.object(node, &PART)?;
    let mut body = file(reader, object.get("file")?, source)?;
    if let Some(filename) = object.get("filename").and_then(|node| reader.text(node)) {
        body.filename = filename;
    }
    if let Some(media_type) = object.get("type").and_then(|node| reader.text(node)) {
        body.media_type = media_type;
    }
    Some(body)
}

/// A file under its own name, with the media type that its ending says.
fn file(reader: &mut Reader, node: &Node, source: &PlanSource) -> Option<FileBody> {
    let path = reader.text(node)?;
    let bytes = reader.file(node, source)?;
    let filename = Path::new(&path).file_name().map_or_else(|| path.clone(), |name| name.to_string_lossy().into());
    let media_type = mime_guess::from_path(&path).first_or_octet_stream().to_string();
    Some(FileBody { bytes, filename, media_type })
}

fn stream(reader: &mut Reader, node: &Node, source: &PlanSource) -> Option<StreamBody> {
    let object = reader.object(node, &STREAM)?;
    let stream_source = match (object.get("file"), object.get("size")) {
        (Some(node), None) => StreamSource::File(reader.file(node, source)?),
        (None, Some(node)) => StreamSource::Zeros(reader.parsed(node, "a size", value::size)?),
        _ => {
            reader.problem(node.place, "a stream is a `file`, or so many zeros of a `size`");
            return None;
        }
    };
    let chunk = match object.get("chunk") {
        None => DEFAULT_CHUNK,
        Some(node) => {
            let bytes = reader.parsed(node, "a size", value::size)?;
            if !(1..=MOST_CHUNK).contains(&bytes) {
                reader.problem(node.place, format!("a piece has 1 to {MOST_CHUNK} bytes"));
                return None;
            }
            usize::try_from(bytes).unwrap_or(DEFAULT_CHUNK)
        }
    };
    let pause = object.get("pause").and_then(|node| reader.duration_or_zero(node)).unwrap_or(Duration::ZERO);
    Some(StreamBody { source: stream_source, chunk, pause })
}
