//! One user's HTTP: what stands above single requests. Cookies, digest logins, redirects, decoding, and the time limit
//! that holds for all of them together.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use cookie_store::CookieStore;
use groundswell_scenario::http::{Coding, Connections, HttpOptions, HttpVersion, TransportKind};
use groundswell_scenario::{Plan, Share};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, USER_AGENT,
};
use tokio::time::{Instant, Sleep, sleep_until};

use super::decode::decoded;
use super::dial::Dialler;
use super::digest::Session;
use super::direct::Direct;
use super::gate::Gate;
use super::over_reqwest::Reqwest;
use super::redirect::{Allowed, Next};
use super::resolve::Resolver;
use super::target::{Origin, Target};
use super::tls::{Tls, TlsError};
use super::{Extra, Failure, HttpTransport, MAX_KEPT_BODY_BYTES, Progress, Request, Response};
use crate::allow::Kind;
use crate::pace::Pace;

/// Who sends, and where somebody who finds it in a log learns what it is.
const AGENT: HeaderValue = HeaderValue::from_static(concat!(
    "groundswell/",
    env!("CARGO_PKG_VERSION"),
    " (+",
    env!("CARGO_PKG_REPOSITORY"),
    ")"
));
/// Says which run a request is of.
const RUN_HEADER: HeaderName = HeaderName::from_static("groundswell-run");

/// What all workers of an agent share.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(super) plan: Arc<Plan>,
    pub(super) tls: Tls,
    pub(super) resolver: Resolver,
    pub(super) gate: Gate,
    /// Value of the header that says which run a request is of.
    run: Option<HeaderValue>,
}

/// Makes the clients of one worker.
pub(crate) struct Clients {
    setup: Setup,
    shared: Rc<Shared>,
    /// The owner of connections where that is not the user.
    transport: Transport,
    websockets: Dialler,
}

/// What the clients of a worker share.
struct Shared {
    allowed: Allowed,
    resolver: Resolver,
    /// None where a proxy resolves names.
    checks_addresses: bool,
    /// Value of `Accept-Encoding` where the plan wants one.
    codings: Option<HeaderValue>,
    max_body: usize,
}

/// One user.
pub(crate) struct Client {
    deadline: Deadline,
    state: State,
}

struct State {
    shared: Rc<Shared>,
    transport: Transport,
    cookies: Option<Cookies>,
    session: Option<Session>,
}

/// One owner of connections.
#[derive(Clone)]
enum Transport {
    Direct(Rc<Direct>),
    Reqwest(Rc<Reqwest>),
}

impl Setup {
    /// `run` is the run that requests say they are of; none where they are to say nothing.
    pub(crate) fn new(plan: &Arc<Plan>, gate: Gate, run: Option<HeaderValue>) -> Result<Self, TlsError> {
        let (tls, resolver) = (Tls::new(&plan.http.tls)?, Resolver::new(plan.http.network.clone(), gate.clone()));
        Ok(Setup { plan: Arc::clone(plan), tls, resolver, gate, run })
    }

    /// The turns in which operations begin; none for no limit.
    pub(crate) fn pace(&self) -> Option<Arc<Pace>> {
        self.gate.pace()
    }
}

impl Clients {
    /// For a worker with this share of the load, and so of the connections that users may share.
    ///
    /// # Errors
    /// Where the HTTP library refuses the plan's settings.
    pub(crate) fn new(setup: Setup, share: &Share) -> Result<Self, reqwest::Error> {
        let options = &setup.plan.http;
        let transport = match options.transport {
            TransportKind::Direct => Transport::Direct(Direct::new(&setup, share)),
            TransportKind::Reqwest => Transport::Reqwest(Reqwest::new(&setup, 0)?),
        };
        let words: Vec<&str> = options.compression.iter().copied().map(Coding::as_str).collect();
        let most = options.max_body.and_then(|most| usize::try_from(most).ok());
        let shared = Shared {
            allowed: Allowed::new(&setup.plan.target, &options.redirect_hosts),
            resolver: setup.resolver.clone(),
            checks_addresses: options.proxy.is_none(),
            codings: HeaderValue::from_str(&words.join(", ")).ok().filter(|value| !value.is_empty()),
            max_body: most.unwrap_or(MAX_KEPT_BODY_BYTES).min(MAX_KEPT_BODY_BYTES),
        };
        let config = setup.tls.config(HttpVersion::Http1);
        let websockets = Dialler::new(setup.resolver.clone(), setup.gate.clone(), Arc::new(config), options);
        Ok(Clients { transport, shared: Rc::new(shared), websockets, setup })
    }

    fn options(&self) -> &HttpOptions {
        &self.setup.plan.http
    }

    /// The client of a user; `number` tells users apart.
    pub(crate) fn client(&self, number: u64) -> Client {
        let transport = match (&self.transport, self.options().connections) {
            (shared, Connections::Shared { .. } | Connections::PerRequest) => shared.clone(),
            (Transport::Direct(direct), Connections::PerUser) => Transport::Direct(direct.another()),
            (Transport::Reqwest(shared), Connections::PerUser) => {
                // It was built from the same options before, so this can't fail where that did not; should it fail all
                // the same, sharing connections keeps the load up.
                let own = Reqwest::new(&self.setup, number);
                Transport::Reqwest(own.unwrap_or_else(|_| Rc::clone(shared)))
            }
        };
        let cookies = self.options().cookies.then(Cookies::default);
        let state = State { shared: Rc::clone(&self.shared), transport, cookies, session: None };
        Client { deadline: Deadline::default(), state }
    }

    pub(super) fn websockets(&self) -> &Dialler {
        &self.websockets
    }

    /// Adds the headers that say to the target whose load this is. A plan may call itself something else, but not say that
    /// it is another run.
    pub(crate) fn identify(&self, headers: &mut HeaderMap) {
        headers.entry(USER_AGENT).or_insert(AGENT);
        if let Some(run) = &self.setup.run {
            headers.insert(RUN_HEADER, run.clone());
        }
    }

    /// Adds the headers that every request has, where the plan has none of its own for it.
    pub(crate) fn complete(&self, headers: &mut HeaderMap, target: &Target) {
        let options = self.options();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        self.identify(headers);
        if let Some(codings) = &self.shared.codings {
            headers.entry(ACCEPT_ENCODING).or_insert(codings.clone());
        }
        if options.connections == Connections::PerRequest {
            headers.entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
        }
        // reqwest writes it itself.
        if options.transport == TransportKind::Direct {
            headers.entry(HOST).or_insert(target.host.clone());
        }
    }
}

impl Client {
    /// Sends a request, follows where it leads, and reads the last response to its end.
    pub(crate) async fn send(&mut self, request: &Request, progress: &mut Progress) -> Result<Response, Failure> {
        let Client { deadline, state } = self;
        let until = progress.begun.unwrap_or_else(Instant::now) + request.timeout;
        deadline.within(until, state.follow(request, progress)).await.unwrap_or(Err(Failure::Timeout))
    }

    /// Takes a response that nobody reads any more: parts of it serve the next request.
    pub(crate) fn take_back(&self, response: Response) {
        if let Transport::Direct(direct) = &self.state.transport {
            direct.take_back(response);
        }
    }
}

impl State {
    async fn follow(&mut self, first: &Request, progress: &mut Progress) -> Result<Response, Failure> {
        let mut response = self.answered(first, progress).await?;
        let mut followed: Option<Request> = None;
        for hops in 0.. {
            let last = followed.as_ref().unwrap_or(first);
            let Some(next) = self.shared.allowed.next(first, last, &response) else { break };
            if first.max_redirects == 0 {
                break;
            }
            let Next { request, is_guarded } = next?;
            if hops == first.max_redirects {
                return Err(Failure::class("redirect_limit"));
            }
            if is_guarded {
                let checked = self.check_addresses(&request.target.origin).await;
                // The request that was answered has been sent, whatever becomes of the one that it leads to.
                progress.follow_ups += u64::from(matches!(checked, Err(Failure::Unsent(_))));
                checked?;
            }
            progress.follow_ups += 1;
            response = self.answered(&request, progress).await?;
            followed = Some(request);
        }
        if self.shared.codings.is_some() && !response.body.is_empty() {
            // Decoding is no part of the target's time.
            response.body = decoded(&response.headers, response.body, self.shared.max_body)?;
        }
        Ok(response)
    }

    /// A host that only the target named must not be the machine's own surroundings.
    async fn check_addresses(&self, origin: &Origin) -> Result<(), Failure> {
        if !self.shared.checks_addresses {
            return Ok(());
        }
        let resolved = self.shared.resolver.resolve(origin).await?;
        match resolved.addresses.iter().any(|address| Kind::of(address.ip()) == Kind::LinkLocal) {
            true => Err(Failure::class("redirect_refused")),
            false => Ok(()),
        }
    }

    /// One request with its digest login, where it has one.
    async fn answered(&mut self, request: &Request, progress: &mut Progress) -> Result<Response, Failure> {
        let Some(login) = &request.login else { return self.exchange(request, None, progress).await };
        let origin = &request.target.origin;
        let known = self.session.as_mut().filter(|session| session.is_for(origin, login));
        let authorization = known.map(|session| session.authorization(request, login)).transpose()?;
        let response = self.exchange(request, authorization, progress).await?;
        if response.status != 401 {
            return Ok(response);
        }
        let Some(mut session) = Session::asked_for(&response.headers, origin, login) else { return Ok(response) };
        let authorization = session.authorization(request, login)?;
        self.session = Some(session);
        progress.follow_ups += 1;
        self.exchange(request, Some(authorization), progress).await
    }

    async fn exchange(
        &mut self,
        request: &Request,
        authorization: Option<HeaderValue>,
        progress: &mut Progress,
    ) -> Result<Response, Failure> {
        let cookie = match &self.cookies {
            Some(cookies) => cookies.header(request)?,
            None => None,
        };
        let extra = Extra { cookie, authorization };
        let response = match &self.transport {
            Transport::Direct(direct) => direct.exchange(request, extra, progress).await,
            Transport::Reqwest(reqwest) => reqwest.exchange(request, extra, progress).await,
        }?;
        if let Some(cookies) = &mut self.cookies {
            cookies.keep(&response.headers, request);
        }
        Ok(response)
    }
}

/// The cookies of a user.
#[derive(Default)]
struct Cookies {
    store: CookieStore,
    /// Most targets set none, and then nothing is looked for.
    has_some: bool,
}

impl Cookies {
    fn header(&self, request: &Request) -> Result<Option<HeaderValue>, Failure> {
        if !self.has_some || request.headers.contains_key(COOKIE) {
            return Ok(None);
        }
        let pairs = self.store.get_request_values(&request.target.url);
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        match pairs.as_slice() {
            [] => Ok(None),
            pairs => HeaderValue::from_str(&pairs.join("; ")).map(Some).map_err(|_| Failure::class("protocol")),
        }
    }

    fn keep(&mut self, headers: &HeaderMap, request: &Request) {
        for value in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            // A cookie that is malformed or for another host is not kept, as browsers do.
            self.has_some |= self.store.parse(value, &request.target.url).is_ok();
        }
    }
}

/// The time limit of one request after another. Setting a timer costs more than looking at the clock, so it is not set
/// anew for each: it rings at the limit of an earlier request and is set again only then.
#[derive(Default)]
struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// The future's output; none where it took longer.
    async fn within<T>(&mut self, until: Instant, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if sleep.deadline() > until {
                sleep.as_mut().reset(until);
            }
            while sleep.as_mut().poll(context).is_ready() {
                if sleep.deadline() >= until {
                    self.sleep = None;
                    return Poll::Ready(None);
                }
                sleep.as_mut().reset(until);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_holds_for_each_request_of_its_own() {
        let mut deadline = Deadline::default();
        for (limit_ms, takes_ms) in [(100, 50), (100, 99), (10, 20), (1_000, 999), (5, 4), (100, 101), (100, 100_000)] {
            let started = Instant::now();
            let limit = Duration::from_millis(limit_ms);
            let ended = deadline.within(started + limit, sleep(Duration::from_millis(takes_ms))).await;
            assert_eq!(ended.is_some(), takes_ms < limit_ms, "{takes_ms} of {limit_ms}");
            let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            assert!(took <= limit_ms.min(takes_ms) + 1, "{took} {takes_ms} of {limit_ms}");
        }
    }
}
