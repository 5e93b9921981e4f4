//! The HTTP endpoints.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, COOKIE, HeaderMap, RETRY_AFTER, SET_COOKIE};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get, post};
use futures_util::stream;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::connection::Reset;
use crate::fault::{Fault, wish};
use crate::profile::{Route, service_time};
use crate::{Target, websocket};

/// Requests that may wait for the pool; further ones are refused with 503.
const QUEUE: usize = 1_024;
/// Nodes of the graph.
const NODES: u64 = 1_000;
/// Largest body of `/api/echo`.
const MOST_BODY: usize = 1 << 20;
/// How long `hang` hangs: a client has given up by then.
const HANG: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct App {
    target: Arc<Target>,
    worked_on: Arc<HashMap<u64, AtomicU64>>,
    /// Of requests that are worked on or wait.
    places: Arc<Semaphore>,
    sessions: Arc<AtomicU64>,
}

pub(crate) fn router(target: Arc<Target>) -> Router {
    let app = App::new(Arc::clone(&target));
    Router::new()
        .route("/health", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/api/graph/stats", get(graph_stats))
        .route("/api/graph/nodes", get(graph_nodes))
        .route("/api/graph/traverse/{id}", get(graph_traverse))
        .route("/api/graph/categories/{name}", get(graph_categories))
        .route("/api/echo", post(echo).layer(DefaultBodyLimit::max(MOST_BODY)))
        .route("/api/session", get(session))
        .with_state(app.clone())
        .route("/ws", any(websocket::upgrade).with_state(target))
        .layer(middleware::from_fn_with_state(app.clone(), faults))
        .route("/stats", get(stats).with_state(app))
}

async fn stats(State(app): State<App>) -> impl IntoResponse {
    let counts = &app.target.counts;
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Json(json!({
        "requests": read(&counts.requests),
        "ws_connections": read(&counts.ws_connections),
        "ws_messages_in": read(&counts.ws_messages_in),
        "ws_messages_out": read(&counts.ws_messages_out),
    }))
}

impl App {
    fn new(target: Arc<Target>) -> App {
        let routes = [Route::Stats, Route::Nodes, Route::Traverse, Route::Categories];
        App {
            worked_on: Arc::new(routes.into_iter().map(|route| (route as u64, AtomicU64::new(0))).collect()),
            places: Arc::new(Semaphore::new(QUEUE.saturating_add(target.options.workers).min(Semaphore::MAX_PERMITS))),
            sessions: Arc::default(),
            target,
        }
    }

    /// Works on a request: waits for a free worker, then takes the time of the route.
    async fn work(&self, route: Route) -> Result<(), Response> {
        // A permit, so that a client who leaves gives its place back.
        let Ok(_place) = self.places.try_acquire() else { return Err(busy()) };
        let Ok(_worker) = self.target.pool.acquire().await else { return Err(busy()) };
        let n = self.worked_on.get(&(route as u64)).map_or(0, |count| count.fetch_add(1, Ordering::Relaxed));
        let options = &self.target.options;
        let time = service_time(options.seed, route, n, options.latency_scale);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        Ok(())
    }
}

fn busy() -> Response {
    let error = Json(json!({ "error": "all workers are busy and the queue is full" }));
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], error).into_response()
}

async fn graph_stats(State(app): State<App>) -> Result<impl IntoResponse, Response> {
    app.work(Route::Stats).await?;
    Ok(Json(json!({ "nodes": NODES, "edges": NODES * 4 })))
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
    limit: Option<u64>,
}

/// The part of the graph that a word finds: the same for the same word.
async fn graph_nodes(State(app): State<App>, Query(search): Query<Search>) -> Result<impl IntoResponse, Response> {
    app.work(Route::Nodes).await?;
    let start = search.q.bytes().fold(17_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let limit = search.limit.unwrap_or(10).min(100);
    let items: Vec<_> = (0..limit)
        .map(|index| {
            let node = (start % NODES + index * 7) % NODES;
            json!({ "id": format!("n{node}"), "name": format!("{} {node}", search.q).trim() })
        })
        .collect();
    Ok(Json(json!({ "items": items, "total": NODES })))
}

async fn graph_traverse(State(app): State<App>, Path(id): Path<String>) -> Result<impl IntoResponse, Response> {
    app.work(Route::Traverse).await?;
    let node: Option<u64> = id.strip_prefix('n').and_then(|number| number.parse().ok()).filter(|node| *node < NODES);
    let Some(node) = node else {
        return Err((StatusCode::NOT_FOUND, Json(json!({ "error": format!("there is no node {id}") }))).into_response());
    };
    let neighbours: Vec<String> = (1..=4).map(|step| format!("n{}", (node + step * step) % NODES)).collect();
    Ok(Json(json!({ "id": id, "neighbours": neighbours })))
}

async fn graph_categories(State(app): State<App>, Path(name): Path<String>) -> Result<impl IntoResponse, Response> {
    app.work(Route::Categories).await?;
    let members: Vec<String> = (0..20).map(|index| format!("n{}", index * 13 % NODES)).collect();
    Ok(Json(json!({ "category": name, "members": members })))
}

async fn echo(headers: HeaderMap, body: Bytes) -> Response {
    let content_type = headers.get(CONTENT_TYPE).cloned();
    let mut response = Response::new(Body::from(body));
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

/// Gives a session once and counts the visits in the cookie itself, so that nothing has to be remembered here.
async fn session(State(app): State<App>, headers: HeaderMap) -> impl IntoResponse {
    let cookies = headers.get(COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session=")?.split_once('-'));
    let (id, visits) = match known.and_then(|(id, visits)| Some((id.to_owned(), visits.parse::<u64>().ok()?))) {
        Some((id, visits)) => (id, visits.saturating_add(1)),
        None => (format!("s{}", app.sessions.fetch_add(1, Ordering::Relaxed)), 1),
    };
    let cookie = format!("session={id}-{visits}; Path=/; HttpOnly");
    ([(SET_COOKIE, cookie)], Json(json!({ "session": id, "visits": visits })))
}

/// Counts every request, then does what its query asks to go wrong.
async fn faults(State(app): State<App>, uri: Uri, mut request: Request, next: Next) -> Response {
    let n = app.target.counts.requests.fetch_add(1, Ordering::Relaxed);
    let wish = match wish(uri.query().unwrap_or_default()) {
        Ok(wish) => wish,
        Err(help) => return (StatusCode::BAD_REQUEST, Json(json!({ "error": help }))).into_response(),
    };
    let chosen = wish.filter(|wish| ChaCha8Rng::seed_from_u64(app.target.options.seed ^ n).random_bool(wish.rate));
    match chosen.map(|wish| wish.fault) {
        None => next.run(request).await,
        Some(fault @ (Fault::Upgrade(_) | Fault::Close(_))) => {
            request.extensions_mut().insert(fault);
            next.run(request).await
        }
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, Json(json!({ "error": "as asked for" }))).into_response()
        }
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            next.run(request).await
        }
        Some(Fault::Hang) => {
            tokio::time::sleep(HANG).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(Fault::Reset) => {
            if let Some(reset) = request.extensions().get::<Reset>() {
                reset.reset();
            }
            // The connection is dropped before this answer could be sent.
            std::future::pending().await
        }
        Some(Fault::Drip(pause)) => drip(next.run(request).await, pause).await,
    }
}

async fn drip(response: Response, pause: Duration) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, MOST_BODY).await.unwrap_or_default();
    let drops = stream::unfold(bytes, move |mut bytes| async move {
        if bytes.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let drop = bytes.split_to(1);
        Some((Ok::<_, std::io::Error>(drop), bytes))
    });
    Response::from_parts(parts, Body::from_stream(drops))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::pin::Pin;

    use axum::body::HttpBody;
    use futures_util::future::{BoxFuture, FutureExt};

    use super::*;
    use crate::DemoTargetOptions;

    /// A target with one worker, on which every request takes minutes.
    fn busy_app() -> App {
        let target = Target::new(DemoTargetOptions { workers: 1, latency_scale: 1e6, seed: 1 }, Default::default());
        App::new(Arc::new(target))
    }

    #[tokio::test]
    async fn a_full_queue_refuses_until_someone_leaves() {
        let app = busy_app();
        let mut held: Vec<BoxFuture<'_, _>> = (0..=QUEUE).map(|_| app.work(Route::Stats).boxed()).collect();
        for request in &mut held {
            assert!(request.now_or_never().is_none(), "one worked on, the others wait");
        }
        let refused = app.work(Route::Stats).now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[RETRY_AFTER], "1");
        // Clients that give up leave the queue, as they do when they time out.
        drop(held);
        assert!(app.work(Route::Stats).now_or_never().is_none(), "refused although the queue is empty");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_drips_byte_by_byte() {
        let mut body = drip(Body::from("slow").into_response(), Duration::from_secs(1)).await.into_body();
        let started = tokio::time::Instant::now();
        let mut drops = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            drops.push((frame.unwrap().into_data().unwrap(), started.elapsed().as_secs()));
        }
        assert_eq!(drops, [("s".into(), 1), ("l".into(), 2), ("o".into(), 3), ("w".into(), 4)]);
    }
}
