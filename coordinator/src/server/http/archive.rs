//! A run as one file, out of this coordinator's store and into it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::Services;
use super::problem::{Path, Problem};
use super::who::Who;
use crate::api::Accepted;
use crate::archive::{self, Archive, ArchiveError, Imported};

pub(super) async fn export(State(services): State<Services>, Path(id): Path<String>) -> Result<Response, Problem> {
    let archive = archive::export(&services.store, &id).await?;
    let packed = tokio::task::spawn_blocking(move || {
        let mut file = Vec::new();
        archive.write(&mut file).map(|()| file)
    });
    let file = packed.await.map_err(|error| Problem::internal(error.to_string()))??;
    let name = format!("attachment; filename=\"groundswell-{id}.json.gz\"");
    Ok(([(header::CONTENT_TYPE, "application/gzip".to_owned()), (header::CONTENT_DISPOSITION, name)], file)
        .into_response())
}

pub(super) async fn import(State(services): State<Services>, who: Who, file: Bytes) -> Result<Response, Problem> {
    let read = tokio::task::spawn_blocking(move || Archive::read(file.as_ref()));
    let archive = read.await.map_err(|error| Problem::internal(error.to_string()))??;
    let new = archive::import(&services.store, &archive).await? == Imported::New;
    who.did(&services, "imported", &json!({ "run": archive.id }));
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Accepted { id: archive.id, new })).into_response())
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => error.into(),
            ArchiveError::Unfinished(_) | ArchiveError::Different(_) | ArchiveError::Taken { .. } => {
                Problem::new(StatusCode::CONFLICT, error.to_string())
            }
            ArchiveError::Invalid(_) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            ArchiveError::Write(_) => Problem::internal(error.to_string()),
        }
    }
}
