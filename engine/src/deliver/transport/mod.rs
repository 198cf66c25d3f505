//! Requests over the network: the only place that names the HTTP client.
//!
//! The client as it comes starts a thread for each request, writes header and body apart, follows
//! redirects and keeps three connections. So it gets its own resolver, its own socket, and
//! every setting set. [`HttpTransport`] adds the authentication.

mod address;
mod client;
mod resolver;
mod socket;
#[cfg(test)]
mod tests;
mod timing;
mod tls;

use std::sync::Arc;

pub(crate) use self::address::is_public;
use self::client::{HttpClient, Network, Peer, Post};
use self::timing::Stopwatch;
pub(crate) use self::timing::Times;
pub(crate) use self::tls::{authorities, client_certificate};
use super::auth::{Auth, AuthError, TokenEndpoint};
use super::outcome::{ANSWER_KEPT, Outcome};
use super::redaction::Redaction;
use super::request::{Request, uri};
use super::settings::{AuthSettings, DestinationSettings};
use crate::clock::Clock;

/// Sends one request and waits for its end.
///
/// Called from many threads at once. The simulation's implementation answers from a script.
pub trait Transport: Send + Sync {
    /// Sends `request`; blocks for at most the destination's timeout, and that of a token request.
    fn send(&self, request: &Request) -> Outcome;

    /// Ends the requests that are open, and lets no other start.
    fn abort(&self) {}
}

/// A destination over HTTP.
#[derive(Debug)]
pub struct HttpTransport {
    client: HttpClient,
    auth: Auth,
}

impl HttpTransport {
    /// Checks what can be checked without the network and reads certificates.
    ///
    /// An error says what is wrong with the settings.
    pub fn new(settings: &DestinationSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        Self::over(&Network::real(clock), settings)
    }

    fn over(network: &Network, settings: &DestinationSettings) -> Result<Self, String> {
        let client = HttpClient::new(settings, Peer::Endpoint, network)?;
        Self::with_client(client, settings, network)
    }

    /// Sends `request` over a connection of its own, and tells all that can be told of the exchange.
    pub(crate) fn try_out(
        settings: &DestinationSettings,
        request: &Request,
        clock: &Arc<dyn Clock>,
    ) -> Result<Exchange, String> {
        let watch = Arc::new(Stopwatch::new(Arc::clone(clock)));
        let network = Network::real(Arc::clone(clock));
        let client = HttpClient::watched(settings, &network, &watch)?;
        let transport = Self::with_client(client, settings, &network)?;
        let authorization = watch.time(|times| &mut times.token, || transport.auth.authorization());
        let authorization = match authorization {
            Ok(authorization) => authorization.map(|authorization| authorization.value),
            Err(AuthError(error)) => {
                let outcome = Outcome::Connect(error);
                let (headers, times) = (http::HeaderMap::new(), watch.times());
                return Ok(Exchange { authorization: None, outcome, headers, times });
            }
        };
        let post = Post {
            uri: &request.uri,
            headers: &request.headers,
            authorization: authorization.as_ref(),
            body: &request.body,
        };
        let (mut outcome, headers) =
            watch.time(|times| &mut times.exchange, || transport.client.post_once(post));
        keep(&mut outcome, post);
        Ok(Exchange { authorization, outcome, headers, times: watch.times() })
    }

    fn with_client(
        client: HttpClient,
        settings: &DestinationSettings,
        network: &Network,
    ) -> Result<Self, String> {
        let endpoint = match &settings.auth {
            AuthSettings::None | AuthSettings::Bearer { .. } => None,
            AuthSettings::ClientCredentials { client, .. }
            | AuthSettings::Password { client, .. } => {
                let peer = Peer::TokenEndpoint(&client.token_url);
                let http = HttpClient::new(settings, peer, network)?;
                Some(HttpTokenEndpoint { client: http, uri: uri(&client.token_url)? })
            }
        };
        let endpoint = endpoint.map(|endpoint| Arc::new(endpoint) as Arc<dyn TokenEndpoint>);
        let auth = Auth::new(&settings.auth, endpoint, Arc::clone(&network.clock))?;
        Ok(Self { client, auth })
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: &Request) -> Outcome {
        let authorization = match self.auth.authorization() {
            Ok(authorization) => authorization,
            Err(AuthError(error)) => return Outcome::Connect(error),
        };
        let post = Post {
            uri: &request.uri,
            headers: &request.headers,
            authorization: authorization.as_ref().map(|authorization| &authorization.value),
            body: &request.body,
        };
        let mut outcome = self.client.post(post);
        if let (Outcome::Status { code: 401, .. }, Some(authorization)) = (&outcome, &authorization)
        {
            self.auth.refused(authorization);
        }
        keep(&mut outcome, post);
        outcome
    }

    fn abort(&self) {
        self.client.abort();
        self.auth.abort();
    }
}

/// Leaves of an answer what is kept of it, without what was secret in the request.
fn keep(outcome: &mut Outcome, post: Post<'_>) {
    match outcome {
        // Nobody stores this one.
        Outcome::Status { code: 200..=299, answer, .. } => answer.truncate(ANSWER_KEPT),
        Outcome::Status { answer, .. } => {
            *answer = Redaction::new(post.headers, post.authorization).kept(answer, ANSWER_KEPT);
        }
        Outcome::Timeout | Outcome::Connect(_) | Outcome::Refused(_) => {}
    }
}

/// All of one exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What authorized it; marked sensitive.
    pub(crate) authorization: Option<http::HeaderValue>,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// The answer's headers; none without an answer.
    pub(crate) headers: http::HeaderMap,
    /// How long its parts took.
    pub(crate) times: Times,
}

#[derive(Debug)]
struct HttpTokenEndpoint {
    client: HttpClient,
    uri: http::Uri,
}

impl TokenEndpoint for HttpTokenEndpoint {
    fn post(&self, headers: http::HeaderMap, form: &str) -> Outcome {
        let post =
            Post { uri: &self.uri, headers: &headers, authorization: None, body: form.as_bytes() };
        self.client.post(post)
    }

    fn abort(&self) {
        self.client.abort();
    }
}
