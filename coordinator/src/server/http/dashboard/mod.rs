//! The dashboard: one page and the modules that it loads, which ask the API and draw what they hear.
//!
//! Everything is in the binary, nothing is generated, and the page loads nothing from anywhere else: its policy would
//! not let it. `docs/decisions/0017-charts-of-our-own.md` says why the charts are drawn by code of ours.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem::Problem;

/// What the page may do: run and load what this server has, and nothing that stands in its HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the dashboard.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! assets {
    ($($name:literal: $content_type:ident),+ $(,)?) => {
        &[$(Asset { name: $name, content_type: $content_type, content: include_str!(concat!("assets/", $name)) }),+]
    };
}

/// The page first.
const ASSETS: &[Asset] = assets![
    "index.html": HTML,
    "app.css": CSS,
    "icon.svg": SVG,
    "agents.js": SCRIPT,
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "chart.js": SCRIPT,
    "compare.js": SCRIPT,
    "curves.js": SCRIPT,
    "dom.js": SCRIPT,
    "format.js": SCRIPT,
    "heat.js": SCRIPT,
    "lines.js": SCRIPT,
    "list.js": SCRIPT,
    "login.js": SCRIPT,
    "model.js": SCRIPT,
    "run.js": SCRIPT,
    "scales.js": SCRIPT,
    "start.js": SCRIPT,
    "table.js": SCRIPT,
    "tables.js": SCRIPT,
    "theme.js": SCRIPT,
];

/// The page and its files.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(page)).route("/assets/{name}", get(asset))
}

async fn page(headers: HeaderMap) -> Response {
    answer(&ASSETS[0], &headers)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS[1..].iter().find(|asset| asset.name == name) {
        Some(asset) => answer(asset, &headers),
        None => Problem::not_found("the dashboard has no such file; it begins at /").into_response(),
    }
}

/// A browser keeps every file and asks whether it is still the same, so that a newer release shows at once.
fn answer(asset: &Asset, request: &HeaderMap) -> Response {
    let etag = format!("\"{}\"", &blake3::hash(asset.content.as_bytes()).to_hex()[..32]);
    let has_it = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == etag);
    let headers: [(HeaderName, HeaderValue); 6] = [
        // Sixteen bytes of a hash in hexadecimal are always a header's value.
        (header::ETAG, HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"\""))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
    ];
    if has_it {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.content).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn whoever_has_a_file_is_told_so() {
        let first = answer(&ASSETS[1], &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"older\""));
        assert_eq!(answer(&ASSETS[1], &request).status(), StatusCode::OK);
        request.append(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(answer(&ASSETS[1], &request).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer(&ASSETS[2], &request).status(), StatusCode::OK, "that was another file");
    }

    /// A file that is not listed would be missing only where it is imported.
    #[test]
    fn whatever_is_named_is_there() {
        let names: Vec<&str> = ASSETS.iter().map(|asset| asset.name).collect();
        for asset in ASSETS {
            let named = asset.content.split(['"', '\'', '`']).filter_map(|word| {
                word.strip_prefix("/assets/").or_else(|| word.strip_prefix("./")).filter(|name| name.contains('.'))
            });
            for name in named {
                assert!(names.contains(&name), "{} wants {name}", asset.name);
            }
        }
    }
}
