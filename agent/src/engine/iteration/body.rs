//! Bodies of requests, from the plan.

use std::sync::Arc;

use bytes::Bytes;
use groundswell_scenario::flow::Text;
use groundswell_scenario::http::{Body, Part, PartValue, StreamBody, StreamSource};
use http::HeaderValue;

use super::Iteration;
use super::request::BuildError;
use crate::transport::{Payload, Streamed};

/// A body with its media type, where it has one.
#[derive(Default)]
pub(super) struct Built {
    pub(super) payload: Payload,
    pub(super) media_type: Option<HeaderValue>,
}

impl Built {
    fn new(bytes: impl Into<Bytes>, media_type: &'static str) -> Self {
        Built { payload: Payload::Whole(bytes.into()), media_type: Some(HeaderValue::from_static(media_type)) }
    }
}

impl Iteration<'_> {
    pub(super) fn body(&self, body: Option<&Body>) -> Result<Built, BuildError> {
        Ok(match body {
            None => Built::default(),
            Some(Body::Text(text)) => Built::new(self.text(text)?, "text/plain; charset=utf-8"),
            Some(Body::Json(json)) => {
                let json = self.phase.context.templates.json_bytes(json, &self.user.variables)?;
                Built::new(json, "application/json")
            }
            Some(Body::Form(fields)) => Built::new(self.form(fields)?, "application/x-www-form-urlencoded"),
            Some(Body::Multipart(parts)) => self.multipart(parts)?,
            Some(Body::File(file)) => Built {
                payload: Payload::Whole(Bytes::from_owner(Arc::clone(&file.bytes))),
                media_type: Some(HeaderValue::from_str(&file.media_type)?),
            },
            Some(Body::Stream(stream)) => Built { payload: streamed(stream), media_type: None },
        })
    }

    fn form(&self, fields: &[(String, Text)]) -> Result<String, BuildError> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields {
            form.append_pair(name, &self.text(value)?);
        }
        Ok(form.finish())
    }

    /// RFC 7578. The bytes of files are shared, not copied.
    fn multipart(&self, parts: &[Part]) -> Result<Built, BuildError> {
        // So long and random that no file holds it.
        let boundary = uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple().to_string();
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut head = String::new();
        for part in parts {
            head.push_str(&format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"", quoted(&part.name)));
            match &part.value {
                PartValue::Text(text) => {
                    head.push_str("\r\n\r\n");
                    head.push_str(&self.text(text)?);
                }
                PartValue::File(file) => {
                    let filename = quoted(&file.filename);
                    head.push_str(&format!("; filename=\"{filename}\"\r\ncontent-type: {}\r\n\r\n", file.media_type));
                    pieces.push(Bytes::from(std::mem::take(&mut head)));
                    pieces.push(Bytes::from_owner(Arc::clone(&file.bytes)));
                }
            }
            head.push_str("\r\n");
        }
        head.push_str(&format!("--{boundary}--\r\n"));
        pieces.push(Bytes::from(head));
        let media_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"))?;
        Ok(Built { payload: Payload::Parts(pieces.into()), media_type: Some(media_type) })
    }
}

/// As browsers write a name within quotation marks (WHATWG HTML, multipart/form-data encoding).
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

fn streamed(stream: &StreamBody) -> Payload {
    Payload::Stream(Arc::new(match &stream.source {
        StreamSource::Zeros(length) => Streamed::zeros(*length, stream.chunk, stream.pause),
        StreamSource::File(bytes) => Streamed::of(Bytes::from_owner(Arc::clone(bytes)), stream.chunk, stream.pause),
    }))
}
